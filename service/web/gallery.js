/** The clips that come with the page: cards to choose from. */

import { $ } from "./view.js";

/** Shows a card of each clip; `onChoose(name)` hears of the one that is pressed. */
export function showGallery(clips, onChoose) {
  $("gallery").replaceChildren(...clips.map((clip) => {
    const card = Object.assign(document.createElement("button"), { type: "button", className: "card", value: clip.name });
    const poster = Object.assign(document.createElement("img"), { src: `/web/${clip.poster}`, alt: "", width: 160, height: 90, loading: "lazy" });
    const [title, shows] = ["strong", "span"].map((tag) => document.createElement(tag));
    [title.textContent, shows.textContent] = [clip.title, clip.shows];
    card.append(poster, title, shows);
    card.setAttribute("aria-pressed", "false");
    card.addEventListener("click", () => onChoose(clip.name));
    const item = document.createElement("li");
    item.append(card);
    return item;
  }));
}

/** Marks the clip that is open, or none. */
export function showChosen(name) {
  for (const card of document.querySelectorAll("#gallery button")) card.setAttribute("aria-pressed", card.value === name);
}
