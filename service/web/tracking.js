/** Sends a source's pictures through a session and hands on what comes back. */

import { encodeFrame, within } from "./tamvt.js";
import { BROWSER_S } from "./video.js";

const KEPT_PICTURES = 90;
// A clip waits for its second picture: finding it in the video takes a moment.
const MAX_WAIT_MS = 1000;

/** The same two verbs as a stream's, over plain requests: where a WebSocket cannot pass. */
export class Appender {
  #waiting = [];

  constructor(session, { onMasks }) {
    Object.assign(this, { session, onMasks });
    this.nextFrame = session.state.next_frame;
  }

  async send(image) {
    this.#waiting.push(image);
    if (this.#waiting.length >= this.session.state.clip_length) await this.end();
    return this.nextFrame + this.#waiting.length - 1;
  }

  async end() {
    const clip = this.#waiting.splice(0);
    if (!clip.length) return;
    const firstFrame = this.nextFrame;
    const timestamp = performance.now() * 1000;
    const { frames, timing } = await this.session.append(clip, { firstFrame });
    this.nextFrame += clip.length;
    for (const masks of frames) this.onMasks({ ...masks, timestamp, timing });
  }

  close() {}
}

/**
 * One run of tracking along a leg, until the source ends, `pause()` is called, or something goes wrong.
 * `onMasks(answer, picture)` hears of every frame; `onDropped(count)` of those that were skipped;
 * `onLeftOut(error)` of an image that cannot be decoded, and is no frame.
 */
export class Tracking {
  #pictures = new Map(); #stop = new AbortController(); #transport;

  constructor({ source, leg, onMasks, onDropped, onLeftOut, onState }) {
    Object.assign(this, { source, leg, session: leg.session, onMasks, onDropped, onLeftOut, onState });
  }

  get paused() {
    return this.#stop.signal.aborted;
  }

  pause() {
    this.#stop.abort();
  }

  /** Resolves when every frame that was sent has its masks; rejects then, if the source failed. */
  async run() {
    this.#transport = await this.#connect();
    try {
      const trouble = await (this.source.live ? this.#follow() : this.#sendAll());
      await this.#transport.end();
      if (trouble) throw trouble;
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

  /** Sends picture after picture; gives the error of one that could not be had, if there was one. */
  async #sendAll() {
    for (let frame = this.#transport.nextFrame; !this.#stop.signal.aborted; ) {
      const n = this.leg.at(frame);
      if (n < 0 || n >= this.source.count) return null;
      const [picture, error] = await this.source.picture(n).then((found) => [found], (reason) => [null, reason]);
      if (picture) await this.#send(picture, frame++);
      else if (!this.source.leaveOut || this.leg.direction < 0) return error; // numbers below would change
      else {
        this.source.leaveOut(n);
        this.onLeftOut(error);
      }
      picture?.close?.();
    }
    return null;
  }

  async #follow() {
    const take = async (video, skipped) => {
      if (skipped) this.onDropped(skipped);
      await this.#send(video, this.#transport.nextFrame);
    };
    let trouble = null;
    await this.source.follow(take, this.#stop.signal).catch((error) => { trouble = error; });
    return trouble;
  }

  async #send(picture, frame) {
    const [height, width] = this.source.size;
    const small = createImageBitmap(picture, { resizeWidth: width, resizeHeight: height });
    this.#keep(frame, await within(BROWSER_S, "Copying a picture", small));
    const image = await encodeFrame(this.#pictures.get(frame), { width, height });
    if (this.source.live) this.source.record(frame, image);
    await this.#transport.send(image);
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
