/** What can be taken home: masks in a ZIP, annotations and a film, named and sized like the files. */

import { encodeRle, within } from "./tamvt.js";
import { palettePng, zip } from "./archives.js";
import { BROWSER_S, pause } from "./video.js";

const MASKS_IN_ZIP = 5000;
const BYTES_IN_ZIP = 200_000_000;
const ENDINGS = { "application/json": "json", "application/xml": "xml", "text/plain": "txt", "application/zip": "zip" };

export function saveBlob(blob, name) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
}

export const stem = (name) => name.replace(/\.\w+$/, "");

/** The name of the picture at frame n of the source: the file's own, or the frame's number. */
function pictureName({ files, kind }, n) {
  return kind === "images" ? files[n].name : `${String(n).padStart(5, "0")}.jpg`;
}

/** A PNG's name for each picture; `a.jpg` and `a.png` in one folder keep their endings. */
export function maskNames(names) {
  const count = new Map();
  for (const name of names) count.set(stem(name), (count.get(stem(name)) ?? 0) + 1);
  return names.map((name) => `${count.get(stem(name)) > 1 ? name : stem(name)}.png`);
}

/** A label map in another size: a pixel goes to the id that has the most of it (bilinear). */
export function resized(labels, [height, width], [newHeight, newWidth]) {
  if (height === newHeight && width === newWidth) return labels;
  const [rows, columns] = [neighbors(newHeight, height), neighbors(newWidth, width)];
  const larger = new Uint8Array(newHeight * newWidth);
  for (let row = 0, at = 0; row < newHeight; row++) {
    const [top, bottom, down] = [rows.before[row] * width, rows.after[row] * width, rows.share[row]];
    for (let column = 0; column < newWidth; column++, at++) {
      const [left, right] = [columns.before[column], columns.after[column]];
      const a = labels[top + left];
      const [b, c, d] = [labels[top + right], labels[bottom + left], labels[bottom + right]];
      larger[at] = a === b && a === c && a === d ? a : strongest([a, b, c, d], down, columns.share[column]);
    }
  }
  return larger;
}

/** For each of `count` pixels the two of `from` that it lies between, and how near it is to the second. */
function neighbors(count, from) {
  const at = Float32Array.from({ length: count }, (_, k) => Math.min(Math.max(((k + 0.5) * from) / count - 0.5, 0), from - 1));
  const before = Int32Array.from(at, Math.floor);
  return { before, after: before.map((place) => Math.min(place + 1, from - 1)), share: at.map((place, k) => place - before[k]) };
}

function strongest(ids, down, along) {
  const weights = [(1 - down) * (1 - along), (1 - down) * along, down * (1 - along), down * along];
  const votes = ids.map((id) => weights.reduce((sum, weight, k) => sum + (ids[k] === id ? weight : 0), 0));
  return ids[votes.indexOf(Math.max(...votes))];
}

/** What is saved of every frame: `{frame, n, size, labels}`, n as the source counts. */
async function* savedFrames({ results, source, start }, onProgress) {
  const frames = [...results.frames.keys()].sort((a, b) => a - b);
  const [first] = frames; // below 0 where the video was tracked backward too
  for (const frame of frames) {
    const n = start + frame;
    const size = await source.fullSize(n);
    yield { frame: frame - first, n, size, labels: resized(results.labels(frame, source.size), source.size, size) };
    onProgress?.((frame - first + 1) / frames.length);
    if (frame % 10 === 9) await pause(0); // the page stays alive
  }
}

/** The name of the PNG of each frame n of the source that has masks. */
function mapNames({ results, source, start }) {
  const numbers = [...results.frames.keys()].map((frame) => start + frame);
  return new Map(maskNames(numbers.map((n) => pictureName(source, n))).map((name, place) => [numbers[place], name]));
}

/** Palette PNGs in ZIPs of at most 5,000. */
export async function saveMasks(bench, { onProgress } = {}) {
  const { source } = bench;
  const names = mapNames(bench);
  let [files, part] = [[], 1];
  const write = () => saveBlob(zip(files.splice(0)), `${stem(source.name)}-masks${part++ > 1 ? `-${part - 1}` : ""}.zip`);
  for await (const { n, size, labels } of savedFrames(bench, onProgress)) {
    files.push([names.get(n), await palettePng(labels, size)]);
    if (files.length === MASKS_IN_ZIP) write();
  }
  if (files.length) write();
}

