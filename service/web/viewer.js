/** What is on the stage: the picture, the masks over it, playing and seeking. */

import { paintMasks } from "./painter.js";
import { Stage } from "./stage.js";
import { $ } from "./view.js";

/** `labelsAt(n)` gives the label map of frame n, or undefined; `onShown()` hears of a new frame. */
export class Viewer {
  source = null; shown = 0; playing = null; #sought = Promise.resolve();

  constructor({ labelsAt, onShown, look }) {
    Object.assign(this, { labelsAt, onShown, look });
    this.picture = $("picture").getContext("2d", { alpha: false });
    const onView = () => { this.paint(); this.onView?.(); };
    this.stage = new Stage({ stage: $("stage"), picture: $("picture"), overlay: $("overlay"), marks: $("marks"), onView });
  }

  use(source) {
    this.source?.close();
    this.source = source;
    this.#sought = Promise.resolve(); // what was looked for in another video delays nothing
    this.stage.use(source.size);
  }

  /** The live picture of a camera, as long as `going()`. */
  preview(going) {
    const { video } = this.source;
    const step = () => {
      if (!going()) return;
      this.draw(video);
      video.requestVideoFrameCallback(step);
    };
    this.stage.prepare($("overlay"));
    step();
  }

  draw(picture) {
    const [height, width] = this.source.size;
    this.picture.drawImage(picture, 0, 0, width, height);
  }

  /** The masks of frame n, by default the one that is shown: drawn by hand, or tracked. */
  paint(n = this.shown) {
    const { context, dot } = this.stage.prepare($("overlay"));
    const labels = this.source && this.labelsAt(n);
    if (labels) paintMasks(context, labels, this.source.size, { picture: $("picture"), look: this.look, dot });
  }

  /**
   * Shows frame n; `picture`, where it is at hand, saves looking for it. While a slider is dragged
   * frames that were on their way are seen too, though others are wished for by then.
   */
  async show(n, picture) {
    const { source } = this;
    this.shown = n;
    const found = picture ?? (await this.#seek(n));
    if (!found || this.source !== source) return;
    this.draw(found);
    this.paint(n);
    if (this.shown === n) this.onShown();
  }

  /** The picture of frame n; null where another one is wished for before its turn comes. */
  #seek(n) {
    const { source } = this;
    const sought = this.#sought.then(() => (this.shown === n && this.source === source ? source.picture(n) : null));
    this.#sought = sought.catch(() => {});
    return sought;
  }

  /** Plays from the frame that is shown, from the first one at the end; again: stops. */
  async play() {
    if (this.playing) return this.stop();
    this.playing = new AbortController();
    const from = this.shown >= this.source.count - 1 ? 0 : this.shown;
    try {
      await this.source.play(from, (n, picture) => this.show(n, picture), this.playing.signal);
      // The last frames may have gone by unseen.
      if (!this.playing.signal.aborted) await this.show(this.source.count - 1);
    } finally {
      this.playing = null;
      this.onShown();
    }
  }

  stop() {
    this.playing?.abort();
  }
}
