/** What the service found: each frame's objects, without those that a person has removed. */

import { labelMap } from "./tamvt.js";

export class Results {
  #seen = new Set();
  frames = new Map(); revision = 0;

  /** `kept(id)` tells whether an object is still one of the person's. */
  constructor({ kept }) {
    this.kept = kept;
  }

  put(frame, objects) {
    for (const { id } of objects) this.#seen.add(id);
    this.frames.set(frame, objects.filter(({ id }) => this.kept(id)));
    this.revision++;
  }

  /** Makes these the frames: those of before a correction. */
  restore(frames) {
    this.frames = frames;
    this.sift();
    this.revision++;
  }

  /** Takes out what is not kept any more. */
  sift() {
    for (const [frame, objects] of this.frames) this.put(frame, objects);
  }

  /** Whether any frame ever held the object: its number is not given to another one. */
  knows(id) {
    return this.#seen.has(id);
  }

  labels(frame, size) {
    const objects = this.frames.get(frame);
    return objects && labelMap(objects, size);
  }
}

/** How many frames of each state an object has: `{visible, lost, human, dropped}`. */
export function countStates(frames, id) {
  const counts = { visible: 0, lost: 0, human: 0, dropped: 0 };
  for (const objects of frames.values()) {
    const state = objects.find((object) => object.id === id)?.state;
    if (state in counts) counts[state]++;
  }
  return counts;
}

/** Where an object is lost: `[first, last]` of each run of frames, both ends included. */
export function lostSpans(frames, id) {
  const spans = [];
  for (const frame of [...frames.keys()].sort((a, b) => a - b)) {
    const state = frames.get(frame).find((object) => object.id === id)?.state;
    if (state !== "lost") continue;
    if (spans.at(-1)?.[1] === frame - 1) spans.at(-1)[1] = frame; else spans.push([frame, frame]);
  }
  return spans;
}
