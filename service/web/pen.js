/** Pointer and keys on the stage, turned into strokes, polygons and boxes of a drawing. */

const TOOL_KEYS = { b: "brush", e: "eraser", p: "polygon", x: "box" };
const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
const CLOSE_PX = 12;

/**
 * `desk` says what to draw with and hears of it: `tool`, `radius`, `id`, `mayDraw()`, `begin()`,
 * `onChange()`, `onBox([x, y, w, h])`, `onTool(name)`, `onSize(factor)`, `onUndo()`.
 */
export class Pen {
  #canvas; #context; #desk; #size = [9, 16]; #at = null; #last = null; #corners = []; #box = null; #keyed = false;

  constructor(canvas, desk) {
    this.#canvas = canvas;
    this.#context = canvas.getContext("2d");
    this.#desk = desk;
    const on = (name, act) => canvas.addEventListener(name, act);
    on("pointerdown", (event) => this.#down(event));
    on("pointermove", (event) => this.#move(event));
    on("pointerup", (event) => this.#up(event));
    on("pointercancel", () => this.cancel());
    on("pointerleave", () => { if (!this.#last) { this.#at = null; this.show(); } });
    on("dblclick", () => this.#closePolygon());
    on("keydown", (event) => this.#key(event));
    on("blur", () => { this.#keyed = false; this.show(); });
    new ResizeObserver(() => this.show()).observe(canvas);
  }

  resize(size) {
    this.#size = size;
    this.cancel();
  }

  /** Forgets what is half drawn. */
  cancel() {
    this.#last = this.#box = null;
    this.#corners = [];
    this.show();
  }

  #place(event) {
    const area = this.#canvas.getBoundingClientRect();
    const [height, width] = this.#size;
    return [((event.clientX - area.left) / area.width) * width - 0.5, ((event.clientY - area.top) / area.height) * height - 0.5];
  }

  #down(event) {
    if (event.button !== 0 || !this.#desk.mayDraw()) return;
    this.#canvas.setPointerCapture(event.pointerId);
    this.#keyed = false;
    this.#at = this.#place(event);
    this.#press();
  }

  #move(event) {
    if (!this.#desk.mayDraw()) return;
    const moves = event.getCoalescedEvents?.() ?? [];
    for (const move of moves.length ? moves : [event]) this.#go(this.#place(move));
    this.show();
  }

  #up(event) {
    if (this.#last || this.#box) this.#go(this.#place(event));
    this.#lift();
  }

  /** The pen touches the picture. */
  #press() {
    const { tool } = this.#desk;
    if (tool === "polygon") return this.#addCorner();
    if (tool === "box") this.#box = [this.#at, this.#at];
    else {
      this.#desk.begin().mark();
      this.#last = this.#at;
      this.#stroke(this.#at);
    }
    this.show();
  }

  #go(to) {
    this.#at = to;
    if (this.#box) this.#box[1] = to;
    if (this.#last) this.#stroke(to);
  }

  #stroke(to) {
    const { tool, radius, id } = this.#desk;
    this.#desk.begin().stroke(this.#last, to, radius, tool === "eraser" ? 0 : id);
    this.#last = to;
    this.#desk.onChange();
  }

  #lift() {
    const box = this.#box;
    this.#last = this.#box = null;
    if (box) this.#giveBox(box);
    this.show();
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
    const near = first && Math.hypot(first[0] - this.#at[0], first[1] - this.#at[1]) * this.#scale() < CLOSE_PX;
    if (near && this.#corners.length > 2) return this.#closePolygon();
    this.#corners.push(this.#at);
    this.show();
  }

  #closePolygon() {
    if (this.#corners.length > 2) {
      this.#desk.begin().mark();
      this.#desk.begin().polygon(this.#corners, this.#desk.id);
      this.#desk.onChange();
    }
    this.#corners = [];
    this.show();
  }

  #key(event) {
    const { key } = event;
    if ((event.ctrlKey || event.metaKey) && key === "z") this.#desk.onUndo();
    else if (event.ctrlKey || event.metaKey || event.altKey) return;
    else if (TOOL_KEYS[key.toLowerCase()]) this.#desk.onTool(TOOL_KEYS[key.toLowerCase()]);
    else if (key === "[" || key === "]") this.#desk.onSize(key === "]" ? 1.25 : 0.8);
    else if (key === "Escape") this.cancel();
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
    this.show();
  }

  #toggle() {
    this.#keyed = true;
    this.#at ??= [this.#size[1] / 2, this.#size[0] / 2];
    if (this.#last || this.#box) this.#lift();
    else this.#press();
  }

  #scale() {
    return this.#canvas.clientWidth / this.#size[1];
  }

  /** Draws the cross, the ring of the brush, and what is half drawn. */
  show() {
    const dots = globalThis.devicePixelRatio || 1;
    const { clientWidth, clientHeight } = this.#canvas;
    this.#canvas.width = clientWidth * dots;
    this.#canvas.height = clientHeight * dots;
    const scale = this.#scale() * dots;
    const spot = ([x, y]) => [(x + 0.5) * scale, (y + 0.5) * scale];
    const path = new Path2D();
    this.#trace(path, spot, scale, dots);
    // A light line on a dark one shows on any picture.
    for (const [width, color] of [[3.5, "rgb(0 0 0 / 0.55)"], [1.5, "#fff"]]) {
      Object.assign(this.#context, { lineWidth: width * dots, strokeStyle: color, lineJoin: "round" });
      this.#context.stroke(path);
    }
  }

  #trace(path, spot, scale, dots) {
    this.#corners.forEach((corner, index) => {
      const [x, y] = spot(corner);
      if (index) path.lineTo(x, y); else path.moveTo(x, y);
    });
    if (this.#corners.length && this.#at) path.lineTo(...spot(this.#at));
    for (const corner of this.#corners) {
      const [x, y] = spot(corner);
      path.moveTo(x + 4 * dots, y);
      path.arc(x, y, 4 * dots, 0, 7);
    }
    if (this.#box) {
      const [[x0, y0], [x1, y1]] = this.#box.map(spot);
      path.rect(x0, y0, x1 - x0, y1 - y0);
    }
    if (!this.#at || !this.#desk.mayDraw()) return;
    const [x, y] = spot(this.#at);
    if (this.#desk.tool === "brush" || this.#desk.tool === "eraser") {
      path.moveTo(x + this.#desk.radius * scale, y);
      path.arc(x, y, this.#desk.radius * scale, 0, 7);
    }
    if (!this.#keyed) return;
    for (const [right, down] of Object.values(ARROWS)) {
      path.moveTo(x + right * 4 * dots, y + down * 4 * dots);
      path.lineTo(x + right * 14 * dots, y + down * 14 * dots);
    }
  }
}
