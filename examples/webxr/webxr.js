/**
 * Masks in augmented reality: each one is drawn where the picture that it belongs to was taken.
 *
 * A mask comes 50 to 200 ms after its picture. By then the head has turned: drawn straight over the
 * view it would slip off. So the pose of the camera is kept under the picture's time stamp; the mask
 * that comes with this stamp is hung up in the world as seen from there, and then seen from here.
 *
 * Serve this folder next to the service (`?service=https://...` where it is elsewhere; that service
 * then needs TAMVT_ALLOWED_ORIGINS). WebXR and cameras need https, or localhost. `?distance=2` is
 * how many meters away things are, `?fov=60` how many degrees a plain camera sees from top to bottom.
 */

import { cornersInWorld, pixelOf, projectionOf, times } from "./reproject.js";

const given = new URLSearchParams(location.search);
const SERVICE = given.get("service") ?? location.origin;
const DISTANCE = Number(given.get("distance") ?? 1.5);
const FOV = Number(given.get("fov") ?? 60);
const KEPT = 60; // pictures that wait for their masks
const LONGEST = 640; // pixels of a picture that is sent
const { Client, decodeRle, encodeFrame } = await import(`${SERVICE}/web/tamvt.js`);

const canvas = document.getElementById("view");
const button = document.getElementById("begin");
const gl = canvas.getContext("webgl2", { alpha: true, antialias: false, xrCompatible: true });
const say = (text) => { document.getElementById("status").textContent = text; };
const client = new Client(SERVICE);
const waiting = new Map(); // by time stamp in microseconds: pictures as reproject.js has them
const program = linked();
let [session, space, binding, layer, video] = [];
let [stream, wanted, busy, shown] = [null, null, false, null]; // shown: the newest mask with its picture

function linked() {
  const made = gl.createProgram();
  for (const [kind, code] of [
    [gl.VERTEX_SHADER, `#version 300 es
      uniform mat4 projection, fromWorld;
      in vec3 corner; in vec2 at; out vec2 place;
      void main() { place = at; gl_Position = projection * fromWorld * vec4(corner, 1); }`],
    [gl.FRAGMENT_SHADER, `#version 300 es
      precision mediump float;
      uniform sampler2D mask; in vec2 place; out vec4 color;
      void main() { color = vec4(0, 0.6, 0, 0.6) * step(0.5, texture(mask, place).r); }`],
  ]) {
    const shader = gl.createShader(kind);
    gl.shaderSource(shader, code);
    gl.compileShader(shader);
    gl.attachShader(made, shader);
  }
  ["corner", "at"].forEach((name, index) => gl.bindAttribLocation(made, index, name));
  gl.linkProgram(made);
  if (!gl.getProgramParameter(made, gl.LINK_STATUS)) throw new Error(gl.getProgramInfoLog(made));
  return made;
}

const mask = gl.createTexture();
const corners = gl.createBuffer();
const places = gl.createBuffer();
gl.bindBuffer(gl.ARRAY_BUFFER, places);
gl.bufferData(gl.ARRAY_BUFFER, new Float32Array([0, 1, 1, 1, 0, 0, 1, 0]), gl.STATIC_DRAW);

