/**
 * The browser client of TAM-VT Serve: one ES module, no dependencies. Copy it, or import it from
 * a running service (`import { Client } from "https://host/web/tamvt.js"`).
 *
 *     const client = new Client("https://host");
 *     const session = await client.start(image, [{ id: 1, label: "cup", box: [20, 30, 80, 90] }]);
 *     const stream = session.stream({ mode: "latest", onMasks: (m) => draw(m.objects, m.timestamp) });
 *     for await (const picture of pictures(video)) await stream.send(await encodeFrame(picture));
 *
 * `video` is a <video> (a file or a camera), or any async iterable of WebCodecs `VideoFrame`s. An
 * object is `{id, label?, rle | polygons | box}`; sizes are [height, width]; boxes [x, y, w, h].
 */

const [PROTOCOL, HEADER_BYTES, MAX_WAIT_MS] = ["tamvt.v1", 16, 10_000];
const [MOST_KEPT, MOST_KEPT_BYTES] = [1000, 64_000_000]; // of frames that are not committed
const BROWSER_S = 20; // far longer than a browser takes: some never say that they are done
const isFinal = (code) => code === 1000 || code === 1008 || (code >= 4000 && code < 5000); // all else is tried again

/** An error that the service explained (RFC 9457): status, type, detail, expected, limit. */
export class Problem extends Error {
  constructor(members) {
    super(members.detail || members.title || `HTTP ${members.status}`);
    this.name = "Problem";
    Object.assign(this, members);
  }
  get slug() { return String(this.type ?? "").split("/").pop(); } // its name in docs/api.md
}

/** What the promise gives; an Error that says what took too long, where it gives nothing. */
export function within(seconds, what, promise) {
  let timer;
  const error = new Error(`${what} took more than ${seconds} seconds.`);
  const late = new Promise((_, reject) => { timer = setTimeout(reject, seconds * 1000, error); });
  return Promise.race([promise, late]).finally(() => clearTimeout(timer));
}

/** One binary message: a header (u8 kind, u8 flags, u16 0, u32 frame, u64 timestamp) and an image. */
export function packFrame(frame, timestamp, image) {
  const message = new Uint8Array(HEADER_BYTES + image.byteLength);
  const header = new DataView(message.buffer);
  header.setUint8(0, 1); // the kind: an image
  header.setUint32(4, frame);
  header.setBigUint64(8, BigInt(Math.round(timestamp)));
  message.set(new Uint8Array(image), HEADER_BYTES);
  return message.buffer;
}

/** The runs in COCO's compressed text, column by column, the first one of background. */
export function readRuns(counts) {
  const runs = [];
  for (let at = 0; at < counts.length; ) {
    let [value, shift, code] = [0, 0, 0];
    do {
      code = counts.charCodeAt(at++) - 48;
      if (!(code >= 0 && code < 64)) throw new RangeError("the RLE is damaged");
      value += (code & 31) * 2 ** shift;
      shift += 5;
    } while (code & 32);
    if (code & 16) value -= 2 ** shift;
    runs.push(runs.length > 2 ? value + runs[runs.length - 2] : value);
  }
  return runs;
}

/** The text that `readRuns` reads; equal to pycocotools', character by character. */
export function writeRuns(runs) {
  let text = "";
  runs.forEach((run, index) => {
    let value = index > 2 ? run - runs[index - 2] : run;
    for (let more = true; more; value >>= 5) {
      more = value < -16 || value > 15;
      text += String.fromCharCode((value & 31) + (more ? 32 : 0) + 48);
    }
  });
  return text;
}

/** Writes `id` into a label map (Uint8Array, row by row) wherever the mask of the RLE is. */
export function fillRle(labels, { size: [height, width], counts }, id) {
  let [place, inside] = [0, false];
  for (const run of readRuns(counts)) {
    const end = place + run;
    if (run < 0 || end > height * width) throw new RangeError("the RLE does not fit its size");
    for (let at = place; inside && at < end; at++) labels[(at % height) * width + Math.floor(at / height)] = id;
    [place, inside] = [end, !inside];
  }
  if (place !== height * width) throw new RangeError("the RLE does not fill its size");
}

