/** The page's controls: what they show. Nothing here knows of sessions. */

import { milliseconds } from "./figures.js";

export const $ = (id) => document.getElementById(id);

/** One line below the video; `wrong` for what went wrong. */
export function say(text, { wrong = false } = {}) {
  $("status").textContent = text;
  $("status").toggleAttribute("data-wrong", wrong);
}

export function showKind(kind) {
  for (const button of $("kinds").children) button.setAttribute("aria-pressed", button.value === kind);
}

export function showPrimary({ label, enabled }) {
  $("primary").textContent = label;
  $("primary").disabled = !enabled;
}

export function showTransport({ shown, count, playing, enabled }) {
  const total = Math.max(1, count);
  Object.assign($("seek"), { max: String(total - 1), value: String(shown), disabled: !enabled });
  $("seek").setAttribute("aria-valuetext", `Frame ${shown + 1} of ${total}`);
  $("counter").textContent = `${shown + 1} / ${total}`;
  $("play").disabled = !enabled;
  $("play").toggleAttribute("data-playing", playing);
  $("play").setAttribute("aria-label", playing ? "Pause" : "Play");
}

export function showFigures(figures, tracked) {
  $("measured").hidden = !tracked;
  $("fps").textContent = Number.isFinite(figures.rate) ? figures.rate.toFixed(1) : "–";
  $("tracked").textContent = tracked || "–";
  $("dropped").textContent = tracked ? figures.dropped : "–";
  $("p50").textContent = milliseconds(figures.latency(0.5));
  $("p95").textContent = milliseconds(figures.latency(0.95));
  $("inference").textContent = milliseconds(figures.inference);
}

/** Buttons that lead to the frames worth looking at: `[{frame, label}]`. */
export function showSpots(spots, onGo) {
  $("spots").replaceChildren(...spots.map(({ frame, label }) => {
    const button = element("button", { type: "button", textContent: label });
    button.addEventListener("click", () => onGo(frame));
    const item = document.createElement("li");
    item.append(button);
    return item;
  }));
}

/** The list of objects: choose, color, name, hide, lock and remove one. */
export class ObjectList {
  #rows = new Map();

  constructor(list, hears) {
    Object.assign(this, { list, ...hears });
  }

  /** `objects` is `[{id, name, color, state, hidden, locked}]`. Rows are kept, so that typing goes on. */
  show(objects, { chosen, locked }) {
    for (const [id, row] of this.#rows) {
      if (objects.some((object) => object.id === id)) continue;
      row.remove();
      this.#rows.delete(id);
    }
    objects.forEach((object, place) => {
      const row = this.#rows.get(object.id) ?? this.#add(object);
      if (this.list.children[place] !== row) this.list.insertBefore(row, this.list.children[place]);
      this.#fill(row, object, chosen);
      row.querySelector(".remove").disabled = locked;
    });
  }

  #fill(row, { id, name, color, state, hidden, locked }, chosen) {
    const part = (selector) => row.querySelector(selector);
    row.toggleAttribute("data-chosen", id === chosen);
    part("[type=radio]").checked = id === chosen;
    part("[type=radio]").setAttribute("aria-label", `Draw ${name}`);
    part("[type=color]").value = color;
    part("[type=color]").setAttribute("aria-label", `Color of ${name}`);
    part(".state").textContent = state;
    for (const [kind, pressed, label] of [["hide", hidden, `Hide ${name}`], ["lock", locked, `Lock ${name}`]]) {
      part(`.${kind}`).setAttribute("aria-pressed", pressed);
      part(`.${kind}`).setAttribute("aria-label", label);
    }
    part(".remove").setAttribute("aria-label", `Remove ${name}`);
    const input = part("[type=text]");
    if (document.activeElement !== input) input.value = name;
  }

  #add({ id }) {
    const row = document.createElement("li");
    const choose = element("input", { type: "radio", name: "object", value: String(id) });
    const color = element("input", { type: "color" });
    const name = element("input", { type: "text", maxLength: 100, ariaLabel: `Name of object ${id}` });
    const button = (className, title, icon) => {
      const made = element("button", { type: "button", className: `small ${className}`, title });
      made.append(document.getElementById(icon).content.cloneNode(true));
      return made;
    };
    const [hide, lock, remove] = [button("hide", "Hide", "icon-eye"), button("lock", "Lock: other objects leave its pixels alone", "icon-lock"), button("remove", "Remove", "icon-remove")];
    row.append(choose, color, name, element("span", { className: "state" }), hide, lock, remove);
    choose.addEventListener("change", () => this.onChoose(id));
    name.addEventListener("focus", () => this.onChoose(id));
    name.addEventListener("change", () => this.onName(id, name.value.trim()));
    color.addEventListener("input", () => this.onColor(id, color.value));
    hide.addEventListener("click", () => this.onHide(id));
    lock.addEventListener("click", () => this.onLock(id));
    remove.addEventListener("click", () => this.onRemove(id));
    this.#rows.set(id, row);
    return row;
  }
}

function element(tag, properties) {
  return Object.assign(document.createElement(tag), properties);
}
