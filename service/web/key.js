/** A client that asks for a key once the service wants one. The key stays in this tab. */

import { Client } from "./tamvt.js";

const STORED = "tamvt-key";

export class KeyedClient extends Client {
  #asking;

  constructor() {
    super();
    this.key = sessionStorage.getItem(STORED) ?? undefined;
  }

  async call(path, options) {
    for (;;) {
      const shown = this.key;
      try {
        return await super.call(path, options);
      } catch (error) {
        if (error.slug !== "unauthenticated") throw error;
        if (this.key !== shown) continue; // another call has asked meanwhile
        this.#asking ??= ask(shown !== undefined).finally(() => { this.#asking = undefined; });
        const given = await this.#asking;
        if (!given) throw error;
        this.key = given;
        sessionStorage.setItem(STORED, given);
      }
    }
  }
}

/** What the person types into a dialog; "" if they close it. */
function ask(again) {
  const dialog = document.createElement("dialog");
  dialog.className = "ask";
  const label = document.createElement("label");
  label.textContent = again ? "The service does not take this key. Another one:" : "This service asks for a key:";
  const input = Object.assign(document.createElement("input"), { type: "password", autocomplete: "off" });
  label.append(input);
  const button = Object.assign(document.createElement("button"), { type: "button", textContent: "Use this key", className: "primary" });
  dialog.append(label, button);
  document.body.append(dialog);
  return new Promise((resolve) => {
    button.onclick = () => dialog.close(input.value.trim());
    input.onkeydown = ({ key }) => { if (key === "Enter") button.click(); };
    dialog.onclose = () => { dialog.remove(); resolve(dialog.returnValue); };
    dialog.showModal();
  });
}
