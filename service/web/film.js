/** The video to take home: with its masks over it as on the page, or the objects alone on nothing. */

import { within } from "./tamvt.js";
import { saveBlob, stem } from "./downloads.js";
import { paintMasks } from "./painter.js";
import { playPictures } from "./sources.js";
import { BROWSER_S, pause } from "./video.js";

const LAST_PICTURE_MS = 300; // the encoder runs behind
const DRAWN_MS = 1000; // a page that nobody sees is not drawn
const KINDS = ["video/webm;codecs=vp9", "video/webm", "video/mp4"];
const ALPHA_KINDS = ["video/webm;codecs=vp9", "video/webm;codecs=vp8"]; // WebM holds what is transparent

/** Records the tracked frames; `alpha` leaves all but the objects transparent. */
export async function saveFilm(bench, { alpha = false, onProgress }) {
  const mimeType = (alpha ? ALPHA_KINDS : KINDS).find((kind) => MediaRecorder.isTypeSupported(kind));
  if (!mimeType) throw new Error(alpha ? "This browser cannot record videos with alpha. Save cut-outs instead, or use Chrome or Edge." : "This browser cannot record videos. Download the masks, or use Chrome, Edge or Firefox.");
  const blob = await record(bench, { mimeType, alpha, onProgress });
  saveBlob(blob, `${stem(bench.source.name)}-${alpha ? "cutout" : "overlay"}.${mimeType.includes("mp4") ? "mp4" : "webm"}`);
}

/** A video of every tracked frame, recorded in real time or slower. */
async function record(bench, { mimeType, alpha, onProgress }) {
  const { source, start, results, look } = bench;
  const numbers = [...results.frames.keys()].map((frame) => start + frame);
  const [first, last] = [Math.min(...numbers), Math.max(...numbers)];
  const [height, width] = await source.fullSize(first);
  const canvas = Object.assign(document.createElement("canvas"), { height, width });
  const context = canvas.getContext("2d", { alpha });
  const stream = canvas.captureStream(0);
  const [track] = stream.getVideoTracks();
  const recorder = new MediaRecorder(stream, { mimeType, videoBitsPerSecond: 6_000_000 });
  const pieces = [];
  recorder.ondataavailable = ({ data }) => pieces.push(data);
  const stopped = new Promise((resolve) => { recorder.onstop = resolve; });
  const finished = new AbortController();
  const shown = alpha ? { ...look, opacity: 0, effect: "cutout" } : look;
  recorder.start();
  await playPictures(source, first, async (n, picture) => {
    if (n > last) return finished.abort();
    draw(context, picture, bench.labelsAt(n), { source, look: shown, ground: alpha ? "" : undefined });
    track.requestFrame();
    onProgress?.((n - first + 1) / (last - first + 1));
    await drawn(); // what is asked for twice before the page is drawn is taken once
  }, finished.signal);
  await pause(LAST_PICTURE_MS);
  recorder.stop();
  await within(BROWSER_S, "Finishing the video", stopped);
  return new Blob(pieces, { type: mimeType });
}

function draw(context, picture, labels, { source, look, ground }) {
  const [height, width] = source.size;
  const scale = context.canvas.width / width;
  context.setTransform(scale, 0, 0, context.canvas.height / height, 0, 0);
  context.clearRect(0, 0, width, height);
  if (labels || ground === undefined) context.drawImage(picture, 0, 0, width, height);
  if (labels?.some(Boolean)) paintMasks(context, labels, source.size, { picture, look, dot: 1 / scale, ground });
  else if (ground === "") context.clearRect(0, 0, width, height);
}

/** Nothing, once the page has been drawn with what it is now. */
function drawn() {
  const next = () => new Promise((resolve) => requestAnimationFrame(resolve));
  return Promise.race([next().then(next), pause(DRAWN_MS)]);
}
