/**
 * When each picture of a video file is shown, read from the file's own index: MP4 and MOV
 * (ISO/IEC 14496-12) and WebM (RFC 9559). Browsers tell a film's length, not its pictures.
 */

import { within } from "./tamvt.js";

const READ_S = 20;
const WINDOW = 1 << 20;
const MAX_INDEX = 64 << 20;
const MAX_PICTURES = 500_000;
const TEXT = (view, at) => String.fromCharCode(...new Uint8Array(view.buffer, view.byteOffset + at, 4));

/** Seconds of each picture in order, and how many more the index names that the file lacks; or null. */
export async function readFrameTimes(blob) {
  const file = new Bytes(blob);
  const head = await file.view(0, 12);
  if (head.byteLength < 12) return null;
  const read = head.getUint32(0) === 0x1a45dfa3 ? readWebm : TEXT(head, 4) === "ftyp" || TEXT(head, 4) === "moov" ? readMp4 : null;
  const found = await read?.(file).catch((error) => {
    if (error instanceof DOMException) throw error; // the file cannot be read at all
    return null; // its index is damaged
  });
  if (!found?.times.length) return null;
  found.times.sort((a, b) => a - b);
  return found;
}

/** Whether a file begins as an MP4 or MOV and has no whole index: it was not finished, or is cut off. */
export async function lacksIndex(blob) {
  const file = new Bytes(blob);
  for (let at = 0; at + 16 <= file.size; ) {
    const head = await file.view(at, 16);
    const size = head.getUint32(0) === 1 ? Number(head.getBigUint64(8)) : head.getUint32(0) || file.size - at;
    const kind = TEXT(head, 4);
    if (["moov", "moof"].includes(kind)) return at + size > file.size;
    if (size < 8 || (at === 0 && kind !== "ftyp")) return false;
    at += size;
  }
  return file.size >= 16;
}

/** A file in windows: what is skipped is never read. */
class Bytes {
  #start = 0; #window = new ArrayBuffer(0);

  constructor(blob) {
    this.blob = blob;
    this.size = blob.size;
  }