/** The mask of an RLE: Uint8Array of 0 and 1, row by row. */
export function decodeRle(rle) {
  return labelMap([{ id: 1, area: 1, rle }], rle.size);
}

/** The RLE of the pixels of a label map, or of a mask (id 1), that have the value `id`. */
export function encodeRle(labels, [height, width], id = 1) {
  const runs = [];
  let [run, inside] = [0, false];
  for (let column = 0; column < width; column++) {
    for (let row = 0, at = column; row < height; row++, at += width) {
      if ((labels[at] === id) !== inside) {
        runs.push(run);
        [run, inside] = [0, !inside];
      }
      run++;
    }
  }
  runs.push(run);
  return { size: [height, width], counts: writeRuns(runs) };
}

/** All objects of an answer in one Uint8Array of ids; where masks overlap, the lowest id wins. */
export function labelMap(objects, [height, width]) {
  const labels = new Uint8Array(height * width);
  for (const { id, rle } of objects.filter(({ area }) => area > 0).sort((a, b) => b.id - a.id)) fillRle(labels, rle, id);
  return labels;
}

/** A JPEG Blob of anything that can be drawn: <video>, VideoFrame, ImageBitmap, canvas. */
export async function encodeFrame(picture, { width, height, quality = 0.92 } = {}) {
  width ??= picture.videoWidth ?? picture.displayWidth ?? picture.width;
  height ??= picture.videoHeight ?? picture.displayHeight ?? picture.height;
  const canvas = new OffscreenCanvas(width, height);
  canvas.getContext("2d").drawImage(picture, 0, 0, width, height);
  return within(BROWSER_S, "Encoding a picture", canvas.convertToBlob({ type: "image/jpeg", quality }));
}

/** The pictures of a playing <video>, or of an async iterable of VideoFrames, as they come. */
export async function* pictures(source, { signal } = {}) {
  const frames = source instanceof HTMLVideoElement ? presented(source, signal) : source;
  for await (const picture of frames) {
    if (signal?.aborted) return;
    try { yield picture; } finally { picture.close?.(); }
  }
}

async function* presented(video, signal) {
  while (!video.ended && !signal?.aborted) {
    const heard = new AbortController(); // as an option: its signal takes the listeners away
    const shown = await new Promise((resolve) => {
      video.requestVideoFrameCallback(() => resolve(true));
      for (const [target, name] of [[video, "ended"], [signal, "abort"]]) {
        target?.addEventListener(name, () => resolve(false), heard);
      }
    });
    heard.abort();
    if (shown) yield video;
  }
}

/** A service. `key` (an API key or a token) and `headers` go with every request; an answer takes `deadlineS` at most. */
export class Client {
  constructor(url = globalThis.location?.origin, { key, headers = {}, deadlineS = 60 } = {}) {
    Object.assign(this, { url: url.replace(/\/$/, ""), key, headers, deadlineS });
  }

  /** The Response of a request; a Problem where the service refuses. */
  async call(path, options = {}) {
    const headers = { ...(this.key && { Authorization: `Bearer ${this.key}` }), ...this.headers, ...options.headers };
    const signal = AbortSignal.timeout(this.deadlineS * 1000); // it bounds the answer's body too
    const response = await fetch(new URL(path, `${this.url}/`), { signal, ...options, headers });
    if (response.ok) return response;
    const members = await response.json().catch(() => ({}));
    throw new Problem({ status: response.status, title: response.statusText, ...members });
  }

  json(path, options) { return this.call(path, options).then((response) => response.json()); }
  /** A new session: `image` is its frame 0, `objects` what is followed; `state.notes` tell what was cut off. */
  async start(image, objects, options = {}) {
    const body = form({ frame: image, objects: JSON.stringify(objects), options: JSON.stringify(options) });
    return new Session(this, await this.json("v1/sessions", { method: "POST", body }));
  }

  async open(id) { return new Session(this, await this.json(`v1/sessions/${encodeURIComponent(id)}`)); }

