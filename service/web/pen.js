/** Pointer and keys on the stage, turned into clicks, strokes, polygons and boxes. */

const TOOL_KEYS = { a: "point", s: "spare", b: "brush", e: "eraser", p: "polygon", x: "box" };
const isTouch = (tool) => tool === "point" || tool === "spare";
const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
const CLOSE_PX = 12;
const CLICK_PX = 4; // a pen that moved less has clicked
const MOST_POINTS = 40; // of a stroke that is pointed with

/**
 * `desk` says what to draw with and hears of it: `tool`, `radius`, `id`, `touches`, `mayDraw()`,
 * `begin()`, `onChange()`, `onDrawn()`, `onBox([x, y, w, h])`, `onTouch({points, label})`,
 * `onTool(name)`, `onSize(factor)`, `onUndo()`, `onRedo()`. `stage` knows where the pointer is.
 */
export class Pen {
  #canvas; #desk; #stage; #size = [9, 16]; #at = null; #last = null; #corners = []; #box = null; #touch = null; #keyed = false;

  constructor(canvas, desk, stage) {
    [this.#canvas, this.#desk, this.#stage] = [canvas, desk, stage];
    const on = (name, act) => canvas.addEventListener(name, act);
    on("pointerdown", (event) => this.#down(event));
    on("pointermove", (event) => this.#move(event));
    on("pointerup", (event) => this.#up(event));
    on("pointercancel", () => this.cancel());
    on("pinch", () => this.cancel());
    on("pointerleave", () => { if (!this.#last) { this.#at = null; this.show(); } });
    on("dblclick", () => this.#closePolygon());
    on("keydown", (event) => this.#key(event));
    on("blur", () => { this.#keyed = false; this.show(); });
  }

  resize(size) {
    this.#size = size;
    this.cancel();
  }

  /** Forgets what is half drawn. */
  cancel() {
    if (this.#last) this.#desk.begin().undo(); // a stroke that two fingers began
    this.#last = this.#box = this.#touch = null;
    this.#corners = [];
    this.show();
  }

  #down(event) {
    if (event.button !== 0 || !this.#desk.mayDraw()) return;
    this.#canvas.setPointerCapture(event.pointerId);
    this.#keyed = false;
    this.#at = this.#stage.place(event);
    this.#press({ spare: event.altKey });
  }

  #move(event) {
    if (!this.#desk.mayDraw()) return;
    const moves = event.getCoalescedEvents?.() ?? [];
    for (const move of moves.length ? moves : [event]) this.#go(this.#stage.place(move));
    if (this.#last) this.#desk.onChange(); // once, however many moves the browser has put together
    this.show();
  }

  #up(event) {
    if (this.#last || this.#box || this.#touch) this.#go(this.#stage.place(event));
    this.#lift();
  }

  /** The pen touches the picture. */
  #press({ spare = false } = {}) {
    const { tool } = this.#desk;
    if (tool === "polygon") return this.#addCorner();
    if (isTouch(tool)) this.#touch = { points: [...this.#at], label: tool === "spare" || spare ? 0 : 1 };
    else if (tool === "box") this.#box = [this.#at, this.#at];
    else {
      this.#desk.begin().mark();
      this.#last = this.#at;
      this.#stroke(this.#at);
      this.#desk.onChange();
    }
    this.show();
  }

  #go(to) {
    this.#at = to;
    if (this.#box) this.#box[1] = to;
    if (this.#touch) this.#drag(to);
    if (this.#last) this.#stroke(to);
  }

  #drag([x, y]) {
    const { points } = this.#touch;
    if (Math.hypot(x - points.at(-2), y - points.at(-1)) * this.#stage.scale >= CLICK_PX) points.push(x, y);
    if (points.length > 2 * MOST_POINTS) this.#touch.points = points.filter((_, k) => k % 4 < 2 || k >= points.length - 2);
  }

  #stroke(to) {
    const { tool, radius, id } = this.#desk;
    this.#desk.begin().stroke(this.#last, to, radius, tool === "eraser" ? 0 : id);
    this.#last = to;
  }

  #lift() {
    const [box, touch, stroke] = [this.#box, this.#touch, this.#last];
    this.#last = this.#box = this.#touch = null;
    if (box) this.#giveBox(box);
    if (touch) this.#desk.onTouch({ ...touch, points: this.#inside(touch.points) });
    if (stroke) { this.#desk.onChange(); this.#desk.onDrawn(); }
    this.show();
  }

  #inside(points) {
    const most = this.#size.map((side) => side - 1);
    return points.map((value, k) => Math.min(Math.max(value, 0), most[(k + 1) % 2]));
  }

  #giveBox([[x0, y0], [x1, y1]]) {
    const [height, width] = this.#size;
    const bound = (value, most) => Math.round(Math.min(Math.max(value + 0.5, 0), most));
    const [left, right] = [bound(Math.min(x0, x1), width), bound(Math.max(x0, x1), width)];
    const [top, bottom] = [bound(Math.min(y0, y1), height), bound(Math.max(y0, y1), height)];
    if (right - left >= 4 && bottom - top >= 4) this.#desk.onBox([left, top, right - left, bottom - top]);
  }

  #addCorner() {
    const first = this.#corners[0];
    const near = first && Math.hypot(first[0] - this.#at[0], first[1] - this.#at[1]) * this.#stage.scale < CLOSE_PX;
    if (near && this.#corners.length > 2) return this.#closePolygon();
    this.#corners.push(this.#at);
    this.show();
  }

  #closePolygon() {
    if (this.#corners.length > 2) {
      this.#desk.begin().mark();
      this.#desk.begin().polygon(this.#corners, this.#desk.id);
      this.#desk.onChange();
      this.#desk.onDrawn();
    }
    this.#corners = [];
    this.show();
  }

  #key(event) {
    const { key } = event;
    if ((event.ctrlKey || event.metaKey) && key === "y") this.#desk.onRedo();
    else if ((event.ctrlKey || event.metaKey) && key.toLowerCase() === "z") this.#desk[event.shiftKey ? "onRedo" : "onUndo"]();
    else if (event.ctrlKey || event.metaKey || event.altKey) return;
    else if (TOOL_KEYS[key.toLowerCase()]) this.#desk.onTool(TOOL_KEYS[key.toLowerCase()]);
    else if (key === "[" || key === "]") this.#desk.onSize(key === "]" ? 1.25 : 0.8);
    else if (key === "Escape") this.cancel();
    else if (key === "+" || key === "=" || key === "-") this.#stage.step(key === "-" ? -1 : 1, this.#keyed ? this.#at : null);
    else if (key === "0") this.#stage.fit();
    else if (!this.#desk.mayDraw()) return;
    else if (ARROWS[key]) this.#step(ARROWS[key], event.shiftKey ? 20 : 4);
    else if (key === " ") this.#toggle();
    else if (key === "Enter") this.#closePolygon();
    else return;
    event.preventDefault();
  }

  #step([right, down], pixels) {
    const [height, width] = this.#size;
    const [x, y] = this.#at ?? [width / 2, height / 2];
    this.#keyed = true;
    this.#go([Math.min(Math.max(x + right * pixels, 0), width - 1), Math.min(Math.max(y + down * pixels, 0), height - 1)]);
    if (this.#last) this.#desk.onChange();
    this.#stage.reveal(this.#at);
    this.show();
  }

  #toggle() {
    this.#keyed = true;
    this.#at ??= [this.#size[1] / 2, this.#size[0] / 2];
    if (this.#last || this.#box || this.#touch) this.#lift();
    else if (isTouch(this.#desk.tool)) { this.#press(); this.#lift(); }
    else this.#press();
  }

  /** Draws the cross, the ring of the brush, what was pointed at, and what is half drawn. */
  show() {
    const { context, dot } = this.#stage.prepare(this.#canvas);
    const path = new Path2D();
    this.#trace(path, dot);
    // A light line on a dark one shows on any picture.
    for (const [width, color] of [[3.5, "rgb(0 0 0 / 0.55)"], [1.5, "#fff"]]) {
      Object.assign(context, { lineWidth: width * dot, strokeStyle: color, lineJoin: "round" });
      context.stroke(path);
    }
    for (const touch of [...this.#desk.touches, ...(this.#touch ? [this.#touch] : [])]) this.#pin(context, touch, dot);
  }

  /** Where something was pointed at: a plus for the object, a minus for what is not of it. */
  #pin(context, { points, label }, dot) {
    const line = new Path2D();
    for (let k = 0; k < points.length; k += 2) line.lineTo(points[k] + 0.5, points[k + 1] + 0.5);
    const color = label ? "#1fbf6b" : "#e5484d";
    Object.assign(context, { strokeStyle: color, lineWidth: 4 * dot, lineCap: "round", lineJoin: "round" });
    context.stroke(line);
    const [x, y] = [points[0] + 0.5, points[1] + 0.5];
    const disc = new Path2D();
    disc.arc(x, y, 7 * dot, 0, 7);
    Object.assign(context, { fillStyle: color, strokeStyle: "#fff", lineWidth: 1.75 * dot });
    context.fill(disc);
    context.stroke(disc);
    const sign = new Path2D();
    sign.moveTo(x - 3.2 * dot, y);
    sign.lineTo(x + 3.2 * dot, y);
    if (label) { sign.moveTo(x, y - 3.2 * dot); sign.lineTo(x, y + 3.2 * dot); }
    context.stroke(sign);
  }

  #trace(path, dot) {
    const spot = ([x, y]) => [x + 0.5, y + 0.5];
    this.#corners.forEach((corner, index) => {
      const [x, y] = spot(corner);
      if (index) path.lineTo(x, y); else path.moveTo(x, y);
    });
    if (this.#corners.length && this.#at) path.lineTo(...spot(this.#at));
    for (const corner of this.#corners) {
      const [x, y] = spot(corner);
      path.moveTo(x + 4 * dot, y);
      path.arc(x, y, 4 * dot, 0, 7);
    }
    if (this.#box) {
      const [[x0, y0], [x1, y1]] = this.#box.map(spot);
      path.rect(x0, y0, x1 - x0, y1 - y0);
    }
    if (!this.#at || !this.#desk.mayDraw()) return;
    const [x, y] = spot(this.#at);
    const { tool, radius } = this.#desk;
    if (tool === "brush" || tool === "eraser") {
      path.moveTo(x + radius, y);
      path.arc(x, y, radius, 0, 7);
    }
    if (!this.#keyed) return;
    for (const [right, down] of Object.values(ARROWS)) {
      path.moveTo(x + right * 4 * dot, y + down * 4 * dot);
      path.lineTo(x + right * 14 * dot, y + down * 14 * dot);
    }
  }
}
