/** Palette PNGs and ZIPs, written in the browser: with the names and the sizes of a person's files. */

import { within } from "./tamvt.js";
import { davisColor } from "./painter.js";

const COMPRESS_S = 20;
const SIGNATURE = Uint8Array.of(137, 80, 78, 71, 13, 10, 26, 10);
const CRCS = Uint32Array.from({ length: 256 }, (_, value) => {
  for (let bit = 0; bit < 8; bit++) value = value & 1 ? (value >>> 1) ^ 0xedb88320 : value >>> 1;
  return value;
});
const PALETTE = Uint8Array.from(Array.from({ length: 256 }, (_, id) => davisColor(id)).flat());

function crc32(bytes) {
  let crc = -1;
  for (const byte of bytes) crc = CRCS[(crc ^ byte) & 255] ^ (crc >>> 8);
  return ~crc >>> 0;
}

/** Bytes of these numbers, each `[width in bytes, value]`. */
function packed(fields, { littleEndian }) {
  const view = new DataView(new ArrayBuffer(fields.reduce((sum, [width]) => sum + width, 0)));
  let at = 0;
  for (const [width, value] of fields) {
    if (width === 1) view.setUint8(at, value);
    else if (width === 2) view.setUint16(at, value, littleEndian);
    else view.setUint32(at, value, littleEndian);
    at += width;
  }
  return new Uint8Array(view.buffer);
}

function joined(parts) {
  const bytes = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    bytes.set(part, at);
    at += part.length;
  }
  return bytes;
}

/** A label map (Uint8Array, row by row) as a PNG in the colors of DAVIS, whose pixels are the ids. */
export async function palettePng(labels, [height, width]) {
  const rows = new Uint8Array(height * (width + 1)); // each row begins with its filter: none
  for (let row = 0; row < height; row++) rows.set(labels.subarray(row * width, (row + 1) * width), row * (width + 1) + 1);
  const stream = new Blob([rows]).stream().pipeThrough(new CompressionStream("deflate"));
  const data = new Uint8Array(await within(COMPRESS_S, "Writing a mask", new Response(stream).arrayBuffer()));
  const chunk = (letters, content) => {
    const named = joined([new TextEncoder().encode(letters), content]);
    return [packed([[4, content.length]], {}), named, packed([[4, crc32(named)]], {})];
  };
  const header = packed([[4, width], [4, height], [1, 8], [1, 3], [1, 0], [1, 0], [1, 0]], {});
  return joined([SIGNATURE, ...chunk("IHDR", header), ...chunk("PLTE", PALETTE), ...chunk("IDAT", data), ...chunk("IEND", new Uint8Array())]);
}

/** A ZIP of `[name, bytes]`, stored as they are, with names in UTF-8. */
export function zip(files) {
  const [UTF8, JANUARY] = [1 << 11, 0x5821]; // one date for all: the same masks give the same file
  const [content, directory] = [[], []];
  let at = 0;
  for (const [name, bytes] of files) {
    const text = new TextEncoder().encode(name);
    const facts = [[2, 20], [2, UTF8], [2, 0], [2, 0], [2, JANUARY], [4, crc32(bytes)], [4, bytes.length], [4, bytes.length], [2, text.length], [2, 0]];
    const local = packed([[4, 0x04034b50], ...facts], { littleEndian: true });
    directory.push(packed([[4, 0x02014b50], [2, 20], ...facts, [2, 0], [2, 0], [2, 0], [4, 0], [4, at]], { littleEndian: true }), text);
    content.push(local, text, bytes);
    at += local.length + text.length + bytes.length;
  }
  const size = directory.reduce((sum, part) => sum + part.length, 0);
  const end = packed([[4, 0x06054b50], [2, 0], [2, 0], [2, files.length], [2, files.length], [4, size], [4, at], [2, 0]], { littleEndian: true });
  return new Blob([...content, ...directory, end], { type: "application/zip" });
}
