/** The other tabs of this browser: two that have one session open are told of each other. */

const NAME = "tamvt-page";

/**
 * `own()` gives the session of this tab. `onOther()` hears that another tab has it too, `onChange(now)`
 * that it went on there, as the session `now`: another one where a frame was corrected.
 */
export class Tabs {
  #channel = globalThis.BroadcastChannel ? new BroadcastChannel(NAME) : null;

  constructor({ own, onOther, onChange }) {
    this.#channel?.addEventListener("message", ({ data: { kind, session, now } }) => {
      if (session !== own()) return;
      if (kind === "opened") this.#tell({ kind: "here", session });
      if (kind === "changed") onChange(now); else onOther();
    });
  }

  opened(session) {
    this.#tell({ kind: "opened", session });
  }

  changed(session, now) {
    this.#tell({ kind: "changed", session, now });
  }

  #tell(message) {
    this.#channel?.postMessage(message);
  }
}