  /** The caller's sessions, however many pages that takes. */
  async *sessions() {
    let next = "v1/sessions";
    while (next) {
      const page = await this.json(next);
      yield* page.sessions;
      next = page.next;
    }
  }

  /** `{rle, area, bbox, score, parts, warnings, made_by}`: what a box, or `{points, strokes, box, polygon, previous}`, means. */
  async refine(image, prompt) {
    const body = form({ image });
    for (const [name, value] of Object.entries(Array.isArray(prompt) ? { box: prompt } : prompt)) {
      if (value) body.append(name, JSON.stringify(value));
    }
    return this.json("v1/masks/refine", { method: "POST", body });
  }
}

/** One video being tracked; `state` is what the service last said of it. */
export class Session {
  constructor(client, state) {
    Object.assign(this, { client, state, id: state.session_id });
    this.path = `v1/sessions/${encodeURIComponent(this.id)}`;
  }

  /** The masks of the next images; safe to call again if the answer was lost. */
  async append(images, { firstFrame }) {
    const body = new FormData();
    for (const image of images) body.append("frames", image);
    const answer = await this.client.json(`${this.path}/clips?first_frame=${firstFrame}`, { method: "POST", body });
    this.state = { ...this.state, next_frame: answer.next_frame };
    return answer;
  }

  /** Corrects or adds objects on the newest frame; the frame's masks, and `notes` as of a start. */
  async correct(objects) {
    const body = form({ objects: JSON.stringify(objects) });
    return this.client.json(`${this.path}/objects`, { method: "PUT", body });
  }

  /** A new session as this one was at `frame`, to correct it and go on; `image(n)` gives what is sent again. */
  async rewind(frame, image) {
    const session = new Session(this.client, await this.client.json(`${this.path}/fork?at=${frame}`, { method: "POST" }));
    try {
      for (let n = session.state.next_frame, clip = []; n <= frame; n++) {
        clip.push(await image(n));
        if (clip.length < session.state.clip_length && n < frame) continue;
        await session.append(clip.splice(0), { firstFrame: session.state.next_frame });
      }
    } catch (error) {
      await session.delete().catch(() => {}); // what cannot be deleted expires
      throw error;
    }
    return session;
  }

  async remove(objectId) {
    await this.client.call(`${this.path}/objects/${objectId}`, { method: "DELETE" });
    this.state = { ...this.state, objects: this.state.objects.filter(({ id }) => id !== objectId) };
  }

  /** Stored masks, frame by frame, however many pages that takes. */
  async *masks({ from = 0, to } = {}) {
    let next = `${this.path}/masks?from=${from}${to === undefined ? "" : `&to=${to}`}`;
    while (next) {
      const page = await this.client.json(next);
      yield* page.frames;
      next = page.next;
    }
  }

  /** Stored masks as Blobs of ZIPs with palette PNGs, at most 500 frames each. */
  async *zips() {
    let next = `${this.path}/masks?format=png`;
    while (next) {
      const response = await this.client.call(next);
      yield response.blob();
      next = /<([^>]+)>; *rel="next"/.exec(response.headers.get("Link") ?? "")?.[1];
    }
  }

  delete() { return this.client.call(this.path, { method: "DELETE" }); }
  stream(options) { return new Stream(this, options); }
}

/**
 * Frames out, masks back, over a WebSocket that resumes by itself (docs/stream.md).
 *
 * `mode: "lossless"` answers every frame, and `send` waits for a credit; `"latest"` answers the
 * newest. `onMasks({frame, timestamp, objects, timing})` hears of each frame once (`timestamp` is
 * null if it was answered before a reconnection), `onDropped(frames)` of those passed over, `onState`
 * of "open", "waiting", "closed", `onStats` of the service once a second (docs/stream.md). `opened`
 * settles with the first connection, `done` when it is over; both reject with what went wrong. A
 * service silent for `silentS` is connected to again. With `durableS` (0.5 to 5) it commits at most
 * so often, in seconds; frames are kept until then, and sent again after a failure.
 */
