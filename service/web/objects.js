/** The objects of a person: their names and colors, which one is drawn, hidden or locked. */

import { brightColor } from "./painter.js";

export class Objects {
  chosen = 1; #colors = new Map(); #hidden = new Set(); #locked = new Set();

  constructor(names = new Map([[1, ""]])) {
    this.names = names;
    this.chosen = names.keys().next().value;
  }

  nameOf(id) {
    return this.names.get(id) || `Object ${id}`;
  }

  colorOf(id) {
    return this.#colors.get(id) ?? brightColor(id);
  }

  isHidden(id) {
    return this.#hidden.has(id);
  }

  isLocked(id) {
    return this.#locked.has(id);
  }

  recolor(id, color) {
    this.#colors.set(id, color);
  }

  hide(id) {
    if (!this.#hidden.delete(id)) this.#hidden.add(id);
  }

  lock(id) {
    if (!this.#locked.delete(id)) this.#locked.add(id);
  }

  /** A new object, which is drawn next; `isTaken(id)` tells of numbers that are not free. */
  add(isTaken) {
    const free = Array.from({ length: 254 }, (_, k) => k + 1).find((id) => !this.names.has(id) && !isTaken(id));
    this.names.set(free, "");
    this.chosen = free;
  }

  remove(id) {
    this.names.delete(id);
    if (!this.names.size) this.names.set(1, "");
    if (this.chosen === id) this.chosen = this.names.keys().next().value;
  }

  /** What is listed, in the order of the ids; `stateOf(id)` says how each is in the frame shown. */
  list(stateOf) {
    return [...this.names.keys()].sort((a, b) => a - b).map((id) => ({
      id, name: this.nameOf(id), color: this.colorOf(id), hidden: this.isHidden(id), locked: this.isLocked(id), state: stateOf(id),
    }));
  }
}
