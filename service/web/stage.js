/** The stage: how large the picture is shown, which part of it, and where a pointer is on it. */

const [MOST, STEP] = [12, 1.25];
const EDGE_PX = 24; // the cross of the keyboard is seen whole

/**
 * `onView()` hears of every change of what is seen. Wheel and pinch zoom around where they are; two
 * fingers, the middle button, or the wheel with Shift (sideways) or Alt (up and down), move the picture.
 */
export class Stage {
  zoom = 1; #left = 0; #top = 0; #size = [9, 16]; #fingers = new Map();

  constructor({ stage, picture, overlay, marks, onView }) {
    Object.assign(this, { stage, picture, overlay, marks, onView });
    marks.addEventListener("wheel", (event) => this.#wheel(event), { passive: false });
    for (const name of ["pointerdown", "pointermove", "pointerup", "pointercancel"]) {
      marks.addEventListener(name, (event) => this.#finger(event), { capture: true });
    }
    new ResizeObserver(() => this.#apply()).observe(stage);
  }

  use(size) {
    this.#size = size;
    const [height, width] = size;
    Object.assign(this.picture, { height, width });
    this.stage.style.aspectRatio = `${width} / ${height}`;
    this.stage.style.maxWidth = `calc(var(--tallest) * ${width / height})`;
    this.fit();
  }

  get isMoving() {
    return this.#fingers.size > 1;
  }

  /** CSS pixels of the screen for one of the picture. */
  get scale() {
    return (this.stage.clientWidth / this.#size[1]) * this.zoom;
  }

  /** The picture's place [x, y] under an event; pixel centers are whole numbers. */
  place({ clientX, clientY }) {
    const area = this.stage.getBoundingClientRect();
    return [(clientX - area.left - this.#left) / this.scale - 0.5, (clientY - area.top - this.#top) / this.scale - 0.5];
  }

  /** Where on the stage a place [x, y] of the picture is, in CSS pixels. */
  #spot([x, y]) {
    return [(x + 0.5) * this.scale + this.#left, (y + 0.5) * this.scale + this.#top];
  }

  /** Moves the picture as far as it takes to see a place of it. */
  reveal(place) {
    const { clientWidth, clientHeight } = this.stage;
    const missing = (at, length) => Math.max(0, EDGE_PX - at) + Math.min(0, length - EDGE_PX - at);
    const [x, y] = this.#spot(place);
    this.move(missing(x, clientWidth), missing(y, clientHeight));
  }

  fit() {
    this.zoom = 1;
    this.#apply();
  }

  /** Zooms in (1) or out (-1) around a place of the picture, by default what is in the middle. */
  step(direction, place) {
    const around = place ? this.#spot(place) : [this.stage.clientWidth / 2, this.stage.clientHeight / 2];
    this.#zoomTo(this.zoom * STEP ** direction, ...around);
  }

  move(right, down) {
    this.#left += right;
    this.#top += down;
    this.#apply();
  }

  /** Makes a canvas as large as the screen shows it, and its context count in the picture's pixels. */
  prepare(canvas) {
    const dots = globalThis.devicePixelRatio || 1;
    const [width, height] = [Math.round(this.stage.clientWidth * dots), Math.round(this.stage.clientHeight * dots)];
    if (canvas.width !== width || canvas.height !== height) Object.assign(canvas, { width, height });
    const context = canvas.getContext("2d");
    context.setTransform(1, 0, 0, 1, 0, 0);
    context.clearRect(0, 0, width, height);
    context.setTransform(this.scale * dots, 0, 0, this.scale * dots, this.#left * dots, this.#top * dots);
    return { context, dot: 1 / this.scale };
  }

  #zoomTo(zoom, x, y) {
    const before = this.zoom;
    this.zoom = Math.min(Math.max(zoom, 1), MOST);
    const share = this.zoom / before;
    this.#left = x - (x - this.#left) * share;
    this.#top = y - (y - this.#top) * share;
    this.#apply();
  }

  #apply() {
    const { clientWidth, clientHeight } = this.stage;
    this.#left = Math.min(0, Math.max(this.#left, clientWidth * (1 - this.zoom)));
    this.#top = Math.min(0, Math.max(this.#top, clientHeight * (1 - this.zoom)));
    this.picture.style.transform = this.zoom === 1 ? "" : `translate(${this.#left}px, ${this.#top}px) scale(${this.zoom})`;
    this.onView();
  }

  #wheel(event) {
    if (!event.ctrlKey && this.zoom === 1 && event.deltaY > 0) return; // the page scrolls
    event.preventDefault();
    const { deltaX, deltaY, shiftKey, altKey, ctrlKey } = event;
    if (altKey) return this.move(0, -deltaY);
    if (!ctrlKey && (shiftKey || Math.abs(deltaX) > Math.abs(deltaY))) return this.move(-(deltaX || deltaY), 0);
    const area = this.stage.getBoundingClientRect();
    this.#zoomTo(this.zoom * Math.exp(-event.deltaY / 400), event.clientX - area.left, event.clientY - area.top);
  }

  /** Two fingers, or the middle button, are no pen. */
  #finger(event) {
    const { pointerId, clientX, clientY } = event;
    const before = this.#fingers.get(pointerId);
    const wasMoving = this.isMoving;
    if (event.type === "pointerdown" && (event.pointerType === "touch" || event.button === 1)) this.#fingers.set(pointerId, [clientX, clientY]);
    else if (event.type === "pointermove" && before) {
      if (this.isMoving) this.#pinch(pointerId, before, [clientX, clientY]);
      else if (event.pointerType === "mouse") this.move(clientX - before[0], clientY - before[1]);
      this.#fingers.set(pointerId, [clientX, clientY]);
    } else if (event.type === "pointerup" || event.type === "pointercancel") this.#fingers.delete(pointerId);
    const isMouse = event.pointerType === "mouse" && (before || event.button === 1);
    if (isMouse || this.isMoving || wasMoving) {
      event.stopImmediatePropagation();
      event.preventDefault();
      if (this.isMoving && !wasMoving) this.marks.dispatchEvent(new Event("pinch")); // what one finger began is no stroke
    }
  }

  #pinch(moved, before, now) {
    const [, other] = [...this.#fingers].find(([id]) => id !== moved);
    const distance = ([x, y]) => Math.max(20, Math.hypot(x - other[0], y - other[1]));
    const area = this.stage.getBoundingClientRect();
    const middle = [(now[0] + other[0]) / 2 - area.left, (now[1] + other[1]) / 2 - area.top];
    this.move((now[0] - before[0]) / 2, (now[1] - before[1]) / 2);
    this.#zoomTo(this.zoom * (distance(now) / distance(before)), ...middle);
  }
}
