/** WebM files of pictures in VP9, each at its own time; what is transparent is a second picture. */

const TRACK = 1;
const KEY = 0x80;

/** A whole number, big endian, in as many bytes as it takes. */
function uint(value, width = 1) {
  const bytes = [];
  for (let rest = value; rest > 0 || bytes.length < width; rest = Math.floor(rest / 256)) bytes.unshift(rest % 256);
  return Uint8Array.from(bytes);
}

function float(value) {
  const view = new DataView(new ArrayBuffer(8));
  view.setFloat64(0, value);
  return new Uint8Array(view.buffer);
}

const text = (words) => new TextEncoder().encode(words);
const sizeOf = (parts) => parts.reduce((sum, { length }) => sum + length, 0);

/** An element of EBML: its ID, the size of what is in it, and that; a list of Uint8Arrays. */
function element(id, ...content) {
  const inside = content.flat();
  const size = sizeOf(inside);
  return [uint(id), size < 127 ? uint(0x80 + size) : Uint8Array.from([1, ...uint(size, 7)]), ...inside];
}

/** A picture, and beside it what is transparent of it; `ms` counts from the cluster's first one. */
function block({ data, matte, key }, ms, before) {
  const head = (flags) => Uint8Array.of(0x80 + TRACK, ms >> 8, ms & 255, flags);
  if (!matte) return element(0xa3, head(key ? KEY : 0), data);
  const added = element(0x75a1, element(0xa6, element(0xee, uint(1)), element(0xa5, matte)));
  const refers = key ? [] : element(0xfb, Uint8Array.of((before - ms) >> 8, (before - ms) & 255));
  return element(0xa0, element(0xa1, head(0), data), added, refers);
}

/** The pictures from one key picture to the next. */
function cluster(frames) {
  const [{ ms: begin }] = frames;
  const blocks = frames.flatMap((frame, k) => block(frame, frame.ms - begin, frames[k - 1]?.ms - begin));
  return { begin, bytes: element(0x1f43b675, element(0xe7, uint(begin)), blocks) };
}

/** Milliseconds of each picture where all take the same, to the millisecond that WebM counts in. */
function evenStep(frames, end) {
  const step = end / frames.length;
  return frames.every(({ ms }, k) => Math.abs(ms - k * step) <= 1) ? step : null;
}

/**
 * A film as a Blob: `frames` are `{data, matte?, ms, key}` with bytes of VP9, the first one a key
 * picture at 0 ms; key pictures come at least every 30 seconds. `end` is when the last one ends.
 */
export function webm(frames, { width, height, end }) {
  const transparent = Boolean(frames[0].matte);
  const step = evenStep(frames, end);
  const head = element(0x1a45dfa3,
    element(0x4286, uint(1)), element(0x42f7, uint(1)), element(0x42f2, uint(4)), element(0x42f3, uint(8)),
    element(0x4282, text("webm")), element(0x4287, uint(4)), element(0x4285, uint(2)));
  const info = element(0x1549a966,
    element(0x2ad7b1, uint(1_000_000)), element(0x4489, float(end)), element(0x4d80, text("TAM-VT Serve")), element(0x5741, text("TAM-VT Serve")));
  const picture = element(0xe0, element(0xb0, uint(width)), element(0xba, uint(height)), transparent ? element(0x53c0, uint(1)) : []);
  const tracks = element(0x1654ae6b, element(0xae,
    element(0xd7, uint(TRACK)), element(0x73c5, uint(TRACK)), element(0x83, uint(1)), element(0x9c, uint(0)), element(0x86, text("V_VP9")),
    step ? element(0x23e383, uint(Math.round(step * 1e6))) : [], transparent ? element(0x55ee, uint(1)) : [], picture));
  const keys = frames.flatMap(({ key }, k) => (key ? [k] : []));
  const clusters = keys.map((from, k) => cluster(frames.slice(from, keys[k + 1])));
  // Their numbers have a fixed width: how long the list is, is known before what it says.
  const cues = (places) => element(0x1c53bb6b, ...clusters.map(({ begin }, k) => element(0xbb,
    element(0xb3, uint(begin, 8)), element(0xb7, element(0xf7, uint(TRACK)), element(0xf1, uint(places[k], 8))))));
  let at = sizeOf([...info, ...tracks, ...cues(keys)]);
  const places = clusters.map(({ bytes }) => (at += sizeOf(bytes)) - sizeOf(bytes));
  const body = [info, tracks, cues(places), ...clusters.map(({ bytes }) => bytes)];
  return new Blob([...head, ...element(0x18538067, ...body)], { type: "video/webm" });
}
