/** Sends a source's pictures through a session and hands on what comes back. */

import { encodeFrame } from "./tamvt.js";

const KEPT_PICTURES = 90;
// A clip waits for its second picture: finding it in the video takes a moment.
const MAX_WAIT_MS = 1000;

/** The same two verbs as a stream's, over plain requests: where a WebSocket cannot pass. */
export class Appender {
  #waiting = []; #latencies = new Map();

  constructor(session, { onMasks }) {
    Object.assign(this, { session, onMasks });
    this.nextFrame = session.state.next_frame;
  }

  async send(image, { timestamp }) {
    this.#waiting.push({ image, timestamp });
    if (this.#waiting.length >= this.session.state.clip_length) await this.end();
    return this.nextFrame + this.#waiting.length - 1;
  }

  async end() {
    const clip = this.#waiting.splice(0);
    if (!clip.length) return;
    const firstFrame = this.nextFrame;
    const { frames, timing } = await this.session.append(clip.map(({ image }) => image), { firstFrame });
    this.nextFrame += clip.length;
    for (const masks of frames) this.onMasks({ ...masks, timestamp: clip[masks.frame - firstFrame].timestamp, timing });
  }

  close() {}
}

/**
 * One run of tracking, until the source ends, `pause()` is called, or something goes wrong.
 * `onMasks(answer, picture)` hears of every frame; `onDropped(count)` of those that were skipped.
 */
export class Tracking {
  #pictures = new Map(); #stop = new AbortController(); #transport;

  constructor({ source, session, start, onMasks, onDropped, onState }) {
    Object.assign(this, { source, session, start, onMasks, onDropped, onState });
  }

  pause() {
    this.#stop.abort();
  }

  /** Resolves when every frame that was sent has its masks. */
  async run() {
    this.#transport = await this.#connect();
    try {
      if (this.source.live) await this.source.follow((video, skipped) => this.#take(video, skipped), this.#stop.signal);
      else await this.#sendAll();
      await this.#transport.end();
    } catch (error) {
      this.#transport.close();
      throw error;
    } finally {
      for (const picture of this.#pictures.values()) picture.close();
    }
  }

  async #connect() {
    const mode = this.source.live ? "latest" : "lossless";
    const onMasks = (answer) => this.#answer(answer);
    const onDropped = (frames) => this.onDropped(frames.length);
    const stream = this.session.stream({ mode, maxWaitMs: MAX_WAIT_MS, onMasks, onDropped, onState: this.onState });
    try {
      await stream.opened;
      return stream;
    } catch (error) {
      if (error.slug === "unknown-session") throw error;
      return new Appender(this.session, { onMasks });
    }
  }

  async #sendAll() {
    for (let frame = this.#transport.nextFrame; !this.#stop.signal.aborted; frame++) {
      if (this.start + frame >= this.source.count) return;
      await this.#send(await this.source.picture(this.start + frame), frame);
    }
  }

  async #take(video, skipped) {
    if (skipped) this.onDropped(skipped);
    await this.#send(video, this.#transport.nextFrame);
  }

  async #send(picture, frame) {
    const [height, width] = this.source.size;
    this.#keep(frame, await createImageBitmap(picture, { resizeWidth: width, resizeHeight: height }));
    const image = await encodeFrame(this.#pictures.get(frame), { width, height });
    if (this.source.live) this.source.record(frame, image);
    await this.#transport.send(image, { timestamp: performance.now() * 1000 });
  }

  #keep(frame, picture) {
    this.#pictures.set(frame, picture);
    if (this.#pictures.size > KEPT_PICTURES) this.#forget(this.#pictures.keys().next().value);
  }

  #forget(frame) {
    this.#pictures.get(frame)?.close();
    this.#pictures.delete(frame);
  }

  #answer(answer) {
    this.onMasks(answer, this.#pictures.get(answer.frame));
    for (const frame of [...this.#pictures.keys()]) if (frame <= answer.frame) this.#forget(frame);
  }
}
