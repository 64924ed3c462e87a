/** A video file, stepped through by seeking: every picture, in order, however slow the model is. */

import { within } from "./tamvt.js";
import { lacksIndex, readFrameTimes } from "./frame_times.js";

export const BROWSER_S = 20; // far longer than a browser takes: some do not say that they are done
const SHORT_SIDE = 480;
const RATES = [10, 12, 15, 23.976, 24, 25, 29.97, 30, 50, 59.94, 60];
const DEFAULT_RATE = 25;
const NUDGES = 7;
const [SLOWLY, PLAYED_S] = [0.2, 3];
const PRESENTED_MS = 100; // what was sought may be shown a moment after that is said
const SAME_S = 0.0015; // WebM counts in milliseconds

const presented = (video) => new Promise((resolve) => video.requestVideoFrameCallback(resolve));
const once = (target, name) => new Promise((resolve) => target.addEventListener(name, resolve, { once: true }));
export const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

/** The size at which pictures are sent: short side at most 480, even, the aspect kept. */
export function sentSize(height, width) {
  const scale = Math.min(1, SHORT_SIDE / Math.min(height, width));
  return [height, width].map((side) => Math.max(2, Math.round((side * scale) / 2) * 2));
}

/** The usual frame rate nearest to what was measured, or what was measured. */
export function snapRate(rate) {
  const near = RATES.reduce((best, usual) => (Math.abs(usual - rate) < Math.abs(best - rate) ? usual : best));
  return Math.abs(near - rate) / near < 0.02 ? near : rate;
}

/** Waits for an event of a <video>; rejects where it fails, or takes longer than a browser may. */
async function happened(video, name, what, seconds = BROWSER_S) {
  const heard = new AbortController(); // as an option: its signal takes the listeners away
  const event = new Promise((resolve, reject) => {
    video.addEventListener(name, resolve, heard);
    video.addEventListener("error", () => reject(new Error(`${what} failed: ${video.error?.message}`)), heard);
  });
  try {
    await within(seconds, what, event);
  } finally {
    heard.abort();
  }
}

/** A muted <video>. */
export function makeVideo() {
  return Object.assign(document.createElement("video"), { muted: true, playsInline: true, preload: "auto" });
}

/**
 * `times` says when each picture is shown, in seconds; `notice` what is to be known of the file,
 * `damage` where it ends too early.
 */
export class VideoSource {
  #queue = Promise.resolve(); #url;

  static async open(blob, { name, kind = "video" }) {
    const source = new VideoSource();
    Object.assign(source, { kind, name, files: [blob], live: false, video: makeVideo(), notice: "", damage: "" });
    source.#url = URL.createObjectURL(blob);
    try {
      await source.#load();
      await source.#measure(blob);
    } catch (error) {
      source.close();
      throw error;
    }
    return source;
  }

  get count() {
    return this.times.length;
  }

  /** The size of all pictures, [height, width]: a video has one. */
  fullSize() {
    return [this.video.videoHeight, this.video.videoWidth];
  }

