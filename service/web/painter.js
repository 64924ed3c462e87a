/** Label maps as colors over a picture. */

/** [red, green, blue] of an object id in the colors of DAVIS, as in the service's PNGs. */
export function davisColor(id) {
  if (id > 21) return [id, id, id];
  const channel = (bits) => [0, 1, 2].reduce((sum, k) => sum | (((bits >> (3 * k)) & 1) << (7 - k)), 0);
  return [channel(id), channel(id >> 1), channel(id >> 2)];
}

export function cssColor(id) {
  return `rgb(${davisColor(id).join(" ")})`;
}

// DAVIS begins with dark colors: the outline is the same one, lighter, and shows on anything.
function lighter(color) {
  return color.map((value) => Math.round(value + (255 - value) * 0.5));
}

// One pixel of ImageData; all machines that run browsers are little-endian.
function rgba([red, green, blue], alpha) {
  return ((Math.round(alpha * 255) << 24) | (blue << 16) | (green << 8) | red) >>> 0;
}

/** Paints a label map (Uint8Array of ids, row by row) on a canvas of the same size. */
export class Painter {
  #context; #image; #pixels; #fills = new Uint32Array(256); #edges = new Uint32Array(256);

  constructor(canvas) {
    this.canvas = canvas;
    this.#context = canvas.getContext("2d");
    this.opacity = 0.55;
  }

  set opacity(share) {
    for (let id = 1; id < 255; id++) {
      this.#fills[id] = rgba(davisColor(id), share);
      this.#edges[id] = rgba(lighter(davisColor(id)), Math.min(1, share * 1.8));
    }
  }

  resize([height, width]) {
    Object.assign(this.canvas, { height, width });
    this.#image = new ImageData(width, height);
    this.#pixels = new Uint32Array(this.#image.data.buffer);
  }

  clear() {
    this.#context.clearRect(0, 0, this.canvas.width, this.canvas.height);
  }

  paint(labels) {
    const { width } = this.canvas;
    const last = labels.length - width;
    const pixels = this.#pixels;
    for (let at = 0; at < labels.length; at++) {
      const id = labels[at];
      if (id === 0) { pixels[at] = 0; continue; }
      const inner = labels[at - 1] === id && labels[at + 1] === id
        && (at < width || labels[at - width] === id) && (at >= last || labels[at + width] === id);
      pixels[at] = inner ? this.#fills[id] : this.#edges[id];
    }
    this.#context.putImageData(this.#image, 0, 0);
  }
}
