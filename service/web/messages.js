/** What the page says: in words of the person who draws, each with what to do next. */

import { countStates, lostSpans } from "./results.js";

const BY_SLUG = {
  "unknown-session": "The session has expired. Start over to track again.",
  "last-object": "A session keeps at least one object. Start over to remove this one.",
  "memory-full": "This session holds as many corrections as it can. Continue without this one, or start over from here.",
  "too-many": "You have as many sessions as are allowed. Close another one, or wait until it expires, then try again.",
  "internal-error": "The service failed; its log says why. What is tracked is kept: press Continue.",
};
const BY_NAME = {
  NotAllowedError: "The camera may not be used. Allow it in the browser, then try again.",
  NotFoundError: "There is no camera here. Plug one in, or open a video file.",
  NotReadableError: "The camera or the file cannot be read: another program may hold it. Close that, then try again.",
  TimeoutError: "The service took too long to answer. What is tracked is kept: try again.",
};
export const OPEN_THERE = "This session is open in another tab, too. Work on it in one of them.";
export const CHANGED_THERE = "Another tab went on with this session. Reload the page to see it.";
const REPLACED = "This session goes on in another tab. Press Continue to take it back.";
// What Chrome, Firefox and Safari say of a failed fetch, and our client of a closed connection.
const NO_ANSWER = /^(Failed to fetch|NetworkError when|Load failed|closed \(\d+\))/;
const AWAY = "The service does not answer. What is tracked is kept: when it is back, try again.";

/** One sentence or two for an error of the service, the browser or our own. */
export function explained(error) {
  if (BY_SLUG[error.slug]) return BY_SLUG[error.slug];
  if (error.status >= 503) return `The service is busy or restarting. Wait ${Math.ceil(error.retry_after_s ?? 5)} seconds, then try again.`;
  if (error.message === "replaced") return REPLACED;
  if (NO_ANSWER.test(error.message)) return AWAY;
  return BY_NAME[error.name] ?? error.message;
}

/** How to begin. */
export function hint({ previewing, clip }) {
  if (previewing) return "Point the camera at what you want to follow, then take the first picture.";
  if (clip) return "Click what you want to follow, or use the clicks that come with this clip. Then press Track.";
  return "Click what you want to follow, or draw a box around it. Then press Track.";
}

export const NOTHING_THERE = "Nothing stands out there. Draw a box around the object, or paint it with the brush.";

/** What became of a click or a box, and what to press then. */
export function pointed(button) {
  return `Click what is missing, and with “Not this” what is too much. Then press ${button}.`;
}

const TINY_PIXELS = 40;

/** Why a drawn mask may be no good, and what to do; empty where it is fine. */
export function warned({ area, parts }, [height, width]) {
  if (area && area < Math.max(TINY_PIXELS, 0.0004 * height * width)) return `The mask is tiny (${area} pixels) and may be lost soon. Zoom in and paint all of the object.`;
  if (parts > 1) return `The mask is in ${parts} pieces. Paint what is between them, or erase what does not belong.`;
  return "";
}

/** How far tracking is. */
export function progress(left, rate) {
  const seconds = left / rate;
  if (!left) return "Tracking …";
  if (!Number.isFinite(seconds)) return `Tracking … ${left} frames to go.`;
  const time = seconds < 100 ? `${Math.ceil(seconds)} seconds` : `${Math.ceil(seconds / 60)} minutes`;
  return `Tracking … ${left} frames to go, about ${time}.`;
}

/** What the one button does next: `{label, enabled}`. */
export function nextStep({ tracking, source, busy, previewing, session, edited, drawing, remaining, rewinds }) {
  if (tracking) return { label: "Pause", enabled: true };
  const enabled = Boolean(source) && !busy;
  if (previewing) return { label: "Take the first picture", enabled };
  if (!session) return { label: "Track", enabled: enabled && edited && drawing.ids().length > 0 };
  if (rewinds) return { label: "Track on from here", enabled };
  if (edited) return { label: remaining ? "Correct and continue" : "Correct", enabled };
  return remaining ? { label: "Continue", enabled } : { label: "All frames are tracked", enabled: false };
}

/**
 * How tracking ended, in words: what failed or was lost comes first, what was left out last.
 * `damage` says where the file itself ends too early.
 */
export function outcome(frames, objects, { trouble, leftOut, remaining, damage = "" }) {
  const lost = objects.map(({ id, name }) => ({ name, count: countStates(frames, id).lost })).filter(({ count }) => count);
  const parts = [];
  if (trouble && trouble.message !== damage) parts.push(explained(trouble));
  if (damage) parts.push(`${damage} Frames tracked before that: ${frames.size}.`);
  if (lost.length) parts.push(`${lost.map(({ name, count }) => `${name} was lost in ${count} of ${frames.size} frames`).join(", ")}: look below.`);
  if (remaining && !trouble) parts.push("Paused. Correct any frame that is tracked, or continue.");
  else if (lost.length) parts.push("Where you can see it in the picture, point at it there and track on.");
  else if (damage) parts.push("Play them, correct them, or download their masks.");
  else if (!trouble) parts.push("Done: seen in every frame. Play it, correct it, or download the masks.");
  parts.push(...leftOut.map((message) => `${message} It was left out.`));
  const wrong = Boolean(trouble || damage) || leftOut.length > 0 || lost.some(({ count }) => count > frames.size / 2);
  return { text: parts.join(" "), wrong };
}

/** The spots to look at: `{frame, label}`, the longest ones, in the order of the film. */
export function spots(frames, objects, { start, most = 8 }) {
  const spans = objects.flatMap(({ id, name }) => lostSpans(frames, id).map(([first, last]) => ({ name, first, last })));
  spans.sort((a, b) => b.last - b.first - (a.last - a.first));
  return spans.slice(0, most).sort((a, b) => a.first - b.first).map(({ name, first, last }) => {
    const [from, to] = [start + first + 1, start + last + 1];
    return { frame: start + first, label: `${name} lost: ${from === to ? `frame ${from}` : `${from} to ${to}`}` };
  });
}
