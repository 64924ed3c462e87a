/** The desk: what a person draws and points at on one frame, before it is tracked. */

import { inspect } from "./contours.js";
import { Drawing } from "./drawing.js";
import { NOTHING_THERE, explained, nextStep, pointed, warned } from "./messages.js";
import { $, say } from "./view.js";

/** `bench` tells what is shown and tracked; the pen calls what begins with `on`. */
export class Desk {
  drawing = null; drawnAt = 0; tool = "point"; radius = 12;

  constructor(bench) {
    this.bench = bench;
  }

  get id() {
    return this.bench.things.chosen;
  }

  get edited() {
    return Boolean(this.drawing?.changed);
  }

  /** What the pen shows of the frame: where its object was pointed at. */
  get touches() {
    return this.drawing && this.drawnAt === this.bench.shown ? this.drawing.touches.filter(({ id }) => id === this.id) : [];
  }

  mayDraw() {
    const { bench } = this;
    return bench.isCalm && (this.edited ? bench.shown === this.drawnAt : bench.isEditable(bench.shown));
  }

  /** The drawing of the frame that is shown; begun with what is known of it. */
  begin() {
    const { source, shown, things } = this.bench;
    if (!this.drawing || this.drawnAt !== shown) {
      this.drawing = new Drawing(source.size, this.bench.labelsAt(shown), { isLocked: (id) => id !== things.chosen && things.isLocked(id) });
      this.drawnAt = shown;
    }
    return this.drawing;
  }

  clear() {
    this.drawing = null;
  }

  onChange() {
    this.bench.viewer.paint();
    this.bench.render();
  }

  /** A stroke or a polygon is done: is it any good? */
  onDrawn() {
    const { drawing, id } = this;
    if (!drawing) return;
    const warning = warned(inspect(drawing.labels, drawing.size, id), drawing.size);
    if (warning) say(warning);
  }

  onTool(name) {
    this.tool = name;
    document.querySelector(`[name=tool][value=${name}]`).checked = true;
    this.bench.pen.cancel();
    this.bench.render();
  }

  onSize(factor) {
    $("size").value = String(Math.round(this.radius * 2 * factor));
    $("size").dispatchEvent(new Event("input"));
  }

  onUndo() {
    if (this.edited && this.mayDraw()) { this.drawing.undo(); this.onChange(); } else this.bench.corrections.undo();
  }

  onRedo() {
    if (!this.drawing?.hasUndone || !this.mayDraw()) return;
    this.drawing.redo();
    this.onChange();
  }

  erase() {
    this.begin().mark();
    this.drawing.erase(this.id);
    this.drawing.touches = this.drawing.touches.filter(({ id }) => id !== this.id);
    this.onChange();
  }

  onBox(box) {
    return this.bench.attempt(() => this.#point({ box }));
  }

  /** A click, or a stroke over what is meant: points [x0, y0, x1, y1, ...], label 1 or 0. */
  onTouch(touch) {
    return this.bench.attempt(() => this.#point({ touches: [touch] }));
  }

  /** The clicks that come with a clip of the gallery. */
  async pointAll(objects) {
    for (const { id, points } of objects) {
      this.bench.things.chosen = id;
      await this.#point({ touches: points.map(([x, y, label]) => ({ points: [x, y], label })) });
    }
  }

  /** Asks the service for the mask that is meant, and makes it the object's. */
  async #point({ touches = [], box }) {
    const [{ bench, id }, drawing] = [this, this.begin()];
    const all = [...drawing.touches.filter((touch) => touch.id === id), ...touches];
    const previous = drawing.rle(id);
    say("Looking for the outline …");
    const prompt = { strokes: all.length ? all.map(({ points, label }) => ({ points, label })) : null, box, previous };
    const found = await bench.client.refine(await bench.encoded(this.drawnAt), prompt).catch((error) => {
      throw error.slug === "no-objects" ? new Error(NOTHING_THERE) : error;
    });
    drawing.mark();
    drawing.touches = [...drawing.touches, ...touches.map((touch) => ({ ...touch, id }))];
    drawing.replace(found.rle, id);
    bench.viewer.paint();
    say(found.warnings[0] ?? pointed(nextStep(bench).label));
  }

  /** Says why the pen draws nothing, and brings the frame on which it does. */
  explain() {
    const { bench } = this;
    if (this.mayDraw() || !bench.isCalm) return;
    if (this.edited) bench.viewer.show(this.drawnAt);
    say(this.edited ? "Your drawing is on this frame: track it, or take it back." : explained(new Error("This frame is not tracked yet. Continue, or draw on one that is.")));
  }
}