export class Stream {
  #socket; #credits = 0; #wakeups = []; #kept = new Map(); #queue = [];
  #sent = new Set(); #last; #failures = 0; #met = false; #ready = false; #ending = false;
  #committed = Infinity; #over = false; #silence; #opened = Promise.withResolvers(); #done = Promise.withResolvers();

  constructor(session, { mode = "lossless", from, maxWaitMs = 50, durableS, retries = 8, silentS = 30, onMasks, onDropped, onState, onStats } = {}) {
    Object.assign(this, { session, mode, maxWaitMs, durableS, retries, silentS, onMasks, onDropped, onState, onStats });
    this.nextFrame = session.state.next_frame;
    this.#last = (from ?? this.nextFrame) - 1;
    [this.opened, this.done] = [this.#opened.promise, this.#done.promise];
    for (const promise of [this.opened, this.done]) promise.catch(() => {}); // asking is optional
    this.#connect();
  }

  /** Sends an image (Blob); its number, once it is on its way. Await it before the next one. */
  async send(image, { timestamp } = {}) {
    const bytes = await within(BROWSER_S, "Reading a picture", image.arrayBuffer());
    await this.opened;
    while (!this.#over && !this.#maySend()) await new Promise((wake) => this.#wakeups.push(wake));
    if (this.#over) throw await this.done.then(() => new Error("the stream is closed"), (error) => error);
    const frame = this.nextFrame++;
    if (this.mode === "latest" && this.durableS == null) this.#forget([...this.#kept.keys()]);
    this.#kept.set(frame, packFrame(frame, timestamp ?? performance.now() * 1000, bytes));
    this.#queue.push(frame);
    this.#pump();
    return frame;
  }

  /** No frame follows; resolves when every frame has its masks. */
  end() { this.#ending = true; this.#pump(); return this.done; }

  /** Leaves at once; the session can be resumed. */
  close(error) {
    if (this.#over) return;
    this.#over = true;
    clearTimeout(this.#silence);
    this.#socket?.close(1000);
    this.#opened.reject(error ?? new Error("the stream is closed"));
    if (error) this.#done.reject(error); else this.#done.resolve();
    this.#wake();
    this.onState?.("closed");
  }

  async #connect() {
    try {
      const { path, client } = this.session;
      const { ticket } = await client.json(`${path}/tickets`, { method: "POST" });
      if (this.#over) return;
      const url = new URL(`${path}/stream`, `${client.url.replace(/^http/, "ws")}/`);
      const from = Math.min(this.#last, this.durableS != null ? this.#committed : Infinity) + 1; // the rest may be gone
      const wanted = { ticket, mode: this.mode, from, max_wait_ms: this.maxWaitMs };
      if (this.durableS != null) wanted.durable = `interval:${+this.durableS.toFixed(6)}`;
      if (this.onStats) wanted.stats = true;
      url.search = new URLSearchParams(wanted);
      this.#socket = new WebSocket(url, [PROTOCOL]);
      this.#socket.onmessage = ({ data }) => { this.#listen(); this.#receive(JSON.parse(data)); };
      this.#socket.onclose = ({ code, reason }) => this.#lost(new Error(reason || `closed (${code})`), isFinal(code));
      this.#listen();
    } catch (error) { this.#lost(error, error instanceof Problem && error.status < 500); }
  }

  /** Hangs up where something is waited for and nothing comes: a cut network closes no socket. */
  #listen() {
    clearTimeout(this.#silence);
    this.#silence = setTimeout(() => {
      if (this.#over || (this.#ready && !this.#kept.size)) return;
      Object.assign(this.#socket, { onmessage: null, onclose: null }).close();
      this.#lost(new Error(`The service said nothing for ${this.silentS} seconds.`), false);
    }, this.silentS * 1000);
  }

  /** Tries again after a wait drawn from a growing range, so that clients do not return together. */
  #lost(error, final) {
    if (this.#over) return;
    if (final || this.#failures >= (this.#met ? this.retries : 2)) return this.close(this.problem ?? error);
    [this.#credits, this.#ready] = [0, false];
    this.onState?.("waiting");
    setTimeout(() => this.#over || this.#connect(), Math.random() * Math.min(MAX_WAIT_MS, 250 * 2 ** this.#failures++));
  }

  #receive(message) {
    if (message.type === "ready") this.#begin(message);
    else if (message.type === "masks") this.#deliver(message);
    else if (message.type === "dropped") this.#pass(message.frames);
    else if (message.type === "durable") this.#commit(message.frame);
    else if (message.type === "stats") this.onStats?.(message);
    else if (message.type === "error") this.problem = new Problem(message.problem);
    else if (message.type === "bye" && message.reason === "end") this.close();
  }

  #begin({ next_frame, credits }) {
    this.nextFrame = this.#met ? Math.max(this.nextFrame, next_frame) : next_frame;
    this.#met = this.#ready = true;
    [this.#failures, this.problem, this.#committed] = [0, undefined, next_frame - 1];
    this.#sent.clear();
    if (this.mode === "latest") {
      const passed = [...this.#kept.keys()].slice(0, -1);
      this.#forget(passed.filter((frame) => !this.#flags(frame)[0]));
    }
    this.#queue = [...this.#kept.keys()].filter((frame) => frame >= next_frame);
    this.#opened.resolve();
    this.onState?.("open");
    this.#gain(credits ?? Infinity);
  }

  /** The flags of a frame that is kept: 1 is sent again in the clip in which it was answered, 3 the end of that. */
  #flags(frame) { return new Uint8Array(this.#kept.get(frame), 1, 1); }

  #forget(frames) { for (const frame of frames) this.#kept.delete(frame); }

  /** The frames up to this one survive a failure. */
  #commit(last) {
    this.#committed = last;
    this.#forget([...this.#kept.keys()].filter((frame) => frame <= last && !this.#queue.includes(frame)));
    this.#wake();
  }

  #deliver(message) {
    const { frame, clip, durable } = message;
    if (this.durableS == null) this.#forget([frame]);
    else {
      for (let at = clip[0]; at <= clip[1]; at++) {
        if (this.#kept.has(at)) this.#flags(at)[0] = at < clip[1] ? 1 : 3;
      }
      this.#commit(durable);
    }
    if (frame > this.#last) {
      this.#last = frame;
      this.#socket.send(`{"type":"ack","frame":${frame}}`);
      this.onMasks?.(message);
    }
    if (this.#sent.delete(frame)) this.#gain(1); // a replayed frame took no credit
  }

  #pass(frames) {
    this.#forget(frames);
    this.#last = Math.max(this.#last, ...frames);
    this.onDropped?.(frames);
  }

  #gain(credits) { this.#credits += credits; this.#pump(); this.#wake(); }

  #isFull() {
    const bytes = [...this.#kept.values()].reduce((sum, { byteLength }) => sum + byteLength, 0);
    return this.#kept.size >= MOST_KEPT || bytes >= MOST_KEPT_BYTES;
  }

  #maySend() {
    if (!this.#ready || (this.durableS != null && this.#isFull())) return false;
    if (this.mode === "lossless") return this.#credits > 0 && this.#queue.length === 0;
    if (this.#socket.bufferedAmount === 0) return true;
    setTimeout(() => this.#wake(), 4); // what waits in the browser would only grow old there
    return false;
  }

  #pump() {
    if (!this.#ready) return;
    while (this.#queue.length && this.#credits > 0) {
      const frame = this.#queue.shift();
      this.#credits--;
      this.#sent.add(frame);
      this.#socket.send(this.#kept.get(frame));
      this.#listen();
    }
    if (!this.#ending || this.#queue.length) return;
    this.#ready = false; // "end" is the last word, and said once
    this.#socket.send('{"type":"end"}');
  }

  #wake() { this.#wakeups.splice(0).forEach((wake) => wake()); }
}

function form(parts) {
  const body = new FormData();
  for (const [name, part] of Object.entries(parts)) body.append(name, part);
  return body;
}
