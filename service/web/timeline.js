/** When each object is visible, lost or given by hand: one row per object; a bar is as high as its confidence. */

import { countStates } from "./results.js";

const ROW = 14;
const BAR = 10;

export function describe(masks, objects) {
  if (!masks.size) return "Nothing is tracked yet";
  const parts = objects.map(({ id, name }) => {
    const { visible, lost, human } = countStates(masks, id);
    return `${name}: visible in ${visible + human} frames, lost in ${lost}, drawn in ${human}`;
  });
  return parts.join(". ");
}

export class Timeline {
  #drawn = "";

  constructor(canvas) {
    this.canvas = canvas;
    this.context = canvas.getContext("2d");
  }

  /**
   * `masks` maps frames, counted from the video's `start`, to objects.
   * Drawn again only where something is new: `revision` counts the changes of `masks`.
   */
  show(masks, objects, { start, count, revision }) {
    const names = objects.map(({ id, name, color }) => [id, name, color]);
    const key = JSON.stringify([revision, names, start, count, innerWidth]);
    if (key === this.#drawn) return;
    this.#drawn = key;
    const dots = globalThis.devicePixelRatio || 1;
    const height = masks.size ? objects.length * ROW : 0;
    this.canvas.style.height = `${height}px`;
    this.canvas.width = this.canvas.clientWidth * dots;
    this.canvas.height = height * dots;
    this.canvas.setAttribute("aria-label", describe(masks, objects));
    if (!height) return;
    const step = this.canvas.width / Math.max(1, count - 1);
    const rows = new Map(objects.map(({ id, color }, row) => [id, { y: (row * ROW + (ROW - BAR) / 2) * dots, color }]));
    for (const [frame, found] of masks) {
      const x = Math.max(0, Math.round((start + frame - 0.5) * step));
      const end = Math.max(x + 1, Math.round((start + frame + 0.5) * step));
      for (const object of found) {
        const row = rows.get(object.id);
        if (row) this.#bar(object, x, row, end - x, dots);
      }
    }
  }

  #bar({ state, confidence = 1 }, x, { y, color }, width, dots) {
    if (state === "dropped") return;
    const lost = state === "lost";
    this.context.fillStyle = lost ? "rgb(127 127 127 / 0.55)" : color;
    const thin = lost ? 2 : 3 + (BAR - 3) * confidence;
    this.context.fillRect(x, y + ((BAR - thin) / 2) * dots, width, thin * dots);
    if (state !== "human") return;
    // A tall notch says: here a person drew.
    this.context.fillRect(x + width / 2 - dots, y - 2 * dots, 2 * dots, (BAR + 4) * dots);
  }
}
