/** The page: what its controls do. Everything begins here. */

import { Bench } from "./bench.js";
import { saveAs, saveCoco, saveMasks } from "./downloads.js";
import { saveFilm } from "./film.js";
import { showGallery } from "./gallery.js";
import { explained } from "./messages.js";
import { $, say } from "./view.js";

export const bench = new Bench();

function openFiles(kind, files) {
  if (files.length) bench.attempt(() => bench.choose(kind, files));
}

for (const button of $("kinds").children) {
  button.addEventListener("click", () => {
    if (button.value === "video") $("video-file").click();
    else if (button.value === "images") $("image-files").click();
    else bench.attempt(() => bench.choose(button.value));
  });
}

for (const [id, kind] of [["video-file", "video"], ["image-files", "images"]]) {
  $(id).addEventListener("change", () => {
    openFiles(kind, [...$(id).files]);
    $(id).value = "";
  });
}
// A phone has photographs, not folders.
$("image-files").webkitdirectory = !matchMedia("(pointer: coarse)").matches;

$("stage").addEventListener("dragover", (event) => event.preventDefault());
$("stage").addEventListener("drop", (event) => {
  event.preventDefault();
  const files = [...event.dataTransfer.files];
  openFiles(files[0]?.type.startsWith("video/") ? "video" : "images", files);
});

$("primary").addEventListener("click", () => bench.act());
$("restart").addEventListener("click", () => bench.attempt(() => bench.again()));
$("add").addEventListener("click", () => bench.addObject());
$("suggest").addEventListener("click", () => bench.suggest());
$("undo").addEventListener("click", () => bench.desk.onUndo());
$("redo").addEventListener("click", () => bench.desk.onRedo());
$("clear").addEventListener("click", () => bench.desk.erase());
$("zoom-in").addEventListener("click", () => bench.viewer.stage.step(1));
$("zoom-out").addEventListener("click", () => bench.viewer.stage.step(-1));
$("zoom-fit").addEventListener("click", () => bench.viewer.stage.fit());
$("play").addEventListener("click", () => told(bench.play()));
$("seek").addEventListener("input", () => told(bench.seek(Number($("seek").value))));
$("zip").addEventListener("click", () => bench.attempt(() => saved("masks", saveMasks)));
$("coco").addEventListener("click", () => bench.attempt(() => saved("annotations", saveCoco)));
$("annotations").addEventListener("click", () => bench.attempt(() => {
  const format = $("format").value;
  return format === "alpha" ? film({ alpha: true }) : saved("annotations", saveAs, { format });
}));
$("film").addEventListener("click", () => bench.attempt(film));
$("marks").addEventListener("pointerdown", () => bench.desk.explain());

for (const tool of document.getElementsByName("tool")) {
  const take = () => { if (tool.checked) bench.desk.onTool(tool.value); };
  tool.addEventListener("change", take);
  addEventListener("pageshow", take);
}

function readLook() {
  bench.desk.radius = Number($("size").value) / 2;
  $("size-shown").textContent = $("size").value;
  $("opacity-shown").textContent = `${$("opacity").value} %`;
  bench.look.opacity = Number($("opacity").value) / 100;
  bench.look.effect = $("effect").value;
  bench.viewer.paint();
}

for (const name of ["size", "opacity", "effect"]) $(name).addEventListener("input", readLook);
addEventListener("pageshow", readLook); // after a reload the browser puts controls back as they were

addEventListener("resize", () => bench.render());

$("to-videos").addEventListener("click", () => {
  document.querySelector(".videos").scrollIntoView({ behavior: "smooth" });
  $("kinds").firstElementChild.focus({ preventScroll: true });
});
$("help-open").addEventListener("click", () => $("help").showModal());
$("help-close").addEventListener("click", () => $("help").close());
$("help").addEventListener("click", ({ target }) => { if (target === $("help")) $("help").close(); }); // beside it
addEventListener("keydown", ({ key, target }) => {
  if (key === "?" && !target.matches("input[type=text], input[type=password]")) $("help").showModal();
});

/** Says what went wrong while somebody looked. */
function told(looking) {
  return looking.catch((error) => say(explained(error), { wrong: true }));
}

async function saved(what, save, options = {}) {
  const onProgress = (share) => say(`Writing the ${what}: ${Math.round(share * 100)} %`);
  await save(bench, { ...options, onProgress });
  say(`The ${what} are saved.`);
}

async function film({ alpha = false } = {}) {
  const onProgress = (share) => say(`Writing the video: ${Math.round(share * 100)} %`);
  await saveFilm(bench, { alpha, onProgress });
  say("The video is saved.");
  await bench.seek(bench.shown);
}

/** Lets a person choose among these models; of one there is no choice. */
function offer(names) {
  $("model").textContent = names.length > 1 ? "" : names[0];
  $("models").hidden = names.length < 2;
  $("models").append(...names.map((name) => new Option(name)));
  $("models").addEventListener("change", () => {
    bench.options = { model: $("models").value };
    if (bench.session) say(`Press Start over to track with ${bench.options.model}.`);
  });
}

/** Opens what the address names, `#session=ID` or `#clip=NAME`; else the first clip. */
async function begin() {
  const { models } = await bench.client.json("v1/models");
  offer(models.filter((model, n) => !n || !model.experimental).map((model) => model.name));
  bench.clips = await bench.client.json("web/gallery/gallery.json");
  showGallery(bench.clips, (name) => bench.attempt(() => bench.choose("clip", name)));
  const [, kind, name] = /^#(session|clip)=(.+)$/.exec(location.hash) ?? [];
  const open = () => (kind === "session" ? bench.resume(decodeURIComponent(name)) : bench.choose("clip", name));
  await bench.attempt(open);
  if (!bench.source) await bench.attempt(() => bench.choose("clip", "", { quiet: true }));
}

told(begin());
