/** What can be taken home: palette PNGs from the service; COCO JSON and a film made here. */

import { Painter } from "./painter.js";
import { pause, playPictures } from "./sources.js";

const LAST_PICTURE_MS = 300; // the encoder runs behind
const DRAWN_MS = 1000; // a page that nobody sees is not drawn

function save(blob, name) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
}

function nameOf({ source }) {
  return source.name.replace(/\.\w+$/, "");
}

/** The service's ZIPs, 500 masks in each. */
export async function saveMasks(bench) {
  let part = 0;
  for await (const zip of bench.session.zips()) save(await zip, `${nameOf(bench)}-masks${part++ ? `-${part}` : ""}.zip`);
}

export function saveCoco(bench) {
  const { masks, names, start, source: { size } } = bench;
  const text = JSON.stringify(cocoJson(masks, { names, size, start }));
  save(new Blob([text], { type: "application/json" }), `${nameOf(bench)}-coco.json`);
}

export async function saveFilm(bench, { opacity, onProgress }) {
  const { source, start, newest } = bench;
  const labelsAt = (n) => bench.labelsAt(n);
  const { blob, suffix } = await recordFilm(source, { from: start, count: newest + 1, labelsAt, opacity, onProgress });
  save(blob, `${nameOf(bench)}-overlay.${suffix}`);
}

/** COCO's JSON: an image per frame, an annotation per object in it, a category per object. */
export function cocoJson(masks, { names, size: [height, width], start }) {
  const images = [];
  const annotations = [];
  for (const [frame, objects] of masks) {
    const file = `${String(frame).padStart(5, "0")}.jpg`;
    images.push({ id: frame, width, height, file_name: file, video_frame: start + frame });
    for (const { id, rle, area, bbox, confidence, state } of objects) {
      if (!area) continue;
      annotations.push({
        id: annotations.length + 1, image_id: frame, category_id: id, track_id: id,
        segmentation: rle, area, bbox, iscrowd: 0, score: confidence, state,
      });
    }
  }
  const categories = [...names].map(([id, name]) => ({ id, name: name || `Object ${id}` }));
  return { images, annotations, categories };
}

/** Draws the masks of frame n on a context. */
function maskPainter([height, width], { labelsAt, opacity }) {
  const canvas = Object.assign(document.createElement("canvas"), { height, width });
  const painter = new Painter(canvas);
  painter.resize([height, width]);
  painter.opacity = opacity;
  return (context, n) => {
    const labels = labelsAt(n);
    if (!labels) return;
    painter.paint(labels);
    context.drawImage(canvas, 0, 0);
  };
}

/** Nothing, once the page has been drawn with what it is now. */
function drawn() {
  const next = () => new Promise((resolve) => requestAnimationFrame(resolve));
  return Promise.race([next().then(next), pause(DRAWN_MS)]);
}

/** A video of every tracked frame with its masks, recorded in real time or slower; WebM or MP4. */
async function recordFilm(source, { from, count, labelsAt, opacity, onProgress }) {
  const [height, width] = source.size;
  const canvas = Object.assign(document.createElement("canvas"), { height, width });
  const context = canvas.getContext("2d", { alpha: false });
  const stream = canvas.captureStream(0);
  const [track] = stream.getVideoTracks();
  const kinds = ["video/webm;codecs=vp9", "video/webm", "video/mp4"];
  const mimeType = kinds.find((kind) => MediaRecorder.isTypeSupported(kind));
  const recorder = new MediaRecorder(stream, { mimeType, videoBitsPerSecond: 6_000_000 });
  const pieces = [];
  recorder.ondataavailable = ({ data }) => pieces.push(data);
  const stopped = new Promise((resolve) => { recorder.onstop = resolve; });
  const finished = new AbortController();
  const paint = maskPainter(source.size, { labelsAt, opacity });
  recorder.start();
  await playPictures(source, from, async (n, picture) => {
    if (n >= from + count) return finished.abort();
    context.drawImage(picture, 0, 0, width, height);
    paint(context, n);
    track.requestFrame();
    onProgress?.((n - from + 1) / count);
    await drawn(); // what is asked for twice before the page is drawn is taken once
  }, finished.signal);
  await pause(LAST_PICTURE_MS);
  recorder.stop();
  await stopped;
  return { blob: new Blob(pieces, { type: mimeType }), suffix: mimeType.includes("mp4") ? "mp4" : "webm" };
}
