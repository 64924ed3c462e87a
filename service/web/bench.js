/** The workbench: one video, one session, and what a person does with them. */

import { Client, encodeFrame } from "./tamvt.js";
import { dropBookmark, readBookmark, writeBookmark } from "./bookmark.js";
import { Drawing } from "./drawing.js";
import { Figures } from "./figures.js";
import { explained, hint, nextStep, outcome, spots } from "./messages.js";
import { Pen } from "./pen.js";
import { Results } from "./results.js";
import { CameraSource, ImageSource, VideoSource } from "./sources.js";
import { Timeline } from "./timeline.js";
import { Tracking } from "./tracking.js";
import { $, ObjectList, say, showFigures, showKind, showSpots, showPrimary, showTransport } from "./view.js";
import { Viewer } from "./viewer.js";

const STATES = { human: "drawn", visible: "visible", lost: "lost", dropped: "skipped" };

export class Bench {
  client = new Client();
  session = null; drawing = null; tracking = null; still = null; sample = null; busy = false;
  names = new Map([[1, ""]]); chosen = 1; figures = new Figures();
  results = new Results({ kept: (id) => this.names.has(id) });
  start = 0; drawnAt = 0; options = {}; tool = "brush"; radius = 12;

  constructor() {
    this.viewer = new Viewer({ labelsAt: (n) => this.labelsAt(n), onShown: () => this.render() });
    this.timeline = new Timeline($("timeline"));
    this.pen = new Pen($("marks"), this);
    this.list = new ObjectList($("objects"), {
      onChoose: (id) => { this.chosen = id; this.render(); },
      onName: (id, name) => { this.names.set(id, name); this.render(); },
      onRemove: (id) => this.attempt(() => this.removeObject(id)),
    });
  }

  get source() {
    return this.viewer.source;
  }

  get shown() {
    return this.viewer.shown;
  }

  /** The session's newest frame. */
  get newest() {
    return this.session.state.next_frame - 1;
  }

  /** The frame, counted as the video counts, that can be drawn on. */
  get editable() {
    if (this.session) return this.start + this.newest;
    return this.edited ? this.drawnAt : this.shown;
  }

  get id() {
    return this.chosen;
  }

  get previewing() {
    return Boolean(this.source?.live && !this.still);
  }

  get edited() {
    return Boolean(this.drawing?.changed);
  }

  get remaining() {
    return Boolean(this.session) && (this.source.live || this.start + this.newest < this.source.count - 1);
  }

  set opacity(share) {
    this.viewer.painter.opacity = share;
    if (this.source) this.viewer.paint();
  }

  /** Runs what a person asked for; says so where it fails. */
  async attempt(act) {
    if (this.busy) return;
    this.busy = true;
    this.render();
    try {
      await act();
    } catch (error) {
      say(explained(error), { wrong: true });
    } finally {
      this.busy = false;
      this.render();
    }
  }

  // The video

  async choose(kind, files, { quiet = false } = {}) {
    const open = {
      sample: () => this.openSample(),
      video: () => VideoSource.open(files[0], { name: files[0].name }),
      images: () => ImageSource.open(files),
      camera: () => CameraSource.open(),
    };
    if (!quiet) say("Opening …");
    const source = await open[kind](); // where it fails, what is open stays
    this.use(source);
    await this.again({ quiet });
    if (source.notice) say(`${source.notice} ${hint(this)}`);
  }

  async openSample() {
    this.sample = await this.client.json("web/sample.json");
    const blob = await (await this.client.call("web/sample.webm")).blob();
    return VideoSource.open(blob, { name: "sample", kind: "sample" });
  }

  use(source) {
    this.tracking?.pause();
    this.viewer.stop();
    this.viewer.use(source);
    this.pen.resize(source.size);
    showKind(source.kind);
    $("credits").textContent = source.kind === "sample" ? this.sample.credits : "";
  }

  /** Forgets the session, keeps the video. */
  async again({ quiet = false } = {}) {
    if (this.session) dropBookmark();
    this.tracking?.pause();
    this.tracking = null;
    history.replaceState(null, "", location.pathname);
    const { id, label } = this.source.kind === "sample" ? this.sample.object : { id: 1, label: "" };
    Object.assign(this, { session: null, drawing: null, still: null, start: 0, chosen: id });
    Object.assign(this, { names: new Map([[id, label]]), figures: new Figures() });
    this.results = new Results({ kept: (object) => this.names.has(object) });
    this.showSpots([]);
    if (this.source.live) this.viewer.preview(() => this.previewing);
    else await this.viewer.show(0);
    if (!quiet) say(hint(this));
  }

