// What the book's widgets share: exported data, a drawing pad, the hue wheel, a network's answer on
// a card, and settings in the page's address. Defines one global, `Widgets`; needs network.js.
"use strict";
globalThis.Widgets ??= (() => {
const {SIDE, WIDTH, normalise, softmax, largest, hue, forward} = Network;
const GRID = 14; // places of the keyboard's pen on each side
const kinds = {}, decoded = {};

// --- widgets on their pages ---------------------------------------------------------------------

// What a chapter has exported by this name, decoded once.
function data(name) {
  decoded[name] ??= Network.decode(globalThis.EXPORTED[name]);
  return decoded[name];
}

// build(root) puts a widget of this kind into its element, in the place of the still.
function define(kind, build) {
  kinds[kind] = build;
  if (document.readyState !== "loading") start();
  else addEventListener("DOMContentLoaded", start, {once: true});
}

function start() {
  for (const root of document.querySelectorAll(".widget[data-kind]:not(.live)")) {
    const build = kinds[root.dataset.kind];
    if (!build) continue;
    const body = element("div", {className: "widget-body"});
    root.append(body);
    build(body);
    root.classList.add("live"); // which hides the still
    root.id = `widget-${root.dataset.kind}`; // it may stand far down: the first paragraph links
    const first = [...document.querySelectorAll("main p")].find(p => !p.closest(".widget, header, .notebook"));
    const title = root.querySelector("strong").textContent.replace(/[,.:]$/, "");
    first?.append(" ", element("a", {className: "to-widget", href: `#${root.id}`, title,
      textContent: "Try it"}));
  }
}

// A setting that is shared by its link: #name?key=value&…
function linked(name) {
  const [own, setting] = location.hash.slice(1).split("?");
  return own === name && setting !== undefined ? new URLSearchParams(setting) : null;
}

const linkTo = (name, setting) => `#${name}?${new URLSearchParams(setting)}`;

function remember(name, setting) {
  try { history.replaceState(null, "", linkTo(name, setting)); } catch { /* some file:// pages */ }
}

// --- small things -------------------------------------------------------------------------------

function element(tag, properties = {}, ...children) {
  const made = Object.assign(document.createElement(tag), properties);
  made.append(...children);
  return made;
}

function percent(share) {
  if (share > .995 && share < 1) return "> 99%";
  if (share < .005 && share > 0) return "< 1%";
  return Math.round(100 * share) + "%";
}

// A part of a drawing, with a class; its lines are as wide at any size (widgets.css).
function path(className, d = "") {
  const made = document.createElementNS("http://www.w3.org/2000/svg", "path");
  made.setAttribute("class", className);
  made.setAttribute("d", d);
  return made;
}

// A drawing on a square of 100 by 100, stretched to the element's own size.
function drawing(...paths) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  for (const [name, value] of [["viewBox", "0 0 100 100"], ["preserveAspectRatio", "none"],
    ["aria-hidden", "true"]]) made.setAttribute(name, value);
  made.append(...paths);
  return made;
}

const css = rgb => `rgb(${rgb.map(value => Math.round(255 * value)).join(" ")})`;

function swatch(rgb) {
  const made = element("span", {className: "swatch"});
  made.style.background = css(rgb);
  return made;
}

function unseen(text) {
  return element("span", {className: "unseen", textContent: text});
}

// A function that calls `action` at most once a frame, however often it is called.
function soon(action) {
  let waiting = false;
  return () => {
    if (waiting) return;
    waiting = true;
    requestAnimationFrame(() => { waiting = false; action(); });
  };
}

// Pixels of an image (3, 28, 28) in [0, 1] on a canvas of 28 by 28.
function show(canvas, image) {
  const pen = canvas.getContext("2d"), shown = pen.createImageData(SIDE, SIDE);
  for (let i = 0; i < SIDE * SIDE; i++) {
    for (let c = 0; c < 3; c++) shown.data[4 * i + c] = 255 * image[c * SIDE * SIDE + i] + .5;
    shown.data[4 * i + 3] = 255;
  }
  pen.putImageData(shown, 0, 0);
}

// --- the drawing pad ----------------------------------------------------------------------------

const ARROWS = {ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1]};
let wheels = 0;

