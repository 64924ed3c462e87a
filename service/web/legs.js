/** A run of a session along the video: forward from the frame it began on, or backward. */
export class Leg {
  constructor({ session, start, direction = 1 }) {
    Object.assign(this, { session, start, direction });
  }

  /** The video's frame that is the session's frame k. */
  at(k) {
    return this.start + this.direction * k;
  }

  /** The session's frame that is frame n of the video. */
  frameOf(n) {
    return (n - this.start) * this.direction;
  }

  /** The video's frame that the session has seen last. */
  get newest() {
    return this.at(this.session.state.next_frame - 1);
  }

  /** Whether the session has seen frame n. */
  has(n) {
    return this.frameOf(n) >= 0 && this.frameOf(n) < this.session.state.next_frame;
  }

  /** How many frames of the source are still to be tracked; one of a camera always is. */
  left(source) {
    if (source.live) return 1;
    return this.direction > 0 ? source.count - 1 - this.newest : this.newest;
  }

  /** The same way with a session that was rewound. */
  with(session) {
    return new Leg({ ...this, session });
  }
}
