/** The workbench: one video, its sessions, and what a person does with them. */

import { encodeFrame } from "./tamvt.js";
import { dropBookmark, noteTracking, readBookmark, wasTracking, writeBookmark } from "./bookmark.js";
import { Corrections } from "./corrections.js";
import { Desk } from "./desk.js";
import { Figures } from "./figures.js";
import { showChosen } from "./gallery.js";
import { Leg } from "./legs.js";
import { KeyedClient } from "./key.js";
import { CHANGED_THERE, OPEN_THERE, explained, hint, nextStep, outcome, progress, spots } from "./messages.js";
import { Objects } from "./objects.js";
import { Pen } from "./pen.js";
import { Results } from "./results.js";
import { CameraSource, ImageSource, VideoSource } from "./sources.js";
import { Tabs } from "./tabs.js";
import { Timeline } from "./timeline.js";
import { Tracking } from "./tracking.js";
import { $, ObjectList, say, showFigures, showKind, showSpots, showPrimary, showTransport } from "./view.js";
import { Viewer } from "./viewer.js";

const STATES = { human: "drawn", visible: "visible", lost: "lost", dropped: "skipped" };

export class Bench {
  client = new KeyedClient(); things = new Objects(); figures = new Figures(); clips = []; clip = null;
  forward = null; backward = null; corrections = new Corrections(this);
  tracking = null; still = null; busy = false; start = 0; options = {}; #encoded = null;
  look = { opacity: 0.35, effect: "none", colorOf: (id) => this.things.colorOf(id), isHidden: (id) => this.things.isHidden(id) };

  constructor() {
    this.results = this.#noResults();
    this.desk = new Desk(this);
    this.viewer = new Viewer({ labelsAt: (n) => this.labelsAt(n), onShown: () => { this.pen.show(); this.render(); }, look: this.look });
    this.timeline = new Timeline($("timeline"));
    this.pen = new Pen($("marks"), this.desk, this.viewer.stage);
    this.viewer.onView = () => this.pen.show();
    this.tabs = new Tabs({
      own: () => this.session?.id,
      onOther: () => say(OPEN_THERE),
      onChange: (id) => { history.replaceState(null, "", `#session=${id}`); say(CHANGED_THERE); },
    });
    const change = (act) => (...given) => { act(...given); this.viewer.paint(); this.pen.show(); this.render(); };
    this.list = new ObjectList($("objects"), {
      onChoose: change((id) => { this.things.chosen = id; }),
      onName: change((id, name) => { this.names.set(id, name); }),
      onColor: change((id, color) => this.things.recolor(id, color)),
      onHide: change((id) => this.things.hide(id)),
      onLock: change((id) => this.things.lock(id)),
      onRemove: (id) => this.attempt(() => this.removeObject(id)),
    });
  }

  get source() {
    return this.viewer.source;
  }

  get shown() {
    return this.viewer.shown;
  }

  get names() {
    return this.things.names;
  }

  get session() {
    return this.forward?.session ?? null;
  }

  get legs() {
    return [this.forward, this.backward].filter(Boolean);
  }

  get edited() {
    return this.desk.edited;
  }

  get drawing() {
    return this.desk.drawing;
  }

  get previewing() {
    return Boolean(this.source?.live && !this.still);
  }

  /** Nothing moves, and nothing is waited for. */
  get isCalm() {
    return Boolean(this.source) && !this.previewing && !this.busy && !this.tracking && !this.viewer.playing;
  }

  get remaining() {
    return this.legs.some((leg) => leg.left(this.source) > 0);
  }

  /** The frame of a correction is not the newest: what follows it is tracked once more. */
  get rewinds() {
    return Boolean(this.session) && this.edited && !this.legs.some((leg) => leg.newest === this.desk.drawnAt);
  }

