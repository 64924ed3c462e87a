/** A film encoded picture by picture: every frame once, at its own time, as fast as that goes. */

import { within } from "./tamvt.js";
import { BROWSER_S } from "./video.js";
import { webm } from "./webm.js";

const CODEC = "vp09.00.51.08";
const BITS_PER_S = 6_000_000;
const KEY_S = 2; // so often a picture stands for itself: players seek to them
const MOST_WAITING = 4;

/** Pictures of a canvas in, `chunks` of VP9 out. */
class CanvasEncoder {
  chunks = []; #error = null;

  constructor(config) {
    const output = (chunk) => {
      const data = new Uint8Array(chunk.byteLength);
      chunk.copyTo(data);
      this.chunks.push(data);
    };
    this.encoder = new VideoEncoder({ output, error: (error) => { this.#error = error; } });
    this.encoder.configure(config);
  }

  async take({ canvas }, { seconds, keyFrame }) {
    const frame = new VideoFrame(canvas, { timestamp: Math.round(seconds * 1e6) });
    this.encoder.encode(frame, { keyFrame });
    frame.close();
    while (this.encoder.encodeQueueSize > MOST_WAITING) {
      await within(BROWSER_S, "Encoding the video", new Promise((resolve) => { this.encoder.ondequeue = resolve; }));
    }
    if (this.#error) throw this.#error;
  }

  async end() {
    await within(BROWSER_S, "Finishing the video", this.encoder.flush());
    this.close();
  }

  close() {
    if (this.encoder.state !== "closed") this.encoder.close();
  }
}

/** The film as a Blob; null where the browser cannot encode it (or the page came over plain HTTP). */
export async function encodeFilm(film, onProgress) {
  const { width, height, source } = film;
  const config = { codec: CODEC, width, height, bitrate: BITS_PER_S, framerate: source.rate };
  if (!globalThis.VideoEncoder) return null;
  const { supported } = await within(BROWSER_S, "Asking for an encoder", VideoEncoder.isConfigSupported(config));
  if (!supported) return null;
  const encoders = (film.alpha ? ["draw", "matte"] : ["draw"]).map((what) => ({
    context: film.canvas({ alpha: what === "draw" && film.alpha }), draw: film[what].bind(film), encoder: new CanvasEncoder(config),
  }));
  try {
    const shown = await encodeAll(film, encoders, onProgress);
    const [pictures, mattes] = encoders.map(({ encoder }) => encoder.chunks);
    const frames = shown.map((when, k) => ({ ...when, data: pictures[k], matte: mattes?.[k] }));
    return webm(frames, { width, height, end: film.timeOf(film.last + 1) * 1000 });
  } finally {
    for (const { encoder } of encoders) encoder.close();
  }
}

/** Encodes every frame; `{ms, key}` of each. */
async function encodeAll(film, encoders, onProgress) {
  const shown = [];
  let keyed = -Infinity;
  for (let n = film.first; n <= film.last; n++) {
    const [seconds, picture] = [film.timeOf(n), await film.source.picture(n)];
    const keyFrame = seconds - keyed >= KEY_S;
    if (keyFrame) keyed = seconds;
    for (const { context, draw } of encoders) draw(context, n, picture);
    for (const { context, encoder } of encoders) await encoder.take(context, { seconds, keyFrame });
    picture.close?.();
    shown.push({ ms: Math.round(seconds * 1000), key: keyFrame });
    onProgress?.((n - film.first + 1) / (film.last - film.first + 1));
  }
  for (const { encoder } of encoders) await encoder.end();
  return shown;
}