  /** A DataView of at most `length` bytes: less at the end of the file. */
  async view(at, length) {
    const end = Math.min(this.size, at + length);
    if (at < this.#start || end > this.#start + this.#window.byteLength) {
      this.#start = at;
      const part = this.blob.slice(at, Math.max(end, at + WINDOW));
      this.#window = await within(READ_S, "Reading the file", part.arrayBuffer());
    }
    return new DataView(this.#window, Math.min(at - this.#start, this.#window.byteLength), Math.max(0, end - at));
  }
}

// MP4: boxes of u32 size and four letters

/** The boxes within a view: `[letters, DataView of what they hold]`. */
function* boxes(view, at = 0) {
  while (at + 8 <= view.byteLength) {
    const long = view.getUint32(at) === 1;
    const size = long ? Number(view.getBigUint64(at + 8)) : view.getUint32(at) || view.byteLength - at;
    const head = long ? 16 : 8;
    if (size < head) return;
    yield [TEXT(view, at + 4), new DataView(view.buffer, view.byteOffset + at + head, Math.min(size, view.byteLength - at) - head)];
    at += size;
  }
}

function inside(view, ...path) {
  for (const letters of path) view = view && [...boxes(view)].find(([found]) => found === letters)?.[1];
  return view;
}

/** What the index tells; of a file that was written in fragments, what each of them tells. */
async function readMp4(file) {
  let [movie, times] = [null, []];
  for (let at = 0; at + 8 <= file.size && times.length < MAX_PICTURES; ) {
    const head = await file.view(at, 16);
    const size = head.getUint32(0) === 1 ? Number(head.getBigUint64(8)) : head.getUint32(0) || file.size - at;
    const content = ["moov", "moof"].includes(TEXT(head, 4)) && size <= MAX_INDEX ? await file.view(at + 8, size - 8) : null;
    if (content && TEXT(head, 4) === "moov") movie = readMovie(content, file.size);
    else if (content) times = times.concat(readFragment(content, movie));
    if (movie?.times.length) return movie;
    if (size < 8) return null;
    at += size;
  }
  return { times, missing: 0 };
}

/** The track with the most pictures: a cover has one. */
function readMovie(movie, fileSize) {
  const tracks = [...boxes(movie)].filter(([letters]) => letters === "trak").map(([, track]) => track);
  const films = tracks.filter((track) => TEXT(inside(track, "mdia", "hdlr") ?? new DataView(new ArrayBuffer(12)), 8) === "vide");
  const read = films.map((track) => ({ ...readTrack(track, fileSize), usual: usualStep(movie, track) }));
  return read.sort((a, b) => b.times.length - a.times.length)[0];
}

const trackId = (track) => {
  const view = inside(track, "tkhd");
  return view.getUint32(view.getUint8(0) ? 20 : 12);
};

/** How long a picture of a fragment stays that does not say so itself. */
function usualStep(movie, track) {
  const defaults = [...boxes(inside(movie, "mvex") ?? new DataView(new ArrayBuffer(0)))];
  const own = defaults.find(([letters, view]) => letters === "trex" && view.getUint32(4) === trackId(track));
  return own?.[1].getUint32(12) ?? 0;
}

function readFragment(fragment, { id, scale, begin, usual }) {
  const times = [];
  for (const [letters, part] of boxes(fragment)) {
    const head = letters === "traf" && inside(part, "tfhd");
    if (!head || head.getUint32(4) !== id) continue;
    const flags = head.getUint32(0);
    const step = flags & 8 ? head.getUint32(8 + (flags & 1 ? 8 : 0) + (flags & 2 ? 4 : 0)) : usual;
    const clock = inside(part, "tfdt");
    let at = clock.getUint8(0) ? Number(clock.getBigUint64(4)) : clock.getUint32(4);
    for (const [name, run] of boxes(part)) {
      if (name === "trun") at = readRun(run, { at, step }, (time) => times.push((time - begin) / scale));
    }
  }
  return times;
}

/** Tells the time of each picture of a run; gives the time at which the next run begins. */
function readRun(run, { at, step }, tell) {
  const flags = run.getUint32(0);
  let place = 8 + (flags & 1 ? 4 : 0) + (flags & 4 ? 4 : 0);
  for (let left = Math.min(run.getUint32(4), MAX_PICTURES); left > 0; left--) {
    const field = (bit) => (flags & bit ? (place += 4) - 4 : null);
    const [own, , , shift] = [0x100, 0x200, 0x400, 0x800].map(field);
    if (place > run.byteLength) break;
    tell(at + (shift === null ? 0 : run.getInt32(shift)));
    at += own === null ? step : run.getUint32(own);
  }
  return at;
}

function readTrack(track, fileSize) {
  const clock = inside(track, "mdia", "mdhd");
  const scale = clock.getUint32(clock.getUint8(0) ? 20 : 12);
  const table = inside(track, "mdia", "minf", "stbl");
  const present = presentSamples(table, fileSize);
  const shifts = expanded(inside(table, "ctts"), present, (view, at) => view.getInt32(at));
  const begin = editStart(inside(track, "edts", "elst"));
  const times = [];
  let at = 0;
  expanded(inside(table, "stts"), present, (view, place) => view.getUint32(place)).forEach((step, sample) => {
    times.push((at + (shifts[sample] ?? 0) - begin) / scale);
    at += step;
  });
  // What lies before the edit list's beginning is decoded, and not shown.
  const shown = times.filter((time) => time > -1e-6);
  return { id: trackId(track), scale, begin, times: shown, missing: sampleCount(table) - present };
}

/** A table of (count, value), value by value. */
function expanded(view, most, read) {
  const values = [];
  for (let entry = 0; view && entry < view.getUint32(4) && values.length < most; entry++) {
    const count = Math.min(view.getUint32(8 + 8 * entry), most - values.length);
    const value = read(view, 12 + 8 * entry);
    for (let k = 0; k < count; k++) values.push(value);
  }
  return values;
}

/** Where in the track's own time the film begins: the first edit that is not a pause. */
function editStart(view) {
  const long = view?.getUint8(0) === 1;
  for (let entry = 0; view && entry < view.getUint32(4); entry++) {
    const start = long ? Number(view.getBigInt64(16 + 20 * entry)) : view.getInt32(12 + 12 * entry);
    if (start >= 0) return start;
  }
  return 0;
}

function sampleCount(table) {
  const sizes = inside(table, "stsz");
  return Math.min(sizes?.getUint32(8) ?? 0, MAX_PICTURES);
}

/** How many samples, in the order of the file's tables, lie within the file as it is. */
function presentSamples(table, fileSize) {
  const [sizes, chunks, runs] = ["stsz", "stsc"].map((name) => inside(table, name)).toSpliced(1, 0, inside(table, "stco") ?? inside(table, "co64"));
  const count = sampleCount(table);
  if (!chunks || !runs) return count;
  const wide = !inside(table, "stco");
  const oneSize = sizes.getUint32(4);
  let [sample, run] = [0, 0];
  for (let chunk = 0; chunk < chunks.getUint32(4) && sample < count; chunk++) {
    let at = wide ? Number(chunks.getBigUint64(8 + 8 * chunk)) : chunks.getUint32(8 + 4 * chunk);
    while (run + 1 < runs.getUint32(4) && runs.getUint32(8 + 12 * (run + 1)) <= chunk + 1) run++;
    for (let k = runs.getUint32(12 + 12 * run); k > 0 && sample < count; k--) {
      at += oneSize || sizes.getUint32(12 + 4 * sample);
      if (at > fileSize) return sample;
      sample++;
    }
  }
  return sample;
}

// WebM: elements of an id, a size and what they hold

const [SEGMENT, CLUSTER, GROUP, TRACKS, TRACK, INFO] = [0x18538067, 0x1f43b675, 0xa0, 0x1654ae6b, 0xae, 0x1549a966];
const [TIMESTAMP, SIMPLE_BLOCK, BLOCK, SCALE, NUMBER, TYPE] = [0xe7, 0xa3, 0xa1, 0x2ad7b1, 0xd7, 0x83];
const OPENED = new Set([SEGMENT, CLUSTER, GROUP, TRACKS, TRACK, INFO]);

/** Elements that hold others are opened, whatever size they claim: recordings leave it unknown. */
async function readWebm(file) {
  const times = [];
  let [scale, cluster, number, film, missing] = [1_000_000, 0, 0, 0, 0];
  for (let at = 0; at + 2 < file.size && times.length < MAX_PICTURES; ) {
    const head = await file.view(at, 24);
    const [id, idLength] = readVint(head, 0, true);
    const [size, sizeLength] = readVint(head, idLength);
    const body = at + idLength + sizeLength;
    if (OPENED.has(id)) { at = body; continue; }
    const value = () => Number(unsigned(head, idLength + sizeLength, size));
    if (id === SCALE) scale = value();
    else if (id === NUMBER) number = value();
    else if (id === TYPE && value() === 1) film ||= number;
    else if (id === TIMESTAMP) cluster = value();
    else if (id === SIMPLE_BLOCK || id === BLOCK) {
      const [track, length] = readVint(head, idLength + sizeLength);
      const time = (cluster + head.getInt16(idLength + sizeLength + length)) * scale / 1e9;
      if (track === film && body + size > file.size) missing++;
      else if (track === film) times.push(time);
    }
    at = body + size;
  }
  return { times, missing };
}

/** `[value, length]` of a number whose leading zeros tell its length; an id keeps its marker. */
function readVint(view, at, whole = false) {
  const length = Math.clz32(view.getUint8(at)) - 23;
  const value = unsigned(view, at, length);
  return [Number(whole ? value : value - (1n << BigInt(7 * length))), length];
}

function unsigned(view, at, length) {
  let value = 0n;
  for (let k = 0; k < length; k++) value = (value << 8n) | BigInt(view.getUint8(at + k));
  return value;
}