  /** Loads the file, from its beginning; again after it has failed. */
  async #load() {
    const { video, name } = this;
    video.src = this.#url;
    try {
      await happened(video, "loadeddata", `Opening ${name}`);
    } catch (error) {
      if (!video.error) throw error;
      if (await lacksIndex(this.files[0])) throw new Error(`${name} is cut off: its index, which stands at its end, is missing. Copy or record it again, then open it.`, { cause: error });
      throw new Error(`${name} cannot be played by this browser. Convert it to MP4 (H.264) or WebM, then open it again, or track it with “tamvt track”, which reads more.`, { cause: error });
    }
    if (!video.videoWidth) throw new Error(`${name} holds no picture, only sound.`);
  }

  async #measure(blob) {
    const { video, name } = this;
    this.size = sentSize(video.videoHeight, video.videoWidth);
    const found = await readFrameTimes(blob);
    if (found) {
      const early = (shownAt(video) ?? found.times[0]) - found.times[0]; // some files begin before or after 0
      this.times = found.times.map((time) => time + early);
    } else {
      const rate = await measureRate(video);
      const count = Math.max(1, Math.floor((await knownDuration(video, name)) * rate + 0.01));
      this.times = Array.from({ length: count }, (_, n) => n / rate);
    }
    const span = this.times.at(-1) - this.times[0];
    this.rate = span > 0 ? snapRate((this.count - 1) / span) : DEFAULT_RATE;
    if (found?.missing) this.notice = this.damage = `${name} is cut off after frame ${this.count}: what followed is missing.`;
  }

  /** The <video> at frame n. One seek at a time: another one would cancel it. */
  picture(n) {
    const sought = this.#queue.then(() => this.#sought(n));
    this.#queue = sought.catch(() => {});
    return sought;
  }

  /** A file that cannot be read on ends where it fails; what comes before can be seen as ever. */
  async #sought(n) {
    try {
      return await this.#seek(n);
    } catch (error) {
      if (!this.video.error || n === 0) throw error; // it was only slow
      await this.#load();
      this.times.length = Math.min(this.count, n);
      this.damage = `${this.name} is damaged at frame ${n + 1}: the video ends before it.`;
      throw new Error(this.damage, { cause: error });
    }
  }

  async #seek(n) {
    const { video, times } = this;
    const time = times[n];
    const next = times[n + 1] ?? Math.max(time + 0.001, Math.min(video.duration, time + 1 / this.rate));
    video.pause();
    // Browsers show a picture for as long as they guess: the right moment is searched for.
    let [low, high] = [null, null];
    for (let nudge = 0; nudge < NUDGES; nudge++) {
      const shown = video.seeking || video.readyState < 2 ? undefined : shownAt(video);
      if (shown !== undefined && Math.abs(shown - time) < SAME_S) return video;
      if (nudge && shown === undefined) return video; // it does not tell
      if (nudge && shown < time) low = video.currentTime; else if (nudge) high = video.currentTime;
      const step = ((next - time) / 3) * 2 ** (nudge - 1);
      await this.#go(!nudge ? (time + next) / 2 : low === null ? high - step : high === null ? low + step : (low + high) / 2);
      const late = shownAt(video);
      if (late !== undefined && Math.abs(late - time) >= SAME_S) await Promise.race([presented(video), pause(PRESENTED_MS)]);
    }
    await this.#playTo(n);
    return video;
  }

  async #go(time) {
    const sought = happened(this.video, "seeked", `Looking for a frame of ${this.name}`);
    this.video.currentTime = time;
    await sought;
  }

  /** A picture that no seek shows, such as the last one of some files, is played to, slowly. */
  async #playTo(n) {
    const { video, times } = this;
    await this.#go(times[Math.max(0, n - 1)]);
    const reached = new Promise((resolve) => {
      const look = (_, { mediaTime }) => (mediaTime > times[n] - SAME_S ? resolve() : video.requestVideoFrameCallback(look));
      video.requestVideoFrameCallback(look);
    });
    video.playbackRate = SLOWLY;
    await within(PLAYED_S, "Playing to a frame", Promise.all([video.play(), Promise.race([reached, once(video, "ended")])])).catch(() => {});
    video.pause();
    video.playbackRate = 1;
  }

  /** The frame that is on the screen at a time of the video. */
  #at(time) {
    let [low, high] = [0, this.count - 1];
    while (low < high) {
      const middle = (low + high + 1) >> 1;
      if (this.times[middle] <= time + SAME_S) low = middle; else high = middle - 1;
    }
    return low;
  }

  /** Plays in real time from frame n; `show(n, picture)` for every frame that is presented. */
  async play(from, show, signal) {
    const { video } = this;
    const aborted = once(signal, "abort"); // it may be while the first picture is sought
    await this.picture(from);
    if (signal.aborted) return;
    const stopped = Promise.race([once(video, "ended"), once(video, "error"), aborted]);
    let waiting;
    const step = (_, { mediaTime }) => {
      show(this.#at(mediaTime), video);
      waiting = video.requestVideoFrameCallback(step);
    };
    waiting = video.requestVideoFrameCallback(step);
    const most = 3 * (video.duration - video.currentTime || 0) + BROWSER_S;
    try {
      await within(BROWSER_S, `Playing ${this.name}`, Promise.race([video.play(), stopped]));
      await within(most, `Playing ${this.name}`, stopped);
    } catch (error) {
      if (error.name !== "AbortError") throw error; // so short that it ended before it played
    } finally {
      video.cancelVideoFrameCallback(waiting);
      video.pause();
    }
  }

  close() {
    this.video.pause();
    this.video.removeAttribute("src");
    URL.revokeObjectURL(this.#url);
  }
}

/** The time of the picture that is shown now, where the browser tells it. */
function shownAt(video) {
  if (!globalThis.VideoFrame) return undefined;
  try {
    const frame = new VideoFrame(video);
    frame.close();
    return frame.timestamp / 1e6;
  } catch {
    return undefined;
  }
}

/** Some recordings do not know their length until they are sought to the end. */
async function knownDuration(video, name) {
  if (Number.isFinite(video.duration)) return video.duration;
  const sought = happened(video, "seeked", `Looking for the end of ${name}`);
  video.currentTime = 1e7;
  await sought;
  return Number.isFinite(video.duration) ? video.duration : video.currentTime;
}

/** Frames a second of a file whose index we do not read; 25 where its pictures do not come. */
async function measureRate(video) {
  const times = [];
  const enough = new Promise((resolve) => {
    const note = (_, { mediaTime }) => {
      times.push(mediaTime);
      if (times.length < 16) video.requestVideoFrameCallback(note); else resolve();
    };
    video.requestVideoFrameCallback(note);
  });
  video.play().catch(() => {}); // one that is over at once was not played
  await Promise.race([enough, once(video, "ended"), pause(1500)]);
  video.pause();
  const steps = times.slice(1).map((time, k) => time - times[k]).filter((step) => step > 0.001);
  if (!steps.length) return DEFAULT_RATE;
  const span = steps.reduce((sum, step) => sum + step);
  return snapRate(Math.round(span / Math.min(...steps)) / span);
}