  async takeStill() {
    const [height, width] = this.source.size;
    this.still = await encodeFrame(this.source.video, { height, width });
    this.source.record(0, this.still);
    await this.viewer.show(0);
    say(hint(this));
  }

  // What is seen

  labelsAt(n) {
    if (this.drawing && n === this.drawnAt) return this.drawing.labels;
    return this.results.labels(n - this.start, this.source.size);
  }

  nameOf(id) {
    return this.names.get(id) || `Object ${id}`;
  }

  objects() {
    const drawn = this.drawing && this.shown === this.drawnAt ? this.drawing.ids() : null;
    const known = new Map(this.results.frames.get(this.shown - this.start)?.map(({ id, state }) => [id, STATES[state]]));
    return [...this.names.keys()].sort((a, b) => a - b).map((id) => ({
      id,
      name: this.nameOf(id),
      state: (this.edited && drawn?.includes(id) ? "drawn" : known.get(id)) ?? "",
    }));
  }

  render() {
    const { source, shown } = this;
    const idle = Boolean(source) && !this.busy && !this.tracking;
    const objects = this.objects();
    this.list.show(objects, { chosen: this.chosen, locked: !idle });
    showPrimary(nextStep(this));
    showTransport({ shown, count: source?.count ?? 0, playing: Boolean(this.viewer.playing || this.tracking), enabled: Boolean(source) && !this.previewing });
    showFigures(this.figures, Math.max(0, this.results.frames.size - 1));
    const { frames, revision } = this.results;
    this.timeline.show(frames, objects, { start: this.start, count: source?.count ?? 1, revision });
    $("restart").hidden = !this.session;
    $("undo").disabled = $("clear").disabled = !(idle && this.edited);
    $("suggest").hidden = !(source?.kind === "sample" && !this.session && shown === 0 && !this.edited);
    $("files").hidden = !this.session;
    for (const name of ["zip", "coco", "film", "annotations"]) $(name).disabled = !(idle && this.session);
    $("marks").toggleAttribute("data-off", !this.mayDraw());
  }

  // Drawing: this is the pen's desk

  mayDraw() {
    const calm = !this.previewing && !this.busy && !this.tracking && !this.viewer.playing;
    return Boolean(this.source) && calm && this.shown === this.editable;
  }

  /** The drawing of the frame that is shown; begun with what is known of it. */
  begin() {
    if (!this.drawing || this.drawnAt !== this.shown) {
      this.drawing = new Drawing(this.source.size, this.labelsAt(this.shown));
      this.drawnAt = this.shown;
    }
    return this.drawing;
  }

  onChange() {
    this.viewer.paint();
    this.render();
  }

  onTool(name) {
    this.tool = name;
    document.querySelector(`[name=tool][value=${name}]`).checked = true;
    this.pen.cancel();
  }

  onSize(factor) {
    $("size").value = String(Math.round(this.radius * 2 * factor));
    $("size").dispatchEvent(new Event("input"));
  }

  onUndo() {
    if (!this.edited || !this.mayDraw()) return;
    this.drawing.undo();
    this.onChange();
  }

  clear() {
    this.begin().mark();
    this.drawing.erase(this.chosen);
    this.onChange();
  }

  onBox(box) {
    return this.attempt(async () => {
      say("Looking for the outline …");
      const { rle } = await this.client.refine(await this.encoded(this.shown), box);
      this.outline(rle);
      say("The brush and the eraser correct the outline.");
    });
  }

  outline(rle) {
    this.begin().mark();
    this.drawing.replace(rle, this.chosen);
    this.onChange();
  }

  suggest() {
    this.outline(this.sample.object.rle);
    say("Press Track.");
  }

  /** Says why the pen draws nothing, and brings the frame on which it does. */
  explain() {
    if (this.mayDraw() || this.busy || this.tracking || this.viewer.playing || this.previewing) return;
    this.viewer.show(this.editable);
    say(this.session ? "Corrections go on the newest frame: here it is." : "Your drawing is on this frame.");
  }

  addObject() {
    const free = Array.from({ length: 254 }, (_, k) => k + 1).find((id) => !this.names.has(id) && !this.results.knows(id));
    this.names.set(free, "");
    this.chosen = free;
    this.render();
  }

  async removeObject(id) {
    if (this.session?.state.objects.some((object) => object.id === id)) {
      await this.session.remove(id);
      await this.readMasks(this.newest);
    }
    this.names.delete(id);
    this.results.sift();
    this.drawing?.erase(id);
    if (!this.names.size) this.names.set(1, "");
    if (this.chosen === id) this.chosen = this.names.keys().next().value;
    this.viewer.paint();
  }

  // Tracking

  async encoded(n) {
    const [height, width] = this.source.size;
    return encodeFrame(await this.source.picture(n), { height, width });
  }

