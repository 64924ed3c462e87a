/** A label map that a person draws: strokes, polygons, outlines, and the way back and forth. */

import { encodeRle, fillRle } from "./tamvt.js";

const STEPS_BACK = 20;

export class Drawing {
  #before = []; #after = []; #given;
  /** What an object was pointed at with: `{id, points, label}` in the order in which it was. */
  touches = [];

  /** Begins with `labels` (Uint8Array, row by row), or with nothing; `isLocked(id)` keeps its pixels. */
  constructor(size, labels, { isLocked = () => false } = {}) {
    this.size = size;
    this.isLocked = isLocked;
    this.labels = labels?.slice() ?? new Uint8Array(size[0] * size[1]);
    this.#given = this.labels.slice();
  }

  get changed() {
    return this.#before.length > 0;
  }

  get hasUndone() {
    return this.#after.length > 0;
  }

  /** Remembers what is there, so that `undo` comes back to it. */
  mark() {
    this.#before.push(this.#state());
    this.#after = [];
    if (this.#before.length > STEPS_BACK) this.#before.splice(1, 1);
  }

  undo() {
    this.#go(this.#before, this.#after);
  }

  redo() {
    this.#go(this.#after, this.#before);
  }

  #state() {
    return { labels: this.labels.slice(), touches: this.touches };
  }

  #go(from, to) {
    const there = from.pop();
    if (!there) return;
    to.push(this.#state());
    Object.assign(this, there);
  }

  #fill(id, first, end) {
    for (let at = first; at < end; at++) if (!this.isLocked(this.labels[at])) this.labels[at] = id;
  }

  /** A round brush from one point to another, [x, y] in pixels; id 0 erases. */
  stroke(from, to, radius, id) {
    const steps = Math.max(1, Math.ceil(Math.hypot(to[0] - from[0], to[1] - from[1]) / Math.max(1, radius / 3)));
    for (let step = 0; step <= steps; step++) {
      this.#disc(from[0] + ((to[0] - from[0]) * step) / steps, from[1] + ((to[1] - from[1]) * step) / steps, radius, id);
    }
  }

  #disc(x, y, radius, id) {
    const [height, width] = this.size;
    for (let row = Math.max(0, Math.ceil(y - radius)); row <= Math.min(height - 1, y + radius); row++) {
      const half = Math.sqrt(radius ** 2 - (row - y) ** 2);
      const first = Math.max(0, Math.ceil(x - half));
      const end = Math.min(width - 1, Math.floor(x + half)) + 1;
      this.#fill(id, row * width + first, row * width + end);
    }
  }

  /** Fills a polygon of [x, y] points: even-odd, by the centers of pixels. */
  polygon(points, id) {
    const [height, width] = this.size;
    for (let row = 0; row < height; row++) {
      const crossings = [];
      points.forEach(([x, y], index) => {
        const [nextX, nextY] = points[(index + 1) % points.length];
        if (y <= row !== nextY <= row) crossings.push(x + ((row - y) / (nextY - y)) * (nextX - x));
      });
      crossings.sort((a, b) => a - b);
      for (let at = 0; at + 1 < crossings.length; at += 2) {
        const first = Math.max(0, Math.ceil(crossings[at]));
        const end = Math.min(width, Math.floor(crossings[at + 1]) + 1);
        this.#fill(id, row * width + first, row * width + end);
      }
    }
  }

  /** Makes the RLE's mask all there is of an object. */
  replace(rle, id) {
    const kept = this.labels.slice();
    this.erase(id);
    fillRle(this.labels, rle, id);
    kept.forEach((value, at) => { if (value && value !== id && this.isLocked(value)) this.labels[at] = value; });
  }

  erase(id) {
    this.labels.forEach((value, at) => { if (value === id) this.labels[at] = 0; });
  }

  /** Ids with at least one pixel. */
  ids() {
    const seen = new Uint8Array(256);
    for (const id of this.labels) seen[id] = 1;
    return [...seen.keys()].filter((id) => id > 0 && seen[id]);
  }

  /** Ids whose pixels are others than at the beginning, and are not all gone. */
  changedIds() {
    const seen = new Uint8Array(256);
    this.labels.forEach((id, at) => {
      if (id !== this.#given[at]) seen[id] = seen[this.#given[at]] = 1;
    });
    return this.ids().filter((id) => seen[id]);
  }

  /** The RLE of an object, null of one without a pixel. */
  rle(id) {
    return this.labels.includes(id) ? encodeRle(this.labels, this.size, id) : null;
  }

  /** Objects as the service takes them. */
  objects(ids, names) {
    return ids.map((id) => ({
      id,
      ...(names.get(id) ? { label: names.get(id) } : {}),
      rle: encodeRle(this.labels, this.size, id),
    }));
  }
}
