/**
 * Which of the files that a person picks are frames, and in which order: the same rule as
 * `model/core/frame_files.py`, and tested on the same list. Kinds that no browser decodes (TIFF)
 * are left out here.
 */

const FRAME = /\.(jpe?g|jpe|jfif|png|webp|bmp|dib|avif)$/i;
// A sign stands at the beginning, or after what is neither a letter, a digit nor another sign.
const NUMBER = /((?:(?<![\p{L}\p{N}\-+.)]))[-+]|)([0-9]+)((?:\.[0-9]+)*)/gu;
const DIGITS = 255; // the longest name

/** `{ frames, leftOut }` of files: frames in natural order; hidden and other files are left out. */
export function chooseFrames(files) {
  const isFrame = ({ name }) => !name.startsWith(".") && FRAME.test(name);
  const byName = new Map([...files].filter(isFrame).map((file) => [file.name, file]));
  const frames = naturalOrder([...byName.keys()]).map((name) => byName.get(name));
  return { frames, leftOut: [...files].filter((file) => byName.get(file.name) !== file) };
}

/** Names with their numbers in order of size; a point is a decimal point unless it counts (1.9, 1.10). */
export function naturalOrder(names) {
  const points = names.flatMap((name) => [...name.matchAll(NUMBER)].map((number) => number[3].slice(1)));
  const fractions = points.filter((digits) => digits && !digits.includes("."));
  const counted = fractions.some((digits) => digits.length > 1 && digits.endsWith("0"));
  const decimal = !counted || new Set(fractions.map((digits) => digits.length)).size === 1;
  const keyed = names.map((name) => [keyOf(name.toLowerCase(), decimal), name]);
  return keyed.sort(([one, name], [other, second]) => compareKeys(one, other) || compare(name, second)).map(([, name]) => name);
}

/** Numbers (BigInt, with 255 digits after the point) and the text between them. */
function keyOf(name, decimal) {
  const key = [];
  let end = 0;
  for (const { index, 0: found, 1: sign, 2: whole, 3: points } of name.matchAll(NUMBER)) {
    const [first, ...others] = points.slice(1).split(".");
    const fraction = decimal && points && !others.length ? first : "";
    const counted = points && !fraction ? [first, ...others] : [];
    if (index > end) key.push(name.slice(end, index));
    key.push(scaled(whole, fraction) * (sign === "-" ? -1n : 1n), ...counted.map((digits) => scaled(digits, "")));
    end = index + found.length;
  }
  return [...key, name.slice(end)];
}

function scaled(whole, fraction) {
  return BigInt(whole + fraction.padEnd(DIGITS, "0"));
}

/** As Python compares tuples; a number comes before text. */
function compareKeys(one, other) {
  for (let k = 0; k < Math.min(one.length, other.length); k++) {
    const kinds = (typeof one[k] === "string") - (typeof other[k] === "string");
    const order = kinds || compare(one[k], other[k]);
    if (order) return order;
  }
  return one.length - other.length;
}

function compare(one, other) {
  return one < other ? -1 : Number(one > other);
}
