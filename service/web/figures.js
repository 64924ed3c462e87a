/** What is measured while tracking: frames a second, latencies, dropped frames. */

const KEPT = 300;
const WINDOW_MS = 3000;

/** The value that a share (0..1) of the values does not exceed (nearest rank); NaN of none. */
export function percentile(values, share) {
  if (!values.length) return NaN;
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[Math.min(sorted.length - 1, Math.max(0, Math.ceil(share * sorted.length) - 1))];
}

export class Figures {
  #latencies = []; #inferences = []; #clips = []; #rate = NaN;
  dropped = 0;

  /**
   * One answered frame, with the service's `timing`; milliseconds. The frames of a clip are told by
   * the time that it was in the model. Those of a file are sent `ahead` of their turn: what one
   * waits for the clips before it is no latency, what it waits for other sessions is.
   */
  count({ sent, timing = {}, ahead = false, now = performance.now() }) {
    const { inference_ms: inference, receive_ms: received = 0, queue_ms: queued = 0 } = timing;
    const before = this.#clips.at(-1);
    const clip = before && before.inference === inference ? before : { inference, began: now, frames: 0, turn: before?.ended ?? -Infinity };
    if (clip !== before) keep(this.#clips, clip);
    clip.frames++;
    clip.ended = now;
    keep(this.#latencies, now - (ahead ? Math.min(sent + received + queued, Math.max(sent, clip.turn)) : sent));
    if (inference !== undefined) keep(this.#inferences, inference);
  }

  /** Frames of a clip arrive together: the rate is that of whole clips, over a window. */
  get rate() {
    const last = this.#clips.at(-1);
    const recent = this.#clips.filter(({ began }, k) => began >= last.began - WINDOW_MS || k === this.#clips.length - 2);
    if (recent.length < 2) return this.#rate;
    const frames = recent.slice(1).reduce((sum, clip) => sum + clip.frames, 0);
    this.#rate = (frames * 1000) / (last.ended - recent[0].ended);
    return this.#rate;
  }

  latency(share) {
    return percentile(this.#latencies, share);
  }

  get inference() {
    return percentile(this.#inferences, 0.5);
  }

  /** A pause is no slowness. */
  rest() {
    this.#clips = [];
  }
}

function keep(values, value) {
  values.push(value);
  if (values.length > KEPT) values.shift();
}

export function milliseconds(value) {
  if (!Number.isFinite(value)) return "–";
  return value < 1000 ? `${Math.round(value)} ms` : `${(value / 1000).toFixed(1)} s`;
}
