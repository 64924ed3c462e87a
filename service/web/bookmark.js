/** What a reload needs to go on: which session on which video. Kept in this browser (IndexedDB). */

const NAME = "tamvt";
const KEY = "page";

function open() {
  const request = indexedDB.open(NAME, 1);
  request.onupgradeneeded = () => request.result.createObjectStore(KEY);
  return settled(request);
}

function settled(request) {
  return new Promise((resolve, reject) => {
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error);
  });
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
