// Chapter 9's widget: paint pixels, and see the program's sum and the network's answer follow.
"use strict";

// The challenge's CNN and its program in the browser: eis7/cnn.py. image: (784) in [0, 1].
globalThis.Challenge ??= (() => {
const {SIDE, convolve, head} = Network;

// The ReLU of a 3x3 convolution, and the largest of each 2x2 square of it. The challenge's sees no
// zeros around the maps: the rim, which has seen some, is left out.
function stage(maps, side, layer) {
  const full = convolve(maps, side, {...layer, stride: 1}).maps, out = (side - 2) >> 1;
  const result = new Float32Array(layer.bias.length * out * out);
  for (let c = 0, at = 0; c < layer.bias.length; c++)
    for (let y = 0; y < out; y++)
      for (let x = 0; x < out; x++, at++) {
        const place = (c * side + 2 * y + 1) * side + 2 * x + 1;
        result[at] = Math.max(full[place], full[place + 1], full[place + side],
          full[place + side + 1]);
      }
  return result;
}

function logits(weights, image) {
  const layer = name => ({weight: weights[name + ".weight"], bias: weights[name + ".bias"]});
  const maps = stage(stage(image, SIDE, layer("conv1")), (SIDE - 2) >> 1, layer("conv2"));
  const hidden = head({head: layer("fc1")}, maps).map(value => Math.max(0, value));
  return head({head: layer("fc2")}, hidden);
}

// The sum over pixels of (clue - 1/2) * image; clue: (784) bytes.
function similarity(clue, image) {
  return image.reduce((sum, value, i) => sum + (clue[i] / 255 - .5) * value, 0);
}

const label = (sum, [low, high]) => +(sum < low || sum > high);

return {logits, similarity, label};
})();