/** Keeps the mask of one picture to be drawn; everything older was passed over. */
function onMasks({ timestamp, objects: [{ rle, area, state }] }) {
  const picture = waiting.get(timestamp);
  for (const stamp of [...waiting.keys()].filter((each) => each <= timestamp)) waiting.delete(stamp);
  if (!picture) return;
  say(`${state}, ${Math.round(performance.now() - timestamp / 1000)} ms behind`);
  shown = area && state !== "lost" ? { timestamp, picture } : null;
  if (!shown) return;
  const [height, width] = rle.size;
  gl.bindTexture(gl.TEXTURE_2D, mask);
  gl.pixelStorei(gl.UNPACK_ALIGNMENT, 1);
  gl.texImage2D(gl.TEXTURE_2D, 0, gl.R8, width, height, 0, gl.RED, gl.UNSIGNED_BYTE, decodeRle(rle).map((inside) => 255 * inside));
  for (const side of [gl.TEXTURE_MIN_FILTER, gl.TEXTURE_MAG_FILTER]) gl.texParameteri(gl.TEXTURE_2D, side, gl.LINEAR);
  for (const way of [gl.TEXTURE_WRAP_S, gl.TEXTURE_WRAP_T]) gl.texParameteri(gl.TEXTURE_2D, way, gl.CLAMP_TO_EDGE);
  gl.bindBuffer(gl.ARRAY_BUFFER, corners);
  gl.bufferData(gl.ARRAY_BUFFER, new Float32Array(cornersInWorld(picture, DISTANCE).flat()), gl.DYNAMIC_DRAW);
}

/** Draws the newest mask as it is seen from where the eyes are now. */
function draw({ views }) {
  gl.bindFramebuffer(gl.FRAMEBUFFER, layer.framebuffer);
  gl.clearColor(0, 0, 0, 0);
  gl.clear(gl.COLOR_BUFFER_BIT);
  if (!shown) return;
  gl.useProgram(program);
  gl.bindTexture(gl.TEXTURE_2D, mask);
  for (const [index, buffer, numbers] of [[0, corners, 3], [1, places, 2]]) {
    gl.bindBuffer(gl.ARRAY_BUFFER, buffer);
    gl.enableVertexAttribArray(index);
    gl.vertexAttribPointer(index, numbers, gl.FLOAT, false, 0, 0);
  }
  for (const view of views) {
    const { x, y, width, height } = layer.getViewport(view);
    gl.viewport(x, y, width, height);
    gl.uniformMatrix4fv(gl.getUniformLocation(program, "projection"), false, view.projectionMatrix);
    gl.uniformMatrix4fv(gl.getUniformLocation(program, "fromWorld"), false, view.transform.inverse.matrix);
    gl.drawArrays(gl.TRIANGLE_STRIP, 0, 4);
  }
  canvas.dispatchEvent(new CustomEvent("drawn", { detail: { views, ...shown } }));
}

/** The camera's picture of this moment: `{image, picture}`, or null where there is none. */
function take({ views: [view], transform }) {
  const pose = ({ matrix, inverse }) => ({ toWorld: matrix.slice(), fromWorld: inverse.matrix.slice() });
  if (view.camera) { // the one behind the view: its pose and its lens are the view's
    const image = readCamera(view.camera);
    return { image, picture: { size: [image.height, image.width], projection: view.projectionMatrix.slice(), ...pose(view.transform) } };
  }
  if (!video?.videoWidth) return null;
  const scale = Math.min(1, LONGEST / Math.max(video.videoWidth, video.videoHeight));
  const size = [video.videoHeight, video.videoWidth].map((side) => Math.round(side * scale));
  const image = new OffscreenCanvas(size[1], size[0]);
  image.getContext("2d").drawImage(video, 0, 0, size[1], size[0]);
  return { image, picture: { size, projection: projectionOf(size, FOV), ...pose(transform) } };
}

/** The picture of WebXR's raw camera access, which is a texture, as a canvas. */
function readCamera(camera) {
  const texture = binding.getCameraImage(camera);
  const { width, height } = camera;
  const pixels = new Uint8ClampedArray(4 * width * height);
  const reading = gl.createFramebuffer();
  gl.bindFramebuffer(gl.FRAMEBUFFER, reading);
  gl.framebufferTexture2D(gl.FRAMEBUFFER, gl.COLOR_ATTACHMENT0, gl.TEXTURE_2D, texture, 0);
  gl.readPixels(0, 0, width, height, gl.RGBA, gl.UNSIGNED_BYTE, pixels);
  gl.deleteFramebuffer(reading);
  const whole = new OffscreenCanvas(width, height);
  whole.getContext("2d").putImageData(new ImageData(pixels, width, height), 0, 0);
  const scale = Math.min(1, LONGEST / Math.max(width, height));
  const image = new OffscreenCanvas(Math.round(width * scale), Math.round(height * scale));
  const context = image.getContext("2d");
  context.setTransform(1, 0, 0, -1, 0, image.height); // textures begin at the bottom
  context.drawImage(whole, 0, 0, image.width, image.height);
  return image;
}

