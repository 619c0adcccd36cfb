// The book's small network in the browser: models.CNN forward and backward, its Grad-CAM, and the
// painting of what it is shown. No DOM, no library; defines one global, `Network`.
//
// Maps are Float32Arrays (channels, side, side); an image is (3, 28, 28) in [0, 1]. Batch
// normalisation is folded into the convolutions when a network is exported (widgets.py).
"use strict";
globalThis.Network ??= (() => {
const SIDE = 28, PIXELS = SIDE * SIDE;
const WIDTH = 2.9; // of a stroke in pixels, MNIST's mean: area over length
const BOX = 20; // pixels that the larger side of a digit takes, as in MNIST
const LARGEST = 60; // pixels to the pad's side, so that a dot stays one

// What widgets.py has exported, with its arrays as typed arrays that know their shape.
function decode(value) {
  if (Array.isArray(value)) return value.map(decode);
  if (value === null || typeof value !== "object") return value;
  if (value.base64 === undefined)
    return Object.fromEntries(Object.entries(value).map(([key, held]) => [key, decode(held)]));
  const text = atob(value.base64), bytes = new Uint8Array(text.length);
  for (let i = 0; i < text.length; i++) bytes[i] = text.charCodeAt(i);
  const array = value.type === "uint8" ? bytes : new Float32Array(bytes.buffer);
  return Object.assign(array, {shape: value.shape});
}

// --- layers -------------------------------------------------------------------------------------

// Calls visit(place in the patches, place in the maps) for every weight of a convolution's kernel
// at every place of its output that lies inside the maps.
function eachPatch(side, {weight: {shape: [, inputs, kernel]}, stride}, out, visit) {
  const pad = kernel >> 1;
  for (let p = 0, k = 0; p < out * out; p++) {
    const top = Math.floor(p / out) * stride - pad, left = (p % out) * stride - pad;
    for (let c = 0; c < inputs; c++)
      for (let y = top; y < top + kernel; y++)
        for (let x = left; x < left + kernel; x++, k++)
          if (y >= 0 && y < side && x >= 0 && x < side) visit(k, (c * side + y) * side + x);
  }
}

// ReLU of the convolution of maps, zeros around.
function convolve(maps, side, layer) {
  const {weight, bias, stride} = layer, [outputs, inputs, kernel] = weight.shape;
  const out = Math.floor((side + 2 * (kernel >> 1) - kernel) / stride) + 1;
  const places = out * out, length = inputs * kernel * kernel;
  const patches = new Float32Array(places * length); // what each place sees, one after the other
  eachPatch(side, layer, out, (k, at) => { patches[k] = maps[at]; });
  const result = new Float32Array(outputs * places);
  for (let o = 0; o < outputs; o += 4) // four maps at a time, twice as fast; their number allows it
    for (let p = 0; p < places; p++) {
      let a = bias[o], b = bias[o + 1], c = bias[o + 2], d = bias[o + 3], w = o * length;
      for (let k = p * length, end = k + length; k < end; k++, w++) {
        const seen = patches[k];
        a += weight[w] * seen;
        b += weight[w + length] * seen;
        c += weight[w + 2 * length] * seen;
        d += weight[w + 3 * length] * seen;
      }
      const at = o * places + p;
      result[at] = Math.max(0, a);
      result[at + places] = Math.max(0, b);
      result[at + 2 * places] = Math.max(0, c);
      result[at + 3 * places] = Math.max(0, d);
    }
  return {maps: result, side: out};
}

// The gradient at what `convolve` was given, from `slope`, that at what it gave.
function convolveBack({maps, side: out}, slope, side, layer) {
  const {weight} = layer, [outputs, inputs, kernel] = weight.shape;
  const places = out * out, length = inputs * kernel * kernel;
  const patches = new Float32Array(places * length), result = new Float32Array(inputs * side * side);
  const through = (o, p) => maps[o * places + p] > 0 ? slope[o * places + p] : 0; // the ReLU
  for (let o = 0; o < outputs; o += 4)
    for (let p = 0; p < places; p++) {
      const a = through(o, p), b = through(o + 1, p), c = through(o + 2, p), d = through(o + 3, p);
      if (a === 0 && b === 0 && c === 0 && d === 0) continue;
      for (let k = p * length, end = k + length, w = o * length; k < end; k++, w++)
        patches[k] += a * weight[w] + b * weight[w + length] + c * weight[w + 2 * length]
          + d * weight[w + 3 * length];
    }
  eachPatch(side, layer, out, (k, at) => { result[at] += patches[k]; });
  return result;
}

// Largest of each 3x3 window, two apart, one pixel over the rim, and where it stood; maps are >= 0.
function pool({maps, side}) {
  const out = (side + 1) >> 1, count = maps.length / (side * side);
  const result = new Float32Array(count * out * out), from = new Int32Array(result.length);
  for (let c = 0, at = 0; c < count; c++)
    for (let y = 0; y < out; y++)
      for (let x = 0; x < out; x++, at++) {
        let top = -1;
        for (let j = Math.max(0, 2 * y - 1); j <= Math.min(side - 1, 2 * y + 1); j++)
          for (let i = Math.max(0, 2 * x - 1); i <= Math.min(side - 1, 2 * x + 1); i++) {
            const place = (c * side + j) * side + i;
            if (maps[place] > top) { top = maps[place]; from[at] = place; }
          }
        result[at] = top;
      }
  return {maps: result, side: out, from};
}

// Logits of features (128): the last layer.
function head({head: {weight, bias}}, features) {
  return Float64Array.from(bias, (sum, c) => {
    for (let k = 0; k < features.length; k++) sum += weight[c * features.length + k] * features[k];
    return sum;
  });
}

// --- the network --------------------------------------------------------------------------------

// What a network makes of an image: {logits, features, blocks}. blocks: {maps, side} of block1,
// block2 and block3; features (128): the means of block3's maps over their places. `added` (128)
// is added to block3's maps at every place, which moves their means by as much.
function forward(network, image, added) {
  const block1 = convolve(image, SIDE, network.layers[0]), pooled = pool(block1);
  const block2 = convolve(pooled.maps, pooled.side, network.layers[1]);
  const block3 = convolve(block2.maps, block2.side, network.layers[2]);
  const area = block3.side ** 2, features = new Float32Array(block3.maps.length / area);
  for (let k = 0; k < features.length; k++) {
    let sum = 0;
    for (let i = 0; i < area; i++) sum += block3.maps[k * area + i];
    features[k] = sum / area + (added ? added[k] : 0);
  }
  return {logits: head(network, features), features, blocks: [block1, block2, block3], pooled};
}

// The gradient at the image (3, 28, 28) of what has the gradient `slope` (10) at the logits, after
// `run`, which `forward` gave.
function backward(network, {blocks: [block1, block2, block3], pooled}, slope) {
  const {weight} = network.head, area = block3.side ** 2, count = block3.maps.length / area;
  let back = new Float32Array(block3.maps.length);
  for (let k = 0; k < count; k++) {
    let sum = 0;
    for (let c = 0; c < slope.length; c++) sum += slope[c] * weight[c * count + k];
    back.fill(sum / area, k * area, (k + 1) * area);
  }
  back = convolveBack(block3, back, block2.side, network.layers[2]);
  back = convolveBack(block2, back, pooled.side, network.layers[1]);
  const below = new Float32Array(block1.maps.length);
  back.forEach((value, i) => { below[pooled.from[i]] += value; });
  return convolveBack(block1, below, SIDE, network.layers[0]);
}

function softmax(logits) {
  const top = Math.max(...logits), powers = Array.from(logits, z => Math.exp(z - top));
  const sum = powers.reduce((a, b) => a + b);
  return powers.map(power => power / sum);
}

function largest(values) {
  return values.indexOf(Math.max(...values));
}

// Grad-CAM of a class at block3. The head reads the mean of each map over its places, so that the
// gradient of the logit at every place of map k is w_k / places: the ReLU of the weighted sum.
function gradCam(network, {blocks: [, , {maps, side}]}, wanted) {
  const area = side * side, count = maps.length / area, heat = new Float64Array(area);
  for (let k = 0; k < count; k++) {
    const weight = network.head.weight[wanted * count + k] / area;
    for (let i = 0; i < area; i++) heat[i] += weight * maps[k * area + i];
  }
  return heat.map(value => Math.max(0, value));
}

// A map (side, side) at the size of the image: bilinear, pixel areas matched.
function upsample(map, side) {
  const result = new Float64Array(PIXELS), last = side - 1;
  const place = i => Math.min(Math.max((i + .5) * side / SIDE - .5, 0), last);
  for (let y = 0; y < SIDE; y++)
    for (let x = 0; x < SIDE; x++) {
      const v = place(y), u = place(x), j = Math.floor(v), i = Math.floor(u);
      const below = Math.min(j + 1, last), right = Math.min(i + 1, last), b = v - j, a = u - i;
      result[y * SIDE + x] = (1 - b) * ((1 - a) * map[j * side + i] + a * map[j * side + right])
        + b * ((1 - a) * map[below * side + i] + a * map[below * side + right]);
    }
  return result;
}

// --- an attack ----------------------------------------------------------------------------------

const FIRST = 3, LAST = .05; // steps, relative to the size, as attack.STEPS has them

// One step of targeted projected gradient ascent, as attack.targeted_pgd takes it: the change
// `delta` of an image goes up the gradient of the target's logit less its largest rival's, and then
// back to at most `size` in every value, with image + delta in [0, 1]. progress: from 0 to 1.
function ascend(network, image, delta, target, size, progress) {
  const run = forward(network, add(image, delta)), slope = new Float32Array(run.logits.length);
  slope[largest(run.logits.map((z, c) => c === target ? -Infinity : z))] = -1;
  slope[target] = 1;
  const gradient = backward(network, run, slope);
  const mean = gradient.reduce((sum, value) => sum + Math.abs(value), 0) / gradient.length;
  const decay = (1 + Math.cos(Math.PI * progress)) / 2;
  const length = (LAST + (FIRST - LAST) * decay) * size / Math.max(mean, 1e-20);
  return delta.map((moved, i) => {
    const held = Math.min(size, Math.max(-size, moved + length * gradient[i]));
    return Math.min(1, Math.max(0, image[i] + held)) - image[i];
  });
}

function add(image, delta) {
  return image.map((value, i) => value + delta[i]);
}

// --- from strokes to a painted picture ----------------------------------------------------------

// Grey picture of lines, in pixels: one pixel from full to none at the edge of a stroke.
function raster(lines) {
  const alpha = new Float64Array(PIXELS);
  for (const line of lines)
    for (let k = 0; k < Math.max(1, line.length - 1); k++) {
      const [x0, y0] = line[k], [x1, y1] = line[Math.min(k + 1, line.length - 1)];
      const dx = x1 - x0, dy = y1 - y0, square = dx * dx + dy * dy, reach = WIDTH / 2 + .5;
      const low = (a, b) => Math.max(0, Math.floor(Math.min(a, b) - reach));
      const high = (a, b) => Math.min(SIDE - 1, Math.ceil(Math.max(a, b) + reach));
      for (let y = low(y0, y1); y <= high(y0, y1); y++)
        for (let x = low(x0, x1); x <= high(x0, x1); x++) {
          const px = x + .5 - x0, py = y + .5 - y0;
          const t = square && Math.min(1, Math.max(0, (px * dx + py * dy) / square));
          const distance = Math.hypot(px - t * dx, py - t * dy);
          const cover = Math.min(1, Math.max(0, reach - distance)), at = y * SIDE + x;
          alpha[at] = Math.max(alpha[at], cover);
        }
    }
  return alpha;
}

// Strokes, lists of points in [0, 1], as a grey picture like MNIST's: the larger side takes BOX
// pixels, and the centre of mass lies at pixel (14, 14).
function normalise(strokes) {
  const points = strokes.flat();
  if (!points.length) return new Uint8Array(PIXELS);
  const ends = axis => {
    const values = points.map(point => point[axis]);
    return [values.reduce((a, b) => Math.min(a, b)), values.reduce((a, b) => Math.max(a, b))];
  };
  const [left, right] = ends(0), [top, bottom] = ends(1);
  const scale = Math.min(LARGEST, (BOX - WIDTH) / Math.max(right - left, bottom - top, 1e-9));
  const lines = (dx, dy) => strokes.map(stroke => stroke.map(([x, y]) => [
    SIDE / 2 + dx + scale * (x - (left + right) / 2),
    SIDE / 2 + dy + scale * (y - (top + bottom) / 2)]));
  let mass = 0, across = 0, down = 0;
  raster(lines(0, 0)).forEach((cover, at) => {
    mass += cover;
    across += cover * (at % SIDE);
    down += cover * Math.floor(at / SIDE);
  });
  const shift = sum => Math.min(4, Math.max(-4, SIDE / 2 - sum / mass));
  const alpha = raster(lines(shift(across), shift(down)));
  return Uint8Array.from(alpha, value => Math.round(255 * value));
}

// Grey picture (28, 28) of bytes, colour in [0, 1], background -> image, as canvas.paint paints:
// a * colour + (1 - a) * background.
function paint(grey, rgb, background) {
  return background.map((dark, i) => {
    const alpha = grey[i % PIXELS] / 255;
    return dark + alpha * (rgb[Math.floor(i / PIXELS)] - dark);
  });
}

// Grey picture without what lies in a square of `size` pixels, whose first pixel is (left, top):
// painted, it shows the background there.
function cover(grey, left, top, size) {
  const inside = (at, from) => at >= from && at < from + size;
  return grey.map((value, i) =>
    inside(i % SIDE, left) && inside(Math.floor(i / SIDE), top) ? 0 : value);
}

// The colour at a turn of the wheel. stops: the wheel's colours in their order, evenly spaced; a
// whole turn is as many as they are, and between two of them their mixture counts.
function hue(turn, stops) {
  const place = ((turn % stops.length) + stops.length) % stops.length, i = Math.floor(place);
  const next = stops[(i + 1) % stops.length];
  return stops[i].map((low, c) => low + (place - i) * (next[c] - low));
}

return {SIDE, PIXELS, WIDTH, decode, convolve, forward, backward, head, softmax, largest, gradCam,
  upsample, ascend, add, normalise, paint, cover, hue};
})();