  async open() {
    const image = this.still ?? (await this.encoded(this.drawnAt));
    const ids = this.drawing.ids().filter((id) => this.names.has(id));
    this.session = await this.client.start(image, this.drawing.objects(ids, this.names), this.options);
    this.start = this.drawnAt;
    await this.readMasks(0);
    if (this.source.live) return;
    history.replaceState(null, "", `#session=${this.session.id}`);
    await this.bookmark();
  }

  bookmark() {
    const { kind, name, rate, files } = this.source;
    return writeBookmark({ session: this.session.id, kind, name, rate, start: this.start, files });
  }

  /** The session's masks from a frame on, as the service keeps them. */
  async readMasks(from) {
    for await (const { frame, objects } of this.session.masks({ from })) this.results.put(frame, objects);
  }

  async correct() {
    const ids = this.drawing.changedIds().filter((id) => this.names.has(id));
    if (!ids.length) throw new Error("An object needs a pixel: paint it, or remove it from the list.");
    await this.session.correct(this.drawing.objects(ids, this.names));
    this.drawing = null;
    await this.readMasks(this.newest);
    await this.viewer.show(this.start + this.newest);
  }

  /** The one button: take a picture, track, pause, correct, go on. */
  async act() {
    if (this.tracking) return this.tracking.pause();
    this.viewer.stop();
    await this.attempt(async () => {
      if (this.previewing) return this.takeStill();
      this.pen.cancel();
      const isNew = !this.session;
      if (isNew) await this.open(); else if (this.edited) await this.correct();
      this.drawing = null;
      if (this.remaining) this.track();
      else if (isNew) this.tell(null, []);
      else say("Corrected.");
    });
  }

  async track() {
    const { source, session, start, figures } = this;
    const current = (act) => (...given) => { if (this.tracking === tracking) act(...given); };
    const leftOut = [];
    const tracking = new Tracking({ source, session, start,
      onState: current((state) => say({ waiting: "The connection is lost; trying again …" }[state] ?? "Tracking …")),
      onMasks: current((answer, picture) => this.answered(answer, picture)),
      onDropped: (count) => { figures.dropped += count; },
      onLeftOut: (error) => { leftOut.push(error.message); this.bookmark(); },
    });
    this.tracking = tracking;
    this.showSpots([]);
    say("Tracking …");
    const trouble = await tracking.run().then(() => null, (error) => error);
    figures.rest();
    if (this.tracking !== tracking) return; // another video was chosen meanwhile
    this.tracking = null;
    await this.attempt(() => this.viewer.show(start + this.newest));
    this.tell(trouble, leftOut);
  }

  /** Says how tracking ended, and shows where to look. */
  tell(trouble, leftOut) {
    const [{ frames }, objects] = [this.results, this.objects()];
    const { text, wrong } = outcome(frames, objects, { trouble, leftOut, remaining: this.remaining });
    say(text, { wrong });
    this.showSpots(spots(frames, objects, { start: this.start }));
  }

  showSpots(found) {
    showSpots(found, (frame) => this.attempt(() => this.seek(frame)));
  }

  answered({ frame, objects, timestamp, timing }, picture) {
    this.results.put(frame, objects);
    const next = Math.max(this.session.state.next_frame, frame + 1);
    this.session.state = { ...this.session.state, next_frame: next };
    if (timestamp !== null) this.figures.count({ latency: performance.now() - timestamp / 1000, inference: timing.inference_ms });
    if (picture) this.viewer.show(this.start + frame, picture);
  }

  /** Goes on with the session that the address names, on the video that this browser kept. */
  async resume(id) {
    const kept = await readBookmark();
    if (kept?.session !== id) throw new Error("The video of this session is not on this device.");
    const session = await this.client.open(id);
    if (kept.kind === "sample") this.use(await this.openSample());
    else if (kept.kind === "images") this.use(await ImageSource.open(kept.files, kept));
    else this.use(await VideoSource.open(kept.files[0], kept));
    this.names = new Map(session.state.objects.map(({ id: object, label }) => [object, label ?? ""]));
    Object.assign(this, { session, start: kept.start, chosen: this.names.keys().next().value });
    await this.readMasks(0);
    await this.viewer.show(this.start + this.newest);
    say(this.remaining ? "Back where you were. Continue, or correct this frame." : "Back where you were.");
    this.showSpots(spots(this.results.frames, this.objects(), { start: this.start }));
  }

  // Playing

  async play() {
    if (this.tracking) return this.tracking.pause();
    this.pen.cancel();
    await this.viewer.play();
  }

  async seek(n) {
    this.viewer.stop();
    this.pen.cancel();
    if (this.tracking) this.tracking.pause();
    else await this.viewer.show(n);
  }
}