export async function saveCoco(bench, options) {
  const text = JSON.stringify(await cocoJson(bench, options));
  saveBlob(new Blob([text], { type: "application/json" }), `${stem(bench.source.name)}-coco.json`);
}

/**
 * The masks in another tool's files. The service writes them of the COCO file, which has the names
 * and sizes that it never sees: one writer of each format serves the page and the command line.
 */
export async function saveAs(bench, { format, onProgress }) {
  if (format === "cutouts") return saveCutouts(bench, { onProgress });
  const body = JSON.stringify(await cocoJson(bench, { onProgress }));
  const headers = { "Content-Type": "application/json" };
  const answer = await bench.client.call(`v1/masks/convert?format=${format}`, { method: "POST", headers, body });
  const suffix = ENDINGS[answer.headers.get("Content-Type").split(";")[0]];
  saveBlob(await answer.blob(), `${stem(bench.source.name)}-${format}.${suffix}`);
}

/** The objects alone, in their own colors on nothing: PNGs with alpha in ZIPs. */
async function saveCutouts(bench, { onProgress }) {
  const { source } = bench;
  const names = mapNames(bench);
  let [files, part, bytes] = [[], 1, 0];
  const write = () => saveBlob(zip(files.splice(0)), `${stem(source.name)}-cutouts${part++ > 1 ? `-${part - 1}` : ""}.zip`);
  for await (const { n, size, labels } of savedFrames(bench, onProgress)) {
    const [height, width] = size;
    const canvas = new OffscreenCanvas(width, height);
    const context = canvas.getContext("2d");
    const picture = await source.picture(n);
    context.drawImage(picture, 0, 0, width, height);
    picture.close?.();
    const pixels = context.getImageData(0, 0, width, height);
    for (let at = 0; at < labels.length; at++) if (!labels[at]) pixels.data.fill(0, 4 * at, 4 * at + 4);
    context.putImageData(pixels, 0, 0);
    const blob = await within(BROWSER_S, "Writing a cut-out", canvas.convertToBlob({ type: "image/png" }));
    files.push([names.get(n), new Uint8Array(await within(BROWSER_S, "Reading a cut-out", blob.arrayBuffer()))]);
    bytes += blob.size;
    if (bytes > BYTES_IN_ZIP) [bytes] = [0, write()];
  }
  if (files.length) write();
}

/** COCO's JSON: an image per frame, an annotation per object in it, a category per object. */
export async function cocoJson(bench, { onProgress } = {}) {
  const { names, results, source, start } = bench;
  const [images, annotations] = [[], []];
  for await (const { frame, n, size, labels } of savedFrames(bench, onProgress)) {
    const [height, width] = size;
    const timestamp = source.times?.[n];
    images.push({ id: frame, width, height, file_name: pictureName(source, n), video_frame: n, timestamp });
    for (const { id, confidence, state } of results.frames.get(n - start)) {
      const { area, bbox } = extent(labels, size, id);
      if (!area) continue;
      annotations.push({
        id: annotations.length + 1, image_id: frame, category_id: id, track_id: id,
        segmentation: encodeRle(labels, size, id), area, bbox, iscrowd: 0, score: confidence, state,
      });
    }
  }
  const categories = [...names].map(([id, name]) => ({ id, name: name || `Object ${id}` }));
  const info = { description: stem(source.name), fps: source.rate, frames: Math.max(source.count, start + results.frames.size) };
  return { info, images, annotations, categories };
}

/** How many pixels an object has, and the box [x, y, width, height] around them. */
function extent(labels, [height, width], id) {
  let [area, left, right, top, bottom] = [0, width, 0, height, 0];
  for (let at = labels.indexOf(id); at >= 0; at = labels.indexOf(id, at + 1)) {
    const [row, column] = [Math.floor(at / width), at % width];
    area++;
    [left, right, top, bottom] = [Math.min(left, column), Math.max(right, column), Math.min(top, row), Math.max(bottom, row)];
  }
  return { area, bbox: area ? [left, top, right - left + 1, bottom - top + 1] : [0, 0, 0, 0] };
}
