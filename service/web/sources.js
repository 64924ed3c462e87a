/**
 * Where pictures come from. A source has `kind`, `name`, `size` ([height, width] as it is sent),
 * `count`, `rate`, `notice`, `picture(n)` (anything that can be drawn), `fullSize(n)` (as the file
 * has it) and `play(from, show, signal)`. A video is in its own module.
 */

import { chooseFrames } from "./frame_files.js";
import { within } from "./tamvt.js";
import { BROWSER_S, makeVideo, pause, sentSize } from "./video.js";

export { VideoSource } from "./video.js";

const PERMISSION_S = 120; // a person reads the browser's question
const RECORDED = 1800;

async function decoded(file) {
  try {
    return await within(BROWSER_S, `Decoding ${file.name}`, createImageBitmap(file));
  } catch (error) {
    throw new Error(`${file.name} cannot be decoded: is it damaged, or not an image?`, { cause: error });
  }
}

/** Images in the order of their names; all are sent in the first one's size. */
export class ImageSource {
  #sizes = new Map();

  static async open(files, { name, rate = 10 } = {}) {
    const outer = [...files].filter(({ webkitRelativePath: path }) => !path || path.split("/").length < 3);
    const { frames: images } = chooseFrames(outer);
    if (!images.length) throw new Error(`There is no picture among these ${[...files].length} files.`);
    const source = new ImageSource();
    const left = [...files].length - images.length;
    const notice = left ? `${left} ${left === 1 ? "file is" : "files are"} left out: hidden, in a folder below, or no picture.` : "";
    name ??= images[0].webkitRelativePath?.split("/")[0] || "Images";
    Object.assign(source, { kind: "images", name, files: images, rate, live: false, notice });
    source.size = sentSize(...(await source.fullSize(0)));
    return source;
  }

  get count() {
    return this.files.length;
  }

  async picture(n) {
    const file = this.files[n];
    const picture = await decoded(file);
    this.#sizes.set(file, [picture.height, picture.width]);
    return picture;
  }

  async fullSize(n) {
    const file = this.files[n];
    if (!this.#sizes.has(file)) (await this.picture(n)).close();
    return this.#sizes.get(file);
  }

  /** Goes on without a file that cannot be decoded. */
  leaveOut(n) {
    this.files = this.files.toSpliced(n, 1);
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
    const asked = navigator.mediaDevices.getUserMedia({ video, audio: false });
    const source = new CameraSource();
    Object.assign(source, { kind: "camera", name: "Camera", rate: 30, count: 1, live: true, files: [], notice: "", video: makeVideo() });
    try {
      source.stream = await within(PERMISSION_S, "Asking for the camera", asked);
      source.video.srcObject = source.stream;
      await within(BROWSER_S, "Starting the camera", source.video.play());
    } catch (error) {
      asked.then(stopTracks, () => {});
      throw error;
    }
    source.size = sentSize(...source.fullSize());
    return source;
  }

  fullSize() {
    return [this.video.videoHeight, this.video.videoWidth];
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
    return within(BROWSER_S, "Decoding a picture", createImageBitmap(this.#pictures.get(near)));
  }

  /** Every picture of the camera until the signal: `take(video, skipped)`; busy ones are skipped. */
  async follow(take, signal) {
    let [before, wake] = [null, null];
    signal.addEventListener("abort", () => wake?.(null)); // a camera that was unplugged has no next picture
    while (!signal.aborted) {
      const next = new Promise((resolve) => {
        wake = resolve;
        this.video.requestVideoFrameCallback((_, shown) => resolve(shown));
      });
      const facts = await within(BROWSER_S, "The next picture of the camera", next).catch((error) => {
        if (!document.hidden) throw error; // a page that nobody sees gets none
      });
      if (facts === undefined) continue;
      if (!facts) return;
      await take(this.video, before === null ? 0 : facts.presentedFrames - before - 1);
      before = facts.presentedFrames;
    }
  }

  play(from, show, signal) {
    return playPictures(this, from, show, signal);
  }

  close() {
    stopTracks(this.stream);
  }
}

function stopTracks(stream) {
  for (const track of stream.getTracks()) track.stop();
}

/** Every picture from a frame on, none left out: at the source's times, or as slow as `show`. */
export async function playPictures(source, from, show, signal) {
  const begun = performance.now();
  const timeOf = (n) => source.times?.[n] ?? n / source.rate;
  for (let n = from; n < source.count && !signal.aborted; n++) {
    const picture = await source.picture(n);
    await pause(begun + (timeOf(n) - timeOf(from)) * 1000 - performance.now());
    if (!signal.aborted) await show(n, picture);
    picture.close?.();
  }
}