  /** Whether frame n can be drawn on: any before tracking, then any that is tracked. */
  isEditable(n) {
    if (!this.session) return true;
    return this.legs.some((leg) => (this.source.live ? leg.newest === n : leg.has(n)));
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
      this.pen.show();
    }
  }

  // The video

  async choose(kind, files, { quiet = false } = {}) {
    const open = {
      clip: () => this.#openClip(files),
      video: () => VideoSource.open(files[0], { name: files[0].name }),
      images: () => ImageSource.open(files),
      camera: () => CameraSource.open(),
    };
    if (!quiet) say("Opening …");
    const source = await open[kind](); // where it fails, what is open stays
    this.#use(source);
    await this.again({ quiet });
    if (source.notice) say(`${source.notice} ${hint(this)}`);
  }

  /** A clip of the gallery, by its name; the first one, where there is none of it. */
  async #openClip(name) {
    const clip = this.clips.find((each) => each.name === name) ?? this.clips[0];
    const blob = await (await this.client.call(`web/${clip.video}`)).blob();
    return VideoSource.open(blob, { name: clip.name, kind: "clip" });
  }

  #use(source) {
    this.tracking?.pause();
    this.viewer.stop();
    this.viewer.use(source);
    this.pen.resize(source.size);
    this.#encoded = null;
    this.clip = source.kind === "clip" ? this.clips.find(({ name }) => name === source.name) : null;
    showKind(source.kind);
    showChosen(this.clip?.name);
    $("credits").textContent = this.clip?.credits ?? "";
  }

  #noResults() {
    return new Results({ kept: (object) => this.names.has(object) });
  }

  /** Forgets the session, keeps the video. */
  async again({ quiet = false } = {}) {
    if (this.session) dropBookmark(this.session.id);
    this.tracking?.pause();
    noteTracking(null);
    this.desk.clear();
    history.replaceState(null, "", this.clip ? `#clip=${this.clip.name}` : location.pathname);
    const names = this.clip ? this.clip.objects.map(({ id, label }) => [id, label]) : [[1, ""]];
    Object.assign(this, { tracking: null, forward: null, backward: null, still: null, start: 0 });
    Object.assign(this, { things: new Objects(new Map(names)), figures: new Figures() });
    this.results = this.#noResults();
    this.corrections.forget();
    $("both").checked = Boolean(this.clip?.start);
    this.showSpots([]);
    if (this.source.live) this.viewer.preview(() => this.previewing);
    else await this.viewer.show(this.clip?.start ?? 0);
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
    if (this.drawing && n === this.desk.drawnAt) return this.drawing.labels;
    return this.results.labels(n - this.start, this.source.size);
  }

  objects() {
    const drawn = this.drawing && this.shown === this.desk.drawnAt ? this.drawing.ids() : [];
    const known = new Map(this.results.frames.get(this.shown - this.start)?.map(({ id, state }) => [id, STATES[state]]));
    return this.things.list((id) => (this.edited && drawn.includes(id) ? "drawn" : known.get(id)) ?? "");
  }

  render() {
    const { source, shown } = this;
    const idle = Boolean(source) && !this.busy && !this.tracking;
    const objects = this.objects();
    this.list.show(objects, { chosen: this.things.chosen, locked: !idle });
    showPrimary(nextStep(this));
    showTransport({ shown, count: source?.count ?? 0, playing: Boolean(this.viewer.playing || this.tracking), enabled: Boolean(source) && !this.previewing });
    showFigures(this.figures, Math.max(0, this.results.frames.size - 1));
    const { frames, revision } = this.results;
    this.timeline.show(frames, objects, { start: this.start, count: source?.count ?? 1, revision });
    $("restart").hidden = !this.session;
    $("both-ways").hidden = Boolean(this.session || !source || source.live || !shown);
    $("undo").disabled = !(idle && (this.edited || this.corrections.past));
    $("redo").disabled = !(idle && this.drawing?.hasUndone);
    $("clear").disabled = !(idle && this.edited);
    $("suggest").hidden = !(this.clip && !this.session && !this.edited);
    $("files").hidden = !this.session;
    for (const name of ["zip", "coco", "film", "annotations"]) $(name).disabled = !(idle && this.session);
    $("marks").toggleAttribute("data-off", !this.desk.mayDraw());
    $("brush-size").hidden = !["brush", "eraser"].includes(this.desk.tool);
  }

  // Objects

  addObject() {
    this.things.add((id) => this.results.knows(id));
    this.render();
    this.pen.show();
  }

  async removeObject(id) {
    for (const leg of this.legs) {
      if (!leg.session.state.objects.some((object) => object.id === id)) continue;
      await leg.session.remove(id);
      await this.readMasks(leg, leg.session.state.next_frame - 1);
    }
    this.things.remove(id);
    this.results.sift();
    if (this.session) this.tabs.changed(this.session.id, this.session.id);
    this.drawing?.erase(id);
    this.viewer.paint();
  }

  /** The prompt that comes with a clip of the gallery. */
  suggest() {
    return this.attempt(async () => {
      await this.viewer.show(this.clip.start);
      await this.desk.pointAll(this.clip.objects);
      say("Press Track.");
    });
  }

  // Tracking

  /** Frame n as it is sent; the last one is kept, since clicks ask for it again. */
  async encoded(n) {
    if (this.#encoded?.n === n) return this.#encoded.image;
    const [height, width] = this.source.size;
    const image = this.still && n === 0 ? this.still : await encodeFrame(await this.source.picture(n), { height, width });
    this.#encoded = { n, image };
    return image;
  }

  async open() {
    const { drawing, drawnAt: start } = this.desk;
    const image = await this.encoded(start);
    const objects = drawing.objects(drawing.ids().filter((id) => this.names.has(id)), this.names);
    this.forward = new Leg({ session: await this.client.start(image, objects, this.options), start });
    this.start = start;
    await this.readMasks(this.forward, 0);
    if (this.source.live) return;
    if (start && $("both").checked) this.backward = new Leg({ session: await this.client.start(image, objects, this.options), start, direction: -1 });
    await this.bookmark();
  }

  bookmark(instead) {
    const { kind, name, rate, files } = this.source;
    history.replaceState(null, "", `#session=${this.session.id}`);
    return writeBookmark({ session: this.session.id, back: this.backward?.session.id, kind, name, rate, start: this.start, files }, instead);
  }

  /** A session's masks from its frame k on, as the service keeps them. */
  async readMasks(leg, k) {
    for await (const { frame, objects } of leg.session.masks({ from: k })) this.results.put(frame * leg.direction, objects);
  }

  /** The one button: take a picture, track, pause, correct, go on. */
  async act() {
    if (this.tracking) return this.tracking.pause();
    this.viewer.stop();
    await this.attempt(async () => {
      if (this.previewing) return this.takeStill();
      this.pen.cancel();
      const isNew = !this.session;
      if (isNew) await this.open(); else if (this.edited) await this.corrections.make();
      this.desk.clear();
      if (this.remaining) this.track();
      else if (isNew) this.tell(null, []);
      else say("Corrected.");
    });
  }

  async track() {
    const [{ source, figures }, leftOut] = [this, []];
    let [trouble, leg] = [null, null];
    this.showSpots([]);
    say("Tracking …");
    noteTracking(this.session.id);
    for (leg of this.legs.filter((each) => each.left(source) > 0)) {
      const tracking = this.#trackingOf(leg, leftOut);
      this.tracking = tracking;
      trouble = await tracking.run().then(() => null, (error) => error);
      figures.rest();
      if (this.tracking !== tracking) return; // another video was chosen meanwhile
      if (trouble || tracking.paused) break;
    }
    this.tracking = null;
    noteTracking(null);
    if (trouble?.message !== "replaced") this.tabs.changed(this.session.id, this.session.id);
    await this.attempt(() => this.viewer.show(leg.newest));
    this.tell(trouble, leftOut);
  }

  #trackingOf(leg, leftOut) {
    const current = (act) => (...given) => { if (this.tracking === tracking) act(...given); };
    const tracking = new Tracking({ source: this.source, leg,
      onState: current((state) => { if (state === "waiting") say("The connection is lost; trying again …"); }),
      onMasks: current((answer, picture) => this.answered(leg, answer, picture)),
      onDropped: (count) => { this.figures.dropped += count; },
      onLeftOut: (error) => { leftOut.push(error.message); this.bookmark(); },
    });
    return tracking;
  }

  /** Says how tracking ended, and shows where to look. */
  tell(trouble, leftOut) {
    const [{ frames }, objects] = [this.results, this.objects()];
    const { text, wrong } = outcome(frames, objects, { trouble, leftOut, remaining: this.remaining, damage: this.source.damage });
    say(text, { wrong });
    this.showSpots(spots(frames, objects, { start: this.start }));
  }

  showSpots(found) {
    showSpots(found, (frame) => this.attempt(() => this.seek(frame)));
  }

  answered(leg, { frame, objects, timestamp, timing }, picture) {
    this.results.put(frame * leg.direction, objects);
    const { session } = leg;
    session.state = { ...session.state, next_frame: Math.max(session.state.next_frame, frame + 1) };
    if (timestamp !== null) this.figures.count({ sent: timestamp / 1000, timing, ahead: !this.source.live });
    if (!this.source.live) say(progress(this.legs.reduce((sum, each) => sum + each.left(this.source), 0), this.figures.rate));
    if (picture) this.viewer.show(leg.at(frame), picture);
  }

  /** Goes on with the session that the address names, on the video that this browser kept. */
  async resume(id) {
    const kept = await readBookmark(id);
    if (!kept) throw new Error("The video of this session is not on this device.");
    const session = await this.client.open(id);
    const back = kept.back && (await this.client.open(kept.back));
    if (kept.kind === "clip") this.#use(await this.#openClip(kept.name));
    else if (kept.kind === "images") this.#use(await ImageSource.open(kept.files, kept));
    else this.#use(await VideoSource.open(kept.files[0], kept));
    const { start } = kept;
    this.things = new Objects(new Map(session.state.objects.map(({ id: object, label }) => [object, label ?? ""])));
    Object.assign(this, { start, forward: new Leg({ session, start }), backward: back ? new Leg({ session: back, start, direction: -1 }) : null });
    for (const leg of this.legs) await this.readMasks(leg, 0);
    await this.viewer.show(this.forward.newest);
    say(this.remaining ? "Back where you were. Continue, or correct any frame." : "Back where you were.");
    this.tabs.opened(id);
    if (wasTracking(id) && this.remaining) { this.track(); return; } // nobody paused it
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