Widgets.define("pixels", body => {
  const {element, unseen, linked, remember, soon, path} = Widgets, {SIDE, PIXELS} = Network;
  const {weights, clue, band, digits, cloud} = Widgets.data("challenge-cnn");
  const DAB = 2; // pixels on each side of what the pen sets at once
  const LEFT = -100, RIGHT = 45, TOP = 48, BOTTOM = -16; // of the plot
  const starts = [...Array(10).keys()]
    .map(d => [String(d), digits.subarray(d * PIXELS, (d + 1) * PIXELS)]);
  starts.push(["the clue", clue], ["nothing", new Uint8Array(PIXELS)]);
  const pen = {lights: true, down: false, shown: false, column: 13, row: 13};
  let start = 3, grey = starts[3][1].slice(), before = [], trail = [], touched = false;
  let opened = false, speaking = 0;

  // --- what is on the page ----------------------------------------------------------------------

  const canvas = element("canvas", {className: "pad", width: 672, height: 672, tabIndex: 0});
  const small = element("canvas", {width: SIDE, height: SIDE}), spoken = unseen("");
  const help = unseen("With mouse or keys: the arrows move the pen, Space puts it down and lifts it, "
    + "Backspace takes the last stroke back.");
  help.id = "pixels-help";
  for (const [name, value] of [["role", "application"], ["aria-label", "Pixels to paint"],
    ["aria-describedby", help.id]]) canvas.setAttribute(name, value);
  spoken.setAttribute("role", "status");

  const button = (textContent, action, about) => {
    const made = element("button", {type: "button", textContent, onclick: action});
    if (about) made.setAttribute("aria-label", about);
    return made;
  };
  const pens = [["Lighten", true], ["Darken", false]].map(([name, lights]) => button(name, () => {
    Object.assign(pen, {lights, down: false});
    opened = true; // from now on a finger paints
    canvas.style.touchAction = "none";
    refresh();
  }, `${name} pixels`));
  const picks = starts.map(([name], i) =>
    button(name, () => { begin(i); changed(); }, i < 10 && `digit ${name}`));

  function card(who) {
    const answer = element("b"), why = element("span");
    const root = element("article", {className: "card"}, element("p", {className: "who"}, who),
      element("p", {className: "answer"}, answer, why));
    return {root, say: (label, text) => { answer.textContent = label; why.textContent = text; }};
  }
  const program = card("The program says"), network = card("Our network says");

  // --- the plot: logit 1 - logit 0 against the sum ------------------------------------------------

  const across = s => 100 * (Math.min(RIGHT, Math.max(LEFT, s)) - LEFT) / (RIGHT - LEFT);
  const down = m => 100 * (TOP - Math.min(TOP, Math.max(BOTTOM, m))) / (TOP - BOTTOM);
  const at = ([s, m]) => `${across(s).toFixed(2)} ${down(m).toFixed(2)}`;
  const pairs = Array.from({length: cloud.length / 2}, (_, i) => [cloud[2 * i], cloud[2 * i + 1]]);
  const way = path("way"), now = path("now");
  const edges = band.map(edge => `M${across(edge)} 0V100`).join(""), zero = `M0 ${down(0)}H100`;
  const plot = Widgets.drawing(path("cloud", pairs.map(one => `M${at(one)}h0`).join("")),
    path("zero", zero), path("edges", edges), way, now);
  const text = (textContent, left, top, className) => {
    const made = element("span", {textContent, className});
    made.style.left = left + "%";
    made.style.top = top + "%";
    return made;
  };
  const ends = [LEFT, ...band, RIGHT].map(across);
  const zones = ["program: 1", "0", "1"].map((label, i) =>
    text(label, (ends[i] + ends[i + 1]) / 2, 100, "zone"));
  const answers = [1, 0].map(label =>
    text(`network: ${label}`, 99, down(0), label ? "above" : "below"));
  const frame = element("div", {className: "bowl"}, plot, ...zones, ...answers);
  frame.setAttribute("aria-hidden", "true");

  // --- painting -----------------------------------------------------------------------------------

  function begin(i) {
    start = i;
    grey = starts[i][1].slice();
    before = [];
    trail = [];
    pen.down = false;
  }

  const keep = () => { before.push(grey.slice()); };

  function dab(column, row) {
    for (let y = row; y < Math.min(SIDE, row + DAB); y++)
      for (let x = column; x < Math.min(SIDE, column + DAB); x++)
        grey[y * SIDE + x] = pen.lights ? 255 : 0;
  }

  function place(event) { // the upper left pixel of the dab that is nearest
    const box = canvas.getBoundingClientRect(), end = SIDE - DAB;
    return [(event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height]
      .map(share => Math.min(end, Math.max(0, Math.round(share * SIDE - DAB / 2))));
  }

  function stroke([x1, y1], [x0, y0] = [x1, y1]) {
    const steps = Math.max(1, Math.abs(x1 - x0), Math.abs(y1 - y0));
    for (let k = 0; k <= steps; k++)
      dab(Math.round(x0 + k * (x1 - x0) / steps), Math.round(y0 + k * (y1 - y0) / steps));
    changed();
  }

  let from = null, finger = false;
  canvas.addEventListener("pointerdown", event => {
    finger = event.pointerType === "touch" && !opened;
    if (event.button !== 0 || finger) return;
    canvas.setPointerCapture(event.pointerId);
    pen.shown = pen.down = false;
    keep();
    stroke(from = place(event));
  });
  canvas.addEventListener("pointermove", event => {
    if (!from) return;
    const to = place(event);
    stroke(to, from);
    from = to;
  });
  for (const name of ["pointerup", "pointercancel", "lostpointercapture"])
    canvas.addEventListener(name, () => { from = null; });
  canvas.addEventListener("click", event => { // a finger that does not scroll sets a dab
    if (!finger) return;
    keep();
    stroke(place(event));
  });

  function undo() {
    if (before.length) grey = before.pop();
    pen.down = false;
    changed();
  }

  function lightRim() {
    keep();
    for (let i = 0; i < PIXELS; i++) {
      const x = i % SIDE, y = Math.floor(i / SIDE);
      if (Math.min(x, y) === 0 || Math.max(x, y) === SIDE - 1) grey[i] = 255;
    }
    changed();
  }

  const STEPS = {ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1]};
  canvas.addEventListener("keydown", event => {
    if (event.ctrlKey || event.altKey || event.metaKey) return;
    const step = STEPS[event.key], inside = value => Math.min(SIDE - DAB, Math.max(0, value));
    if (step) {
      pen.column = inside(pen.column + step[0]);
      pen.row = inside(pen.row + step[1]);
    } else if (event.key === " ") {
      pen.down = !pen.down;
      if (pen.down) keep();
    } else if (event.key === "Backspace") undo();
    else return;
    event.preventDefault();
    pen.shown = true;
    if (pen.down) stroke([pen.column, pen.row]);
    else refresh();
  });
  canvas.addEventListener("focus", () => {
    pen.shown = canvas.matches(":focus-visible");
    refresh();
  });
  canvas.addEventListener("blur", () => { pen.shown = pen.down = false; refresh(); });

  // --- what follows -------------------------------------------------------------------------------

  function draw(image) {
    const paper = canvas.getContext("2d"), size = canvas.width / SIDE;
    const shown = new Float32Array(3 * PIXELS);
    for (let c = 0; c < 3; c++) shown.set(image, c * PIXELS);
    Widgets.show(small, shown);
    paper.imageSmoothingEnabled = false;
    paper.drawImage(small, 0, 0, canvas.width, canvas.width);
    paper.beginPath(); // around the pixels that raise the sum
    for (let i = 0; i < PIXELS; i++) {
      const x = i % SIDE, y = Math.floor(i / SIDE), inside = clue[i] > 127;
      for (const [other, left, top] of [[i + 1, x + 1, y], [i + SIDE, x, y + 1]]) {
        if (inside === clue[other] > 127) continue;
        paper.moveTo(left * size, top * size);
        paper.lineTo((x + 1) * size, (y + 1) * size);
      }
    }
    paper.lineCap = "square";
    for (const [style, width] of [["#000", 7], ["#ffa01e", 4]]) {
      paper.strokeStyle = style;
      paper.lineWidth = width;
      paper.stroke();
    }
    if (!pen.shown) return;
    for (const [style, width] of [["#000", 10], [pen.down ? "#5ab4ff" : "#fff", 5]]) {
      paper.strokeStyle = style;
      paper.lineWidth = width;
      paper.strokeRect(pen.column * size, pen.row * size, DAB * size, DAB * size);
    }
  }

  const signed = (value, digits = 1) => value.toFixed(digits).replace("-", "−");

  const refresh = soon(() => {
    const image = Float32Array.from(grey, value => value / 255);
    const sum = Challenge.similarity(clue, image), scores = Challenge.logits(weights, image);
    const margin = scores[1] - scores[0], says = [Challenge.label(sum, band), +(margin > 0)];
    draw(image);
    program.say(says[0], `s = ${signed(sum)}, ` + (!says[0] ? "between the thresholds"
      : sum > band[1] ? "above both thresholds" : "below both thresholds"));
    network.say(says[1], `logit 1 − logit 0 = ${signed(margin)}`);
    network.root.classList.toggle("differs", says[0] !== says[1]);
    trail = [...trail, [sum, margin]].slice(-300);
    way.setAttribute("d", "M" + trail.map(at).join("L"));
    now.setAttribute("d", `M${at([sum, margin])}h0`);
    picks.forEach((one, i) => one.setAttribute("aria-pressed", String(i === start)));
    pens.forEach((one, i) => one.setAttribute("aria-pressed", String(pen.lights === !i)));
    clearTimeout(speaking);
    speaking = setTimeout(() => {
      const where = `Pen ${pen.down ? "down" : "up"}, column ${pen.column + 1}, row ${pen.row + 1}. `;
      spoken.textContent = `${pen.shown ? where : ""}The sum is ${signed(sum)}. `
        + `The program says ${says[0]}, the network ${says[1]}.`;
      if (touched) remember("pixels", setting());
    }, 400);
  });

  function changed() {
    touched = true;
    refresh();
  }

  // Where the picture is not that which it began with: two letters a pixel, lit and dark ones.
  function setting() {
    const [on, off] = [true, false].map(lit => [...grey.keys()]
      .filter(i => grey[i] !== starts[start][1][i] && (grey[i] > 0) === lit)
      .map(i => i.toString(36).padStart(2, "0")).join(""));
    return {start, ...on && {on}, ...off && {off}};
  }

  function follow() {
    const given = linked("pixels");
    if (!given) return;
    begin(Math.min(starts.length - 1, Math.max(0, parseInt(given.get("start")) || 0)));
    for (const [name, value] of [["on", 255], ["off", 0]])
      for (const two of given.get(name)?.match(/../g) ?? []) {
        const i = parseInt(two, 36);
        if (i < PIXELS) grey[i] = value;
      }
    body.parentElement.scrollIntoView();
  }

  const rim = button("Lighten the rim", lightRim);
  const line = textContent => element("p", {className: "small", textContent});
  body.append(element("div", {className: "pixel-sum"},
    element("div", {className: "cards"}, program.root, network.root),
    element("div", {className: "paper"}, canvas,
      element("div", {className: "buttons"}, ...pens, button("Undo", undo), rim)),
    element("div", {className: "plot"}, frame,
      line("Across, the sum s; up, logit 1 − logit 0. Grey: test digits. Within the orange line "
        + "light raises s, elsewhere it lowers it."),
      line("Begin with:"), element("div", {className: "digits"}, ...picks))), spoken, help);
  addEventListener("hashchange", () => { follow(); refresh(); });
  follow();
  refresh();
});
