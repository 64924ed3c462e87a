/** A film recorded while it plays, where a browser has no encoder for single pictures. */

import { within } from "./tamvt.js";
import { playPictures } from "./sources.js";
import { BROWSER_S, pause } from "./video.js";

const LAST_PICTURE_MS = 300; // the encoder runs behind
const DRAWN_MS = 1000; // a page that nobody sees is not drawn
const KINDS = ["video/webm;codecs=vp9", "video/webm", "video/mp4"];
const ALPHA_KINDS = ["video/webm;codecs=vp9", "video/webm;codecs=vp8"]; // WebM holds what is transparent

/** The film as a Blob, recorded in real time or slower: frames come about when they should. */
export async function recordFilm(film, onProgress) {
  const { alpha, first, last } = film;
  const mimeType = (alpha ? ALPHA_KINDS : KINDS).find((kind) => globalThis.MediaRecorder?.isTypeSupported(kind));
  if (!mimeType) throw new Error(alpha ? "This browser cannot record videos with alpha. Save cut-outs instead, or use Chrome or Edge." : "This browser cannot record videos. Download the masks, or use Chrome, Edge or Firefox.");
  const context = film.canvas({ alpha });
  const stream = context.canvas.captureStream(0);
  const [track] = stream.getVideoTracks();
  const recorder = new MediaRecorder(stream, { mimeType, videoBitsPerSecond: 6_000_000 });
  const pieces = [];
  recorder.ondataavailable = ({ data }) => pieces.push(data);
  const stopped = new Promise((resolve) => { recorder.onstop = resolve; });
  const finished = new AbortController();
  recorder.start();
  await playPictures(film.source, first, async (n, picture) => {
    if (n > last) return finished.abort();
    film[alpha ? "cut" : "draw"](context, n, picture);
    track.requestFrame();
    onProgress?.((n - first + 1) / (last - first + 1));
    await drawn(); // what is asked for twice before the page is drawn is taken once
  }, finished.signal);
  await pause(LAST_PICTURE_MS);
  recorder.stop();
  await within(BROWSER_S, "Finishing the video", stopped);
  return new Blob(pieces, { type: mimeType });
}

/** Nothing, once the page has been drawn with what it is now. */
function drawn() {
  const next = () => new Promise((resolve) => requestAnimationFrame(resolve));
  return Promise.race([next().then(next), pause(DRAWN_MS)]);
}
