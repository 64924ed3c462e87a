/** Masks over a picture: bright colors, smooth outlines, and what becomes of the background. */

import { outlines } from "./contours.js";

/** [red, green, blue] of an object id in the colors of DAVIS, as in the service's PNGs. */
export function davisColor(id) {
  if (id > 21) return [id, id, id];
  const channel = (bits) => [0, 1, 2].reduce((sum, k) => sum | (((bits >> (3 * k)) & 1) << (7 - k)), 0);
  return [channel(id), channel(id >> 1), channel(id >> 2)];
}

// Bright and far apart, so that they show on any picture and are told from each other.
const BRIGHT = ["#35c8ff", "#ffb224", "#ff5c93", "#86ea4e", "#b18cff", "#19dfb5", "#ff7d45", "#ffe54d", "#6aa2ff", "#ff6df0"];

/** The color of an object on the page, as #rrggbb. */
export function brightColor(id) {
  if (id <= BRIGHT.length) return BRIGHT[id - 1];
  const hue = (id * 137.5) % 360;
  const channel = (k) => {
    const place = (k + hue / 30) % 12;
    return Math.round(255 * (0.65 - 0.35 * Math.max(-1, Math.min(place - 3, 9 - place, 1)))).toString(16).padStart(2, "0");
  };
  return `#${channel(0)}${channel(8)}${channel(4)}`;
}

/** What the background becomes, as a canvas filter; an empty one leaves it, null takes it away. */
export const EFFECTS = {
  none: "", dim: "brightness(0.4)", blur: "blur(9px)", gray: "grayscale(1) brightness(0.85)", cutout: null,
};
const CUTOUT_GROUND = "#15191a";
const LINE_PX = 2;

/**
 * Paints the masks of a label map on a context whose unit is the picture's pixel, `dot` of which is
 * one of the screen. `look` says how: `opacity` 0..1, `effect`, `colorOf(id)`, `isHidden(id)`.
 */
export function paintMasks(context, labels, size, { picture, look, dot = 1, ground = CUTOUT_GROUND }) {
  const [height, width] = size;
  const shown = [...outlines(labels, size)].filter(([id]) => !look.isHidden(id));
  const filter = EFFECTS[look.effect];
  if (filter !== "" && shown.length) {
    const around = new Path2D();
    around.rect(0, 0, width, height);
    for (const [, path] of shown) around.addPath(path);
    context.save();
    context.clip(around, "evenodd");
    if (filter === null && ground) { context.fillStyle = ground; context.fillRect(0, 0, width, height); }
    else if (filter === null) context.clearRect(0, 0, width, height);
    else if (picture) { context.filter = filter; context.drawImage(picture, 0, 0, width, height); }
    context.restore();
  }
  for (const [id, path] of shown) {
    context.fillStyle = context.strokeStyle = look.colorOf(id);
    context.globalAlpha = look.opacity;
    context.fill(path, "evenodd");
    context.globalAlpha = Math.min(1, look.opacity * 2.4);
    context.lineWidth = LINE_PX * dot;
    context.lineJoin = "round";
    context.stroke(path);
  }
  context.globalAlpha = 1;
}
