/** What is measured while tracking: frames a second, latencies, dropped frames. */

const KEPT = 300;
const WINDOW_MS = 3000;

/**
 * Milliseconds from when a frame is sent until its masks are there. The page sends the frames of a
 * file ahead: while one waits behind its own kind for a worker of the service, that is no latency.
 */
export function latencyOf({ timestamp, timing }, { live, now = performance.now() }) {
  return now - timestamp / 1000 - (live ? 0 : (timing.receive_ms ?? 0));
}

/** The value that a share (0..1) of the values does not exceed (nearest rank); NaN of none. */
export function percentile(values, share) {
  if (!values.length) return NaN;
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[Math.min(sorted.length - 1, Math.max(0, Math.ceil(share * sorted.length) - 1))];
}

export class Figures {
  #latencies = []; #inferences = []; #times = []; #rate = NaN;
  dropped = 0;

  /** One answered frame: how long it took, of which in the model, in milliseconds. */
  count({ latency, inference, now = performance.now() }) {
    keep(this.#latencies, latency);
    if (inference !== undefined) keep(this.#inferences, inference);
    keep(this.#times, now);
  }

  /** Answers that come in one message arrive together: the rate is taken over a window. */
  get rate() {
    const last = this.#times.at(-1);
    const recent = this.#times.filter((time) => time >= last - WINDOW_MS);
    if (last > recent[0]) this.#rate = ((recent.length - 1) * 1000) / (last - recent[0]);
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
    this.#times = [];
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
