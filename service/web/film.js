/** The video to take home: with its masks over it as on the page, or the objects alone on nothing. */

import { outlines } from "./contours.js";
import { saveBlob, stem } from "./downloads.js";
import { encodeFilm } from "./film_encoder.js";
import { recordFilm } from "./film_recorder.js";
import { paintMasks } from "./painter.js";

const BEYOND_PX = 8; // how far the picture goes on under the edge of what is transparent

/**
 * The tracked frames of a bench: which, how large, how they are drawn. `draw(context, n, picture)`
 * draws one on an opaque canvas; of objects alone `matte` draws where they are, and `cut` does both.
 */
export class Film {
  constructor(bench, { first, last, size, alpha }) {
    Object.assign(this, { bench, source: bench.source, look: bench.look, first, last, alpha });
    [this.height, this.width] = size;
    this.draw = alpha ? this.#drawBeyond : this.#drawOver;
  }

  /** When frame n is shown, in seconds; one after the last is when that ends. */
  timeOf(n) {
    const { source, last } = this;
    const time = (k) => source.times?.[k] ?? k / source.rate;
    return (n > last ? time(last) + 1 / source.rate : time(n)) - time(this.first);
  }

  /** A canvas of the film's size, whose unit is a pixel of the masks. */
  canvas({ alpha }) {
    const canvas = Object.assign(document.createElement("canvas"), { height: this.height, width: this.width });
    const context = canvas.getContext("2d", { alpha });
    const [height, width] = this.source.size;
    context.setTransform(this.width / width, 0, 0, this.height / height, 0, 0);
    return context;
  }

  get #dot() {
    return this.source.size[1] / this.width;
  }

  #fill(context, picture) {
    const [height, width] = this.source.size;
    if (picture) context.drawImage(picture, 0, 0, width, height);
    else context.fillRect(0, 0, width, height);
  }

  #drawOver(context, n, picture) {
    const labels = this.bench.labelsAt(n);
    this.#fill(context, picture);
    if (labels?.some(Boolean)) paintMasks(context, labels, this.source.size, { picture, look: this.look, dot: this.#dot });
  }

  /** Where the objects are, white on black. */
  matte(context, n) {
    context.fillStyle = "#000";
    this.#fill(context);
    this.#shapes(context, n);
  }

  /** The objects on nothing. */
  cut(context, n, picture, { beyond = 0 } = {}) {
    context.clearRect(0, 0, this.width, this.height);
    this.#shapes(context, n, beyond);
    context.globalCompositeOperation = "source-in";
    this.#fill(context, picture);
    context.globalCompositeOperation = "source-over";
  }

  /** The objects on black, with a margin: what a codec blurs at an edge is of the object's colors. */
  #drawBeyond(context, n, picture) {
    this.cut(context, n, picture, { beyond: BEYOND_PX });
    context.globalCompositeOperation = "destination-over";
    context.fillStyle = "#000";
    this.#fill(context);
    context.globalCompositeOperation = "source-over";
  }

  #shapes(context, n, beyond = 0) {
    const labels = this.bench.labelsAt(n);
    if (!labels) return;
    Object.assign(context, { fillStyle: "#fff", strokeStyle: "#fff", lineWidth: 2 * beyond * this.#dot, lineJoin: "round" });
    for (const [id, path] of outlines(labels, this.source.size)) {
      if (this.look.isHidden(id)) continue;
      context.fill(path, "evenodd");
      if (beyond) context.stroke(path);
    }
  }
}

/** Saves the tracked frames as a video; `alpha` leaves all but the objects transparent. */
export async function saveFilm(bench, { alpha = false, onProgress }) {
  const { results, source, start } = bench;
  const numbers = [...results.frames.keys()].map((frame) => start + frame).sort((a, b) => a - b);
  const [first, last] = [numbers[0], numbers.at(-1)];
  const film = new Film(bench, { first, last, size: await source.fullSize(first), alpha });
  const blob = (await encodeFilm(film, onProgress)) ?? (await recordFilm(film, onProgress));
  const ending = blob.type.includes("mp4") ? "mp4" : "webm";
  saveBlob(blob, `${stem(source.name)}-${alpha ? "cutout" : "overlay"}.${ending}`);
}
