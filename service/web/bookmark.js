/**
 * What a reload needs to go on: which session on which video. Kept in this browser (IndexedDB), for
 * each tab its own: a tab has one session at a time.
 */

import { within } from "./tamvt.js";

const [NAME, VERSION, SESSIONS] = ["tamvt", 2, "sessions"];
const KEPT = 4; // sessions, with their videos: of as many tabs
const TRACKING = "tamvt-tracking"; // of this tab
const PATIENCE_S = 5; // without it the page works: a reload begins anew

function open() {
  const request = indexedDB.open(NAME, VERSION);
  request.onupgradeneeded = () => {
    for (const store of request.result.objectStoreNames) request.result.deleteObjectStore(store);
    request.result.createObjectStore(SESSIONS);
  };
  return settled(request);
}

function settled(request) {
  return within(PATIENCE_S, "The browser's storage", new Promise((resolve, reject) => {
    request.onsuccess = () => resolve(request.result);
    request.onerror = request.onblocked = () => reject(request.error ?? new Error("another tab holds the storage"));
  }));
}

async function withStore(mode, act) {
  const database = await open();
  try {
    return await settled(act(database.transaction(SESSIONS, mode).objectStore(SESSIONS)));
  } finally {
    database.close();
  }
}

/** `{session, back, kind, name, rate, start, files}`, or undefined; files are kept as they are. */
export function readBookmark(session) {
  return withStore("readonly", (store) => store.get(session)).catch(() => undefined);
}

/**
 * Keeps it in place of the session `instead`, and the newest of other tabs; without room or
 * permission a reload begins anew.
 */
export function writeBookmark(value, instead) {
  return withStore("readwrite", (store) => {
    if (instead) store.delete(instead);
    const all = store.getAll();
    all.onsuccess = () => {
      const others = all.result.filter(({ session }) => session !== value.session).sort((a, b) => b.at - a.at);
      for (const { session } of others.slice(KEPT - 1)) store.delete(session);
    };
    return store.put({ ...value, at: Date.now() }, value.session);
  }).catch(() => {});
}

export function dropBookmark(session) {
  return withStore("readwrite", (store) => store.delete(session)).catch(() => {});
}

/** Notes which session this tab tracks now, or (null) that it tracks none. */
export function noteTracking(session) {
  if (session) sessionStorage.setItem(TRACKING, session); else sessionStorage.removeItem(TRACKING);
}

/** Whether this tab was reloaded while it tracked the session. */
export function wasTracking(session) {
  return performance.getEntriesByType("navigation")[0]?.type === "reload" && sessionStorage.getItem(TRACKING) === session;
}
