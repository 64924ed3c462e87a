/**
 * A camera whose masks sit where they belong, however late they come.
 *
 * A mask is an answer to one picture. Drawn over the newest one it trails behind; drawn over its own
 * it fits, and the view is late by the same 50 to 200 ms. So each picture is kept under its time
 * stamp until its masks come with the same stamp, and both are shown together.
 *
 * Serve this folder next to the service (`?service=https://...` where it is elsewhere; that service
 * then needs TAMVT_ALLOWED_ORIGINS). A camera needs https, or localhost.
 */

const SERVICE = new URLSearchParams(location.search).get("service") ?? location.origin;
const { Client, decodeRle, encodeFrame } = await import(`${SERVICE}/web/tamvt.js`);

const KEPT = 60; // pictures that wait for their masks: two seconds
const view = document.getElementById("view");
const context = view.getContext("2d");
const say = (text) => { document.getElementById("status").textContent = text; };

const client = new Client(SERVICE);
const video = Object.assign(document.createElement("video"), { muted: true, playsInline: true });
const waiting = new Map(); // by time stamp in microseconds: ImageBitmap
let stream; // once something is followed

/** Shows a picture with the objects that were found in it. */
function show(picture, objects) {
  context.drawImage(picture, 0, 0);
  for (const { rle, area, state } of objects) {
    if (!area || state === "lost") continue;
    const [height, width] = rle.size;
    const pixels = context.getImageData(0, 0, width, height);
    decodeRle(rle).forEach((inside, at) => { if (inside) pixels.data[4 * at + 1] = 128 + pixels.data[4 * at + 1] / 2; });
    context.putImageData(pixels, 0, 0);
  }
}

/** Masks of one picture: everything older was passed over. */
function onMasks({ timestamp, objects, timing }) {
  const picture = waiting.get(timestamp);
  if (!picture) return;
  for (const [stamp, older] of waiting) {
    if (stamp > timestamp) break;
    waiting.delete(stamp);
    if (older !== picture) older.close();
  }
  show(picture, objects);
  picture.close();
  const late = performance.now() - timestamp / 1000;
  say(`${objects[0].state}, ${Math.round(late)} ms behind the camera, ${Math.round(timing.inference_ms)} ms of it in the model`);
  view.dispatchEvent(new CustomEvent("shown", { detail: { timestamp } }));
}

/** Begins to follow what is at a pixel of the camera's picture. */
async function follow([x, y]) {
  say("Looking at it …");
  const first = await encodeFrame(video);
  const { rle, warnings } = await client.refine(first, { points: [[x, y, 1]] });
  const session = await client.start(first, [{ id: 1, rle }], { clip_length: 1 });
  stream = session.stream({ mode: "latest", maxWaitMs: 0, onMasks });
  stream.done.catch((error) => { stream = undefined; say(`${error.message} Tap again.`); });
  if (warnings.length) say(warnings.join(" "));
}

/** Each new picture of the camera goes to the service, or to the view while nothing is followed. */
async function next() {
  if (stream) {
    const timestamp = Math.round(performance.now() * 1000);
    const picture = await createImageBitmap(video);
    waiting.set(timestamp, picture);
    if (waiting.size > KEPT) {
      const [[oldest, forgotten]] = waiting;
      waiting.delete(oldest);
      forgotten.close();
    }
    await stream?.send(await encodeFrame(picture), { timestamp }).catch(() => {});
  } else context.drawImage(video, 0, 0);
  video.requestVideoFrameCallback(next);
}

try {
  video.srcObject = await navigator.mediaDevices.getUserMedia({ video: { facingMode: "environment" }, audio: false });
  await video.play();
  Object.assign(view, { width: video.videoWidth, height: video.videoHeight });
  view.addEventListener("click", ({ offsetX, offsetY }) => {
    if (stream) return;
    const scale = Math.min(view.clientWidth / view.width, view.clientHeight / view.height);
    const [left, top] = [(view.clientWidth - view.width * scale) / 2, (view.clientHeight - view.height * scale) / 2];
    follow([(offsetX - left) / scale, (offsetY - top) / scale]).catch((error) => say(`${error.message} Tap again.`));
  });
  say("Tap on what is to be followed.");
  next();
} catch (error) {
  say(`There is no camera: ${error.message}`);
}
