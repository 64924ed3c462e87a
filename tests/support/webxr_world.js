// What glasses that iwer emulates see: a red square before gray, two meters ahead of where the head
// is at first. Their own camera sees it from the pose of the view (?camera in the address); a camera
// of the device sees it from where the head was at first. Runs in the page before its own code.

const [width, height] = [128, 96];
const corners = [[-0.4, -0.4], [0.4, -0.4], [0.4, 0.4], [-0.4, 0.4]];
const features = new URLSearchParams(location.search).has("camera") ? ["camera-access"] : [];
const { metaQuest3, XRDevice } = IWER;
const supportedFeatures = [...metaQuest3.supportedFeatures, ...features];
globalThis.device = new XRDevice({ ...metaQuest3, supportedFeatures });
device.installRuntime({ forceInstall: true }); // Chromium has its own, without a device

const center = [0, 0, -2]; // of the square, in the space that the page uses: from the head's first place
const still = new OffscreenCanvas(width, height);

function times(m, [x, y, z]) {
  return [0, 1, 2, 3].map((k) => m[k] * x + m[4 + k] * y + m[8 + k] * z + m[12 + k]);
}

/** The pixel of a picture [wide, tall] at which a point is seen. */
function seen(point, projection, fromWorld, [wide, tall]) {
  const [x, y, , w] = times(projection, times(fromWorld, point).slice(0, 3));
  return [((x / w + 1) / 2) * wide, ((1 - y / w) / 2) * tall];
}

function drawSquare(canvas, projection, fromWorld) {
  const context = canvas.getContext("2d");
  context.fillStyle = "rgb(128 128 128)";
  context.fillRect(0, 0, width, height);
  context.fillStyle = "rgb(220 40 40)";
  context.beginPath();
  for (const [x, y] of corners) {
    const corner = [center[0] + x, center[1] + y, center[2]];
    context.lineTo(...seen(corner, projection, fromWorld, [width, height]));
  }
  context.fill();
}

Object.defineProperty(XRView.prototype, "camera", {
  get() { return features.length ? { width, height, view: this } : undefined; },
});

XRWebGLBinding.prototype.getCameraImage = ({ view }) => {
  drawSquare(still, view.projectionMatrix, view.transform.inverse.matrix);
  const gl = document.getElementById("view").getContext("webgl2");
  const texture = gl.createTexture();
  gl.bindTexture(gl.TEXTURE_2D, texture);
  gl.pixelStorei(gl.UNPACK_FLIP_Y_WEBGL, true); // a texture begins at the bottom
  gl.texImage2D(gl.TEXTURE_2D, 0, gl.RGBA, gl.RGBA, gl.UNSIGNED_BYTE, still);
  gl.pixelStorei(gl.UNPACK_FLIP_Y_WEBGL, false);
  return texture;
};

navigator.mediaDevices.getUserMedia = async () => {
  const canvas = Object.assign(document.createElement("canvas"), { width, height });
  const tall = 1 / Math.tan(Math.PI / 6); // 60 degrees from top to bottom
  const projection = [(tall * height) / width, 0, 0, 0, 0, tall, 0, 0, 0, 0, -1, -1, 0, 0, -0.02, 0];
  const fromStart = [1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1];
  setInterval(() => drawSquare(canvas, projection, fromStart), 50);
  return canvas.captureStream(20);
};

globalThis.world = {
  /** Points ahead, and pulls the trigger. */
  async select() {
    const { right } = device.controllers;
    right.position.copy(device.position);
    right.quaternion.set(0, 0, 0, 1);
    for (const pressed of [1, 0]) {
      right.updateButtonValue("trigger", pressed);
      await new Promise((resolve) => setTimeout(resolve, 200));
    }
  },

  /**
   * Notes of each picture of the display how many pixels are drawn, how far (in pixels) their middle
   * is from where the square is now, and how far a mask would be that is laid straight over the view.
   */
  watch(moving) {
    const canvas = document.getElementById("view");
    const gl = canvas.getContext("webgl2");
    this.found = [];
    canvas.addEventListener("drawn", ({ detail: { views: [view], picture } }) => {
      const size = [canvas.width, canvas.height];
      const pixels = new Uint8Array(4 * size[0] * size[1]);
      gl.readPixels(0, 0, ...size, gl.RGBA, gl.UNSIGNED_BYTE, pixels);
      let [count, x, y] = [0, 0, 0];
      for (let at = 0; at < size[0] * size[1]; at++) {
        if (!pixels[4 * at + 3]) continue;
        [count, x, y] = [count + 1, x + (at % size[0]), y + size[1] - 1 - Math.floor(at / size[0])];
      }
      const now = seen(center, view.projectionMatrix, view.transform.inverse.matrix, size);
      const then = seen(center, picture.projection, picture.fromWorld, size);
      const off = ([a, b]) => Math.hypot(a - now[0], b - now[1]);
      this.found.push({ count, off: off([x / count, y / count]), straight: off(then) });
    });
    let step = 0;
    if (moving) setInterval(() => {
      const turn = 0.35 * Math.sin(step++ / 4);
      device.quaternion.set(0, Math.sin(turn / 2), 0, Math.cos(turn / 2));
      device.position.x = turn / 4;
    }, 50);
  },
};
