/** What a reload needs to go on: which session on which video. Kept in this browser (IndexedDB). */

import { within } from "./tamvt.js";

const NAME = "tamvt";
const KEY = "page";
const PATIENCE_S = 5; // without it the page works: a reload begins anew

function open() {
  const request = indexedDB.open(NAME, 1);
  request.onupgradeneeded = () => request.result.createObjectStore(KEY);
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
    return await settled(act(database.transaction(KEY, mode).objectStore(KEY)));
  } finally {
    database.close();
  }
}

/** `{session, kind, name, rate, start, names, files}`, or undefined; files are kept as they are. */
export function readBookmark() {
  return withStore("readonly", (store) => store.get(KEY)).catch(() => undefined);
}

/** Without room or permission the page works, and a reload begins anew. */
export function writeBookmark(value) {
  return withStore("readwrite", (store) => store.put(value, KEY)).catch(() => {});
}

export function dropBookmark() {
  return withStore("readwrite", (store) => store.delete(KEY)).catch(() => {});
}