// A pad to draw on with mouse, finger or keys: {root, grey(), blank(), give(grey), clear(), undo(),
// paint(image, rgb), own(), open(on)}. changed: called when what is on it has changed. A finger
// draws where the pad is open, and else scrolls the page. help: id of the text that explains keys.
function makePad(background, changed, help) {
  const canvas = element("canvas", {className: "pad", width: 672, height: 672, tabIndex: 0});
  const status = unseen(""), small = element("canvas", {width: SIDE, height: SIDE});
  const pen = {column: 6, row: 6, down: false, shown: false};
  let strokes = [], given = null, drawing = false, opened = false;
  for (const [name, value] of [["role", "application"], ["aria-label", "Drawing pad"],
    ["aria-describedby", help]]) canvas.setAttribute(name, value);
  status.setAttribute("role", "status");

  function begin(point) {
    given = null;
    strokes.push([point]);
  }

  function place(event) {
    const box = canvas.getBoundingClientRect();
    return [(event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height]
      .map(value => Math.min(1, Math.max(0, value)));
  }

  canvas.addEventListener("pointerdown", event => {
    if (event.button !== 0 || (event.pointerType === "touch" && !opened)) return;
    canvas.setPointerCapture(event.pointerId);
    drawing = true;
    pen.down = pen.shown = false;
    begin(place(event));
    changed();
  });
  canvas.addEventListener("pointermove", event => {
    if (!drawing) return;
    const moves = event.getCoalescedEvents?.() ?? [];
    for (const move of moves.length ? moves : [event]) {
      const point = place(move), last = strokes.at(-1).at(-1);
      if (Math.hypot(point[0] - last[0], point[1] - last[1]) > .006) strokes.at(-1).push(point);
    }
    changed();
  });
  for (const name of ["pointerup", "pointercancel", "lostpointercapture"])
    canvas.addEventListener(name, () => { drawing = false; });

  function give(grey) { // null: nothing
    given = grey;
    strokes = [];
    pen.down = false;
    changed();
  }

  function undo() {
    if (given) given = null;
    else strokes.pop();
    pen.down = false;
    changed();
  }

  const penPlace = () => [(pen.column + .5) / GRID, (pen.row + .5) / GRID];
  canvas.addEventListener("keydown", event => {
    if (event.ctrlKey || event.altKey || event.metaKey) return;
    const arrow = ARROWS[event.key];
    if (arrow) {
      const inside = value => Math.min(GRID - 1, Math.max(0, value));
      pen.column = inside(pen.column + arrow[0]);
      pen.row = inside(pen.row + arrow[1]);
      if (pen.down) strokes.at(-1).push(penPlace());
    } else if (event.key === " ") {
      pen.down = !pen.down;
      if (pen.down) begin(penPlace());
    } else if (event.key === "Backspace") undo();
    else if (event.key === "Delete") give(null);
    else return;
    event.preventDefault();
    pen.shown = true;
    status.textContent =
      `Pen ${pen.down ? "down" : "up"}, column ${pen.column + 1}, row ${pen.row + 1} of ${GRID}`;
    changed();
  });
  canvas.addEventListener("focus", () => {
    pen.shown = canvas.matches(":focus-visible") && !drawing;
    changed();
  });
  canvas.addEventListener("blur", () => { pen.shown = pen.down = false; changed(); });

  function paint(image, rgb) { // image: what a digit that was given looks like, painted
    const pad = canvas.getContext("2d"), size = canvas.width;
    show(small, given ? image : background);
    pad.imageSmoothingQuality = "high";
    pad.drawImage(small, 0, 0, size, size);
    pad.lineCap = pad.lineJoin = "round";
    pad.strokeStyle = css(rgb);
    pad.lineWidth = size * WIDTH / SIDE;
    for (const stroke of strokes) {
      pad.beginPath();
      pad.moveTo(size * stroke[0][0], size * stroke[0][1]);
      for (const [x, y] of stroke) pad.lineTo(size * x, size * y);
      pad.stroke();
    }
    if (!pen.shown) return;
    pad.fillStyle = "#fff6";
    for (let i = 0; i < GRID * GRID; i++)
      pad.fillRect((i % GRID + .5) * size / GRID - 1.5,
        (Math.floor(i / GRID) + .5) * size / GRID - 1.5, 3, 3);
    pad.beginPath();
    pad.arc((pen.column + .5) * size / GRID, (pen.row + .5) * size / GRID, size / 32, 0, 7);
    for (const [style, width] of [["#000", 10], ["#fff", 5]]) {
      pad.strokeStyle = style;
      pad.lineWidth = width;
      pad.stroke();
    }
    pad.fillStyle = "#fff";
    if (pen.down) pad.fill();
  }

  function open(on) {
    opened = on;
    canvas.style.touchAction = on ? "none" : "";
  }

  return {root: element("div", {}, canvas, status), canvas, give, undo, paint, open,
    clear: () => give(null), grey: () => given ?? normalise(strokes),
    blank: () => !given && !strokes.length, own: () => !given};
}

// --- the hue wheel ------------------------------------------------------------------------------

// A slider through the palette's colours, red at both ends, and the ten colours by name: {root,
// turn(), set(turn), rgb(), near(), words()}. near: the one or two colours, by number, that the
// turn lies at or between.
function makeWheel({colours, wheel}, changed) {
  const stops = wheel.map(k => colours[k].rgb), count = wheel.length, group = `colour-${wheels++}`;
  const slider = element("input", {type: "range", className: "hue", min: 0, max: count, step: .1});
  slider.setAttribute("aria-label", "Colour of the stroke");
  slider.style.setProperty("--hues", [...stops, stops[0]].map(css).join(", "));
  slider.style.setProperty("--end", css(stops[0]));
  const now = element("p", {className: "hue-now"});
  const radios = wheel.map((_, i) => element("input", {type: "radio", name: group, value: i}));
  const face = i => {
    const {name, rgb} = colours[wheel[i % count]];
    return [swatch(rgb), element("span", {className: "name"}, name),
      element("small", {}, unseen("suggests "), String(wheel[i % count]))];
  };
  const again = element("span", {onclick: () => { set(count); changed(); }}, ...face(count));
  again.setAttribute("aria-hidden", "true"); // red, at the other end
  const named = element("div", {className: "colours"},
    ...radios.map((radio, i) => element("label", {}, radio, ...face(i))), again);
  named.setAttribute("role", "radiogroup");
  named.setAttribute("aria-label", "The ten colours of the training pictures");

  const turn = () => +slider.value;
  const rgb = () => hue(turn(), stops);
  function near() {
    const low = Math.floor(turn()), high = Math.ceil(turn());
    return [...new Set([low, high])].map(i => wheel[i % count]);
  }
  function words() {
    const names = near().map(k => colours[k].name);
    return names.length > 1 ? `between ${names.join(" and ")}` : names[0];
  }
  function set(value) {
    slider.value = value;
    radios.forEach((radio, i) => { radio.checked = i === turn() % count; });
    const about = `${words()}, which suggest${near().length > 1 ? "" : "s"} ${near().join(" or ")}`;
    slider.setAttribute("aria-valuetext", about);
    now.replaceChildren("Colour: ", swatch(rgb()), ` ${about}`);
  }
  slider.addEventListener("input", () => { set(turn()); changed(); });
  named.addEventListener("change", event => { set(+event.target.value); changed(); });
  set(0);
  return {root: element("div", {className: "wheel"}, now, slider, named), turn, set, rgb, near,
    words};
}

// --- a network's answer -------------------------------------------------------------------------

// A card on which a network answers: {root, show(image, wheel, run)}. show(null) empties it; else it
// returns what the network made of the image (or `run`), with its probabilities and their largest.
function makeCard(network, {colours}) {
  const rows = colours.map((_, c) => {
    const bar = element("i"), share = element("td"), dots = element("span");
    const line = element("tr", {}, element("th", {scope: "row"}, String(c), dots),
      element("td", {}, bar), share);
    return {line, bar, share, dots};
  });
  const answer = element("b"), confidence = element("span");
  const table = element("table", {className: "bars"},
    element("caption", {className: "unseen", textContent: `Probabilities, the ${network.name}`}),
    element("tbody", {}, ...rows.map(row => row.line)));
  const root = element("article", {className: `card of-${network.name}`},
    element("p", {className: "who", textContent: `The ${network.name} says`}),
    element("p", {className: "answer"}, answer, confidence), table);

  function show(image, wheel, made) {
    const run = image && (made ?? forward(network, image)), shares = run ? softmax(run.logits) : [];
    const top = run ? largest(shares) : -1, near = run ? wheel.near() : [];
    answer.textContent = run ? top : "–";
    const names = near.map(k => colours[k].name).join(" or ");
    confidence.textContent = !run ? "nothing drawn yet" :
      `${percent(shares[top])} confident; ${near.includes(top) ? "" : "not "}what ${names} suggests`;
    rows.forEach(({line, bar, share, dots}, c) => {
      line.className = c === top ? "top" : "";
      bar.style.width = run ? 100 * shares[c] + "%" : 0;
      share.textContent = run ? percent(shares[c]) : "";
      dots.replaceChildren(...near.includes(c) ?
        [swatch(colours[c].rgb), unseen(" (what the colour suggests)")] : []);
    });
    const told = run ? `The ${network.name} says ${top}, ${percent(shares[top])} confident.` : "";
    return run && {...run, shares, top, told};
  }

  return {root, show};
}

// --- heat ---------------------------------------------------------------------------------------

// Magma's colours, as in the book's figures.
const MAGMA = ["000004", "1d1147", "51127c", "822681", "b73779", "e75263", "fc8961", "fec488",
  "fcfdbf"].map(hex => [0, 2, 4].map(i => parseInt(hex.slice(i, i + 2), 16)));

function magma(value) {
  const place = Math.min(1, Math.max(0, value)) * (MAGMA.length - 1);
  const i = Math.min(MAGMA.length - 2, Math.floor(place));
  return MAGMA[i].map((low, c) => low + (place - i) * (MAGMA[i + 1][c] - low));
}

// Heat (28, 28) in [0, 1] on a canvas ten times as large, under the outline of the stroke.
function showHeat(canvas, heat, grey) {
  const pen = canvas.getContext("2d"), size = canvas.width / SIDE;
  heat.forEach((value, i) => {
    pen.fillStyle = `rgb(${magma(value).join(" ")})`;
    pen.fillRect((i % SIDE) * size, Math.floor(i / SIDE) * size, size, size);
  });
  pen.beginPath();
  for (let y = 0; y < SIDE; y++)
    for (let x = 0; x < SIDE; x++) {
      const inside = (x, y) => x < SIDE && y < SIDE && grey[y * SIDE + x] > 127;
      if (inside(x, y) !== inside(x + 1, y)) {
        pen.moveTo((x + 1) * size, y * size);
        pen.lineTo((x + 1) * size, (y + 1) * size);
      }
      if (inside(x, y) !== inside(x, y + 1)) {
        pen.moveTo(x * size, (y + 1) * size);
        pen.lineTo((x + 1) * size, (y + 1) * size);
      }
    }
  pen.lineCap = "square";
  for (const [style, width] of [["#0009", 4], ["#fff", 1.6]]) {
    pen.strokeStyle = style;
    pen.lineWidth = width;
    pen.stroke();
  }
}

const PLACES = [["upper left", "top", "upper right"], ["left", "middle", "right"],
  ["lower left", "bottom", "lower right"]];

function whereabouts(heat) {
  const hottest = largest(Array.from(heat)), third = i => Math.min(2, Math.floor(3 * i / SIDE));
  return PLACES[third(Math.floor(hottest / SIDE))][third(hottest % SIDE)];
}

// Where a network looks, by Grad-CAM for its answer, on its own scale: {root, show(run, grey)}. run:
// what its card's `show` has returned; grey: the strokes of the picture.
function makeHeat(network) {
  const canvas = element("canvas", {className: "pixels", width: 10 * SIDE, height: 10 * SIDE});
  const caption = element("figcaption");
  canvas.setAttribute("role", "img");
  function show(run, grey) {
    const {gradCam, upsample} = Network, none = new Float64Array(SIDE * SIDE);
    const heat = run ? upsample(gradCam(network, run, run.top), run.blocks[2].side) : none;
    const sum = heat.reduce((a, b) => a + b), stroke = heat.filter((_, i) => grey[i] > 127);
    showHeat(canvas, heat.map(value => value / network.heat), grey);
    caption.textContent = sum ?
      `Heat: ${percent(stroke.reduce((a, b) => a + b, 0) / sum)} of it on the stroke` : "No heat.";
    canvas.setAttribute("aria-label", sum ?
      `heat map of the ${network.name}: warmest at the ${whereabouts(heat)}` : "heat map: no heat");
  }
  return {root: element("figure", {}, canvas, caption), show};
}

// Buttons for the ten test digits: {root, press(digit)}. take(digit) is called by a click; `press`
// marks the digit that is shown, or none for null.
function makeDigits(take) {
  const buttons = Array.from({length: 10}, (_, i) => {
    const button = element("button", {type: "button", textContent: i, onclick: () => take(i)});
    button.setAttribute("aria-label", `test digit ${i}`);
    return button;
  });
  const press = digit =>
    buttons.forEach((button, i) => button.setAttribute("aria-pressed", String(i === digit)));
  return {root: element("div", {className: "digits"}, ...buttons), press};
}

return {data, define, linked, linkTo, remember, element, percent, css, swatch, unseen, soon, show,
  path, drawing, makePad, makeWheel, makeCard, makeHeat, makeDigits};
})();
