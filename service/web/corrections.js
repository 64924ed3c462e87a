/** Corrections of any frame: sessions that are rewound to it, and the way back to how it was. */

import { say } from "./view.js";

export class Corrections {
  past = null; // the runs and the masks of before the last correction

  constructor(bench) {
    this.bench = bench;
  }

  forget() {
    this.past = null;
  }

  /**
   * Corrects the frame that was drawn on; one that is not the newest in sessions that were rewound
   * to it. The masks of what follows stay until they are tracked anew.
   */
  async make() {
    const { bench } = this;
    const { drawing, drawnAt: n } = bench.desk;
    const ids = drawing.changedIds().filter((id) => bench.names.has(id));
    if (!ids.length && drawing.ids().length) throw new Error("The drawing is as the mask was. Draw what is missing, or erase what is too much.");
    if (!ids.length) throw new Error("An object needs a pixel: point at it, or remove it from the list.");
    const objects = drawing.objects(ids, bench.names);
    const { forward, backward } = bench;
    const before = { forward, backward, frames: new Map(bench.results.frames) };
    const after = { forward, backward };
    try {
      for (const [way, leg] of Object.entries(after)) {
        if (!leg?.has(n)) continue;
        after[way] = n === leg.newest ? leg : leg.with(await this.#rewound(leg, n));
        await after[way].session.correct(objects);
      }
    } catch (error) {
      letGo(Object.values(after).filter((leg) => leg && leg !== forward && leg !== backward));
      throw error;
    }
    Object.assign(bench, after);
    bench.desk.clear();
    for (const leg of bench.legs.filter((each) => each.has(n))) await bench.readMasks(leg, leg.frameOf(n));
    if (after.forward !== forward || after.backward !== backward) await this.#remember(before);
    bench.tabs.changed(before.forward.session.id, bench.session.id); // whose bookmark is there by now
    await bench.viewer.show(n);
  }

  #rewound(leg, n) {
    say(`Going back to frame ${n + 1} …`);
    return leg.session.rewind(leg.frameOf(n), (k) => this.bench.encoded(leg.at(k)));
  }

  /** Keeps how it was before a correction, and lets go of how it was before that. */
  async #remember(before) {
    const { bench, past } = this;
    const kept = [bench.forward, bench.backward, before.forward, before.backward];
    letGo([past?.forward, past?.backward].filter((leg) => leg && !kept.includes(leg)));
    this.past = before;
    await bench.bookmark(before.forward.session.id);
  }

  /** Takes the last correction back: the masks and the sessions are those of before. */
  async undo() {
    const { bench, past } = this;
    if (!past || bench.busy || bench.tracking) return;
    const { forward, backward, frames } = past;
    this.past = null;
    await bench.attempt(async () => {
      letGo(bench.legs.filter((leg) => leg !== forward && leg !== backward));
      const gone = bench.session.id;
      Object.assign(bench, { forward, backward });
      bench.results.restore(frames);
      await bench.bookmark(gone);
      bench.tabs.changed(gone, forward.session.id);
      await bench.viewer.show(bench.shown);
      say("The correction is taken back.");
    });
  }
}

/** Nobody waits for sessions that are not needed any more; what is left of them expires. */
function letGo(legs) {
  for (const { session } of legs) session.delete().catch(() => {});
}
