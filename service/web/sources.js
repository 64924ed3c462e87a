/**
 * Where pictures come from. A source has `kind`, `name`, `size` ([height, width] as it is sent),
 * `count`, `rate`, `picture(n)` (anything that can be drawn), and `play(from, show, signal)`.
 */

import { chooseFrames } from "./frame_files.js";

const SHORT_SIDE = 480;
const RATES = [10, 12, 15, 23.976, 24, 25, 29.97, 30, 50, 59.94, 60];
const DEFAULT_RATE = 25;
const RECORDED = 1800;
const SEEK_MS = 20_000; // far longer than a seek takes: some browsers do not say that it is done

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

const once = (target, name) => new Promise((resolve) => target.addEventListener(name, resolve, { once: true }));
export const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

/** A video file, stepped through by seeking: every frame, in order, however slow the model is. */
export class VideoSource {
  #queue = Promise.resolve();

  static async open(blob, { name, kind = "video", rate }) {
    const source = new VideoSource();
    Object.assign(source, { kind, name, files: [blob], live: false });
    source.video = makeVideo();
    const failed = once(source.video, "error").then(() => { throw new Error("This browser cannot play the file."); });
    source.video.src = URL.createObjectURL(blob);
    await Promise.race([once(source.video, "loadeddata"), failed]);
    const { videoHeight, videoWidth } = source.video;
    if (!videoWidth) throw new Error("There is no picture in this file.");
    source.size = sentSize(videoHeight, videoWidth);
    source.rate = rate ?? (await measureRate(source.video));
    source.count = Math.max(1, Math.floor((await knownDuration(source.video)) * source.rate + 0.01));
    return source;
  }

  /** The <video> at frame n. One seek at a time: another one would cancel it. */
  picture(n) {
    const sought = this.#queue.then(() => this.#seek(n));
    this.#queue = sought.catch(() => {});
    return sought;
  }

  async #seek(n) {
    const { video } = this;
    const there = (n + 0.5) / this.rate;
    video.pause();
    if (Math.abs(video.currentTime - there) < 0.2 / this.rate && !video.seeking && video.readyState > 1) return video;
    const sought = once(video, "seeked");
    video.currentTime = there;
    await Promise.race([sought, pause(SEEK_MS)]);
    return video;
  }

  /** Plays in real time from frame n; `show(n, picture)` for every frame that is presented. */
  async play(from, show, signal) {
    const { video } = this;
    const aborted = once(signal, "abort"); // it may be while the first picture is sought
    await this.picture(from);
    if (signal.aborted) return;
    const stopped = Promise.race([once(video, "ended"), aborted]);
    let waiting;
    const step = (_, { mediaTime }) => {
      show(Math.min(this.count - 1, Math.round(mediaTime * this.rate)), video);
      waiting = video.requestVideoFrameCallback(step);
    };
    waiting = video.requestVideoFrameCallback(step);
    await video.play();
    await stopped;
    video.cancelVideoFrameCallback(waiting);
    video.pause();
  }

  close() {
    this.video.pause();
    URL.revokeObjectURL(this.video.src);
    this.video.removeAttribute("src");
  }
}

/** Images in the order of their names; all are sent in the first one's size. */
export class ImageSource {
  static async open(files, { name = "Images", rate = 10 } = {}) {
    const source = new ImageSource();
    const { frames: images } = chooseFrames(files);
    if (!images.length) throw new Error("There is no image among these files.");
    const first = await createImageBitmap(images[0]);
    const size = sentSize(first.height, first.width);
    return Object.assign(source, { kind: "images", name, files: images, rate, size, count: images.length, live: false });
  }

  picture(n) {
    return createImageBitmap(this.files[n]);
  }

  play(from, show, signal) {
    return playPictures(this, from, show, signal);
  }

  close() {}
}

/** A camera. What was tracked is kept (the newest 1800 pictures), so that it can be played. */
export class CameraSource {
  #pictures = new Map();

  static async open() {
    if (!navigator.mediaDevices) throw new Error("A camera needs https, or the page on localhost.");
    const video = { width: { ideal: 854 }, height: { ideal: 480 }, facingMode: "environment" };
    const stream = await navigator.mediaDevices.getUserMedia({ video, audio: false });
    const source = new CameraSource();
    Object.assign(source, { kind: "camera", name: "Camera", rate: 30, count: 1, live: true, stream, files: [] });
    source.video = makeVideo();
    source.video.srcObject = stream;
    await source.video.play();
    source.size = sentSize(source.video.videoHeight, source.video.videoWidth);
    return source;
  }

  /** Keeps an encoded picture under its number. */
  record(n, blob) {
    this.#pictures.set(n, blob);
    this.count = Math.max(this.count, n + 1);
    if (this.#pictures.size > RECORDED) this.#pictures.delete(this.#pictures.keys().next().value);
  }

  /** The recorded picture n, else the one before it; before anything is recorded, the live one. */
  async picture(n) {
    const numbers = [...this.#pictures.keys()];
    if (!numbers.length) return this.video;
    const near = numbers.findLast((number) => number <= n) ?? numbers[0];
    return createImageBitmap(this.#pictures.get(near));
  }

  /** Every picture of the camera until the signal: `take(video, skipped)`; busy ones are skipped. */
  async follow(take, signal) {
    let [before, wake] = [null, null];
    signal.addEventListener("abort", () => wake?.(null)); // a camera that was unplugged has no next picture
    while (!signal.aborted) {
      const facts = await new Promise((resolve) => {
        wake = resolve;
        this.video.requestVideoFrameCallback((_, shown) => resolve(shown));
      });
      if (!facts) return;
      await take(this.video, before === null ? 0 : facts.presentedFrames - before - 1);
      before = facts.presentedFrames;
    }
  }

  play(from, show, signal) {
    return playPictures(this, from, show, signal);
  }

  close() {
    for (const track of this.stream.getTracks()) track.stop();
  }
}

/** Every picture from a frame on, none left out: at the source's rate, or as slow as `show`. */
export async function playPictures(source, from, show, signal) {
  const begun = performance.now();
  for (let n = from; n < source.count && !signal.aborted; n++) {
    const picture = await source.picture(n);
    await pause(begun + ((n - from) * 1000) / source.rate - performance.now());
    if (!signal.aborted) await show(n, picture);
    picture.close?.();
  }
}

function makeVideo() {
  const video = document.createElement("video");
  Object.assign(video, { muted: true, playsInline: true, preload: "auto" });
  return video;
}

/** Some recordings do not know their length until they are sought to the end. */
async function knownDuration(video) {
  if (Number.isFinite(video.duration)) return video.duration;
  const sought = once(video, "seeked");
  video.currentTime = 1e7;
  await Promise.race([sought, pause(SEEK_MS)]);
  return Number.isFinite(video.duration) ? video.duration : video.currentTime;
}

/** Frames a second, from the times of the first pictures; 25 where they do not come. */
async function measureRate(video) {
  const times = [];
  const enough = new Promise((resolve) => {
    const note = (_, { mediaTime }) => {
      times.push(mediaTime);
      if (times.length < 16) video.requestVideoFrameCallback(note); else resolve();
    };
    video.requestVideoFrameCallback(note);
  });
  await video.play();
  await Promise.race([enough, once(video, "ended"), pause(1500)]);
  video.pause();
  video.currentTime = 0;
  const steps = times.slice(1).map((time, k) => time - times[k]).filter((step) => step > 0.001);
  if (!steps.length) return DEFAULT_RATE;
  const span = steps.reduce((sum, step) => sum + step);
  return snapRate(Math.round(span / Math.min(...steps)) / span);
}
