/** Where masks end: label maps as smooth outlines, in the picture's pixels. */

const WINDOW = [1, 2, 3, 2, 1]; // how a point of an outline is mixed with those beside it
const KEPT = 2; // every second point is enough

/** A Path2D for each id of a label map (Uint8Array, row by row). Fill it with "evenodd". */
export function outlines(labels, [height, width]) {
  const paths = new Map();
  const walked = new Uint8Array(labels.length); // pixels whose left side was walked along
  for (let y = 0, at = 0; y < height; y++) {
    for (let x = 0; x < width; x++, at++) {
      const id = labels[at];
      if (!id || walked[at] || (x && labels[at - 1] === id)) continue;
      if (!paths.has(id)) paths.set(id, new Path2D());
      smooth(paths.get(id), walk(labels, width, height, x, y, walked));
    }
  }
  return paths;
}

// Heading right, down, left, up: the step, and the pixels ahead on the left and on the right of a corner.
const HEADINGS = [
  { step: [1, 0], left: [0, -1], right: [0, 0] },
  { step: [0, 1], left: [0, 0], right: [-1, 0] },
  { step: [-1, 0], left: [-1, 0], right: [-1, -1] },
  { step: [0, -1], left: [-1, -1], right: [0, -1] },
];
const UP = 3;

/** The middles of the pixel sides around a part, the part on the right hand. */
function walk(labels, width, height, startX, startY, walked) {
  const id = labels[startY * width + startX];
  const isInside = (x, y) => x >= 0 && y >= 0 && x < width && y < height && labels[y * width + x] === id;
  const points = [];
  let [x, y, heading] = [startX, startY + 1, UP];
  do {
    const { step } = HEADINGS[heading];
    if (heading === UP) walked[(y - 1) * width + x] = 1;
    points.push(x + step[0] / 2, y + step[1] / 2);
    [x, y] = [x + step[0], y + step[1]];
    const { left, right } = HEADINGS[heading];
    if (!isInside(x + right[0], y + right[1])) heading = (heading + 1) % 4;
    else if (isInside(x + left[0], y + left[1])) heading = (heading + 3) % 4;
  } while (x !== startX || y !== startY + 1 || heading !== UP);
  return points;
}

function smooth(path, points) {
  const count = points.length / 2;
  const kept = count > 24 ? KEPT : 1;
  for (let k = 0; k < count; k += kept) {
    let [x, y, sum] = [0, 0, 0];
    WINDOW.forEach((weight, place) => {
      const near = 2 * ((k + place - 2 + 5 * count) % count);
      [x, y, sum] = [x + weight * points[near], y + weight * points[near + 1], sum + weight];
    });
    if (k) path.lineTo(x / sum, y / sum); else path.moveTo(x / sum, y / sum);
  }
  path.closePath();
}

/** `{area, parts}` of an object: its pixels, and the pieces that are a fair share of it. */
export function inspect(labels, [height, width], id) {
  const seen = new Uint8Array(labels.length);
  const areas = [];
  for (let start = labels.indexOf(id); start >= 0; start = labels.indexOf(id, start + 1)) {
    if (seen[start]) continue;
    const open = [start];
    seen[start] = 1;
    let area = 0;
    while (open.length) {
      const at = open.pop();
      const x = at % width;
      area++;
      for (const [near, there] of [[at - 1, x > 0], [at + 1, x < width - 1], [at - width, at >= width], [at + width, at < (height - 1) * width]]) {
        if (there && !seen[near] && labels[near] === id) { seen[near] = 1; open.push(near); }
      }
    }
    areas.push(area);
  }
  const area = areas.reduce((sum, part) => sum + part, 0);
  return { area, parts: areas.filter((part) => part >= area / 20).length };
}