/** Begins to follow what a ray of the world points at. */
async function follow({ image, picture }, ray) {
  say("Looking at it …");
  const from = times(ray, [0, 0, 0]);
  const along = times(ray, [0, 0, -1]).map((each, axis) => each - from[axis]);
  const pixel = pixelOf(from.slice(0, 3).map((each, axis) => each + DISTANCE * along[axis]), picture);
  if (!pixel) throw new Error("That is behind the camera.");
  const first = await encodeFrame(image);
  const { rle } = await client.refine(first, { points: [[...pixel, 1]] });
  const started = await client.start(first, [{ id: 1, rle }], { clip_length: 1 });
  if (!session) return; // it ended meanwhile
  stream = started.stream({ mode: "latest", maxWaitMs: 0, onMasks });
  stream.done.catch((error) => { [stream, shown] = [null, null]; say(`${error.message} Select again.`); });
}

async function send({ image, picture }) {
  const timestamp = Math.round(performance.now() * 1000);
  waiting.set(timestamp, picture);
  if (waiting.size > KEPT) waiting.delete(waiting.keys().next().value);
  await stream.send(await encodeFrame(image), { timestamp });
}

/** Once for each picture of the display. One picture of the camera is on its way at a time. */
function onFrame(_, frame) {
  if (!session) return;
  session.requestAnimationFrame(onFrame);
  const pose = frame.getViewerPose(space);
  if (!pose) return; // tracking is lost for a moment
  const taken = !busy && (stream || wanted) ? take(pose) : null;
  if (taken) {
    const ray = !stream && frame.getPose(wanted.targetRaySpace, space)?.transform.matrix;
    busy = true;
    (stream ? send(taken) : ray ? follow(taken, ray) : Promise.resolve())
      .catch((error) => say(`${error.message} Select again.`))
      .finally(() => { busy = false; });
    wanted = null;
  }
  draw(pose);
}

async function begin() {
  session = await navigator.xr.requestSession("immersive-ar", { optionalFeatures: ["camera-access"] });
  session.addEventListener("end", () => {
    stream?.close();
    video?.srcObject?.getTracks().forEach((track) => track.stop());
    [session, stream, wanted, shown, video, binding] = [null, null, null, null, null, null];
    button.disabled = false;
    say("Ended.");
  });
  session.addEventListener("select", ({ inputSource }) => { if (!stream) wanted = inputSource; });
  await gl.makeXRCompatible();
  layer = new XRWebGLLayer(session, gl);
  session.updateRenderState({ baseLayer: layer });
  space = await session.requestReferenceSpace("local");
  if (session.enabledFeatures?.includes("camera-access")) binding = new XRWebGLBinding(session, gl);
  else { // a headset's browser gives it as a camera of the device
    video = Object.assign(document.createElement("video"), { muted: true, playsInline: true });
    video.srcObject = await navigator.mediaDevices.getUserMedia({ video: { facingMode: "environment" }, audio: false });
    await video.play();
  }
  say("Point at what is to be followed, and select it.");
  session.requestAnimationFrame(onFrame);
}

if (await navigator.xr?.isSessionSupported("immersive-ar")) {
  button.addEventListener("click", () => {
    button.disabled = true;
    begin().catch(async (error) => {
      await session?.end();
      button.disabled = false;
      say(`It cannot begin: ${error.message}`);
    });
  });
  button.disabled = false;
  say("Ready.");
} else say("This browser or device has no augmented reality (WebXR).");
