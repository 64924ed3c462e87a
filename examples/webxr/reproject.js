/**
 * Where the pixels of an earlier picture are now.
 *
 * A `picture` has `size` [height, width], `projection` (4x4, column by column, as WebXR gives it) and
 * `toWorld` and `fromWorld` (the camera's place, and back), all of the moment at which it was taken.
 * A picture tells no depth: what is on it is taken to lie on a plane that many meters in front of the
 * camera. Where the head only turns, any distance is right; where it moves, the true one is.
 */

/** A matrix times a point [x, y, z]: [x, y, z, w]. */
export function times(matrix, [x, y, z]) {
  return [0, 1, 2, 3].map((row) => matrix[row] * x + matrix[4 + row] * y + matrix[8 + row] * z + matrix[12 + row]);
}

/** The projection of a camera without one of its own: `fov` degrees from top to bottom. */
export function projectionOf([height, width], fov) {
  const tall = 1 / Math.tan((fov * Math.PI) / 360);
  return new Float32Array([(tall * height) / width, 0, 0, 0, 0, tall, 0, 0, 0, 0, -1, -1, 0, 0, -0.02, 0]);
}

/** The corners of a picture in the world: left and right at the bottom, left and right at the top. */
export function cornersInWorld({ projection, toWorld }, distance) {
  return [[-1, -1], [1, -1], [-1, 1], [1, 1]].map(([x, y]) => {
    const place = [(x + projection[8]) / projection[0], (y + projection[9]) / projection[5], -1];
    return times(toWorld, place.map((each) => each * distance)).slice(0, 3);
  });
}

/** The pixel [x, y] of a picture at which a point of the world is seen; null behind the camera. */
export function pixelOf(point, { size: [height, width], projection, fromWorld }) {
  const [x, y, , w] = times(projection, times(fromWorld, point).slice(0, 3));
  return w > 0 ? [((x / w + 1) / 2) * width, ((1 - y / w) / 2) * height] : null;
}
