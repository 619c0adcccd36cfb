// Chapter 10's widget: turn the exponent of the program's first line, and see which rows go together
// and which cells the program gets wrong.
"use strict";

// The program of eis7/transformer.py with another exponent.
globalThis.Stripes ??= (() => {
const SIDE = 113, LEAST = 1.3, MOST = 1.7; // numbers; exponents

// {phases(exponent), wrong(exponent), says(x, y, phase), label(x, y)} of the constants of the
// program and the true labels, bits by x, then y.
function make({program: c, labels}) {
  const label = (x, y) => labels[(SIDE * x + y) >> 3] >> (7 - (SIDE * x + y) % 8) & 1;

  function says(x, y, phase) {
    const z = phase + c.left_step * (x * x * x * x < c.left * y)
      + c.lower_step * (y * y * y * y >= c.lower * x);
    return +(z >= c.top || (z >= c.top - 5 && z < c.top - 3 && x + y < c.line));
  }

  // The phase of each x. Roots are rounded exactly, powers hardly ever.
  function phases(exponent) {
    return Array.from({length: SIDE}, (_, x) =>
      Math.floor(exponent === 1.5 ? Math.sqrt(x * x * x) : x ** exponent) % c.period);
  }

  const rows = Array.from({length: SIDE}, (_, x) => Array.from({length: c.period}, (_, phase) => {
    let wrong = 0; // cells of the row, if this is its phase
    for (let y = 0; y < SIDE; y++) wrong += says(x, y, phase) !== label(x, y);
    return wrong;
  }));
  const wrong = exponent => phases(exponent).reduce((sum, phase, x) => sum + rows[x][phase], 0);

  return {label, says, phases, wrong};
}

return {SIDE, LEAST, MOST, make};
})();

Widgets.define("stripes", body => {
  const {element, unseen, linked, remember, soon, path} = Widgets, {SIDE, LEAST, MOST} = Stripes;
  const data = Widgets.data("challenge-labels"), table = Stripes.make(data);
  const CELLS = SIDE * SIDE, SCALE = 5, HIGHEST = 6000; // wrong cells, of the plot
  const count = element("b"), spoken = unseen(""), seen = new Map();
  let speaking = 0, touched = false, dragging = false;
  spoken.setAttribute("role", "status");

  const slider = element("input",
    {type: "range", className: "exponent", min: LEAST, max: MOST, step: .001});
  slider.setAttribute("aria-label", "Exponent");
  const now = element("b");
  const step = (sign, name) => element("button", {type: "button", textContent: name, onclick: () => {
    set(+slider.value + sign * .001);
    changed();
  }});

  function map(title) {
    const canvas = element("canvas", {width: SCALE * SIDE, height: SCALE * SIDE});
    canvas.setAttribute("role", "img");
    canvas.setAttribute("aria-label", title);
    const caption = element("figcaption", {className: "small", textContent: title});
    return {canvas, root: element("figure", {}, canvas, caption)};
  }
  const sorted = map("True labels, rows sorted by phase, then x");
  const cells = map("The program’s labels, wrong ones in orange");
  const small = element("canvas", {width: SIDE, height: SIDE});

  // colour(row, column) -> its red, green and blue
  function draw({canvas}, colour) {
    const pen = small.getContext("2d"), shown = pen.createImageData(SIDE, SIDE);
    for (let i = 0; i < CELLS; i++) {
      shown.data.set(colour(Math.floor(i / SIDE), i % SIDE), 4 * i);
      shown.data[4 * i + 3] = 255;
    }
    pen.putImageData(shown, 0, 0);
    const paper = canvas.getContext("2d");
    paper.imageSmoothingEnabled = false;
    paper.drawImage(small, 0, 0, canvas.width, canvas.width);
    return paper;
  }

  const dots = path("cloud"), here = path("now");
  const plot = Widgets.drawing(path("zero", "M0 100H100"), dots, here);
  const at = (exponent, wrong) =>
    `M${100 * (exponent - LEAST) / (MOST - LEAST)} ${100 - 100 * wrong / HIGHEST}h0`;

  const WHITE = [255, 255, 255], BLACK = [17, 17, 17], WRONG = [232, 119, 34];
  const refresh = soon(() => {
    const exponent = +slider.value, phases = table.phases(exponent), wrong = table.wrong(exponent);
    const order = [...phases.keys()].sort((a, b) => phases[a] - phases[b] || a - b);
    const paper = draw(sorted, (row, y) => table.label(order[row], y) ? WHITE : BLACK);
    paper.fillStyle = "#2d82c2"; // between one phase and the next
    for (let row = 1; row < SIDE; row++)
      if (phases[order[row]] !== phases[order[row - 1]])
        paper.fillRect(0, SCALE * row - 1, SCALE * SIDE, 3);
    draw(cells, (x, y) => {
      const said = table.says(x, y, phases[x]);
      return said !== table.label(x, y) ? WRONG : said ? WHITE : BLACK;
    });
    now.textContent = exponent.toFixed(3);
    count.textContent = wrong.toLocaleString("en");
    slider.setAttribute("aria-valuetext", `${exponent.toFixed(3)}, ${wrong} cells wrong`);
    seen.set(exponent, wrong);
    dots.setAttribute("d", [...seen].map(one => at(...one)).join(""));
    here.setAttribute("d", at(exponent, wrong));
    clearTimeout(speaking);
    speaking = setTimeout(() => {
      spoken.textContent = `Exponent ${exponent.toFixed(3)}: ${wrong} of ${CELLS} cells wrong.`;
      if (touched) remember("stripes", {exponent});
    }, 400);
  });

  function changed() {
    touched = true;
    refresh();
  }

  const set = value => { slider.value = value.toFixed(3); };

  slider.addEventListener("pointerdown", () => { dragging = true; });
  for (const name of ["pointerup", "pointercancel", "keydown"])
    slider.addEventListener(name, () => { dragging = false; });
  slider.addEventListener("input", () => { // dragged, it goes by steps that a finger can hit
    if (dragging) set(Math.round(slider.value * 200) / 200);
    changed();
  });

  function follow() {
    const given = linked("stripes");
    set(parseFloat(given?.get("exponent")) || LEAST);
    if (given) body.parentElement.scrollIntoView();
    refresh();
  }
  addEventListener("hashchange", () => { if (linked("stripes")) follow(); });

  body.append(element("div", {className: "stripes"},
    element("div", {className: "told"},
      element("p", {}, "Exponent ", now, ": ", count, ` of ${CELLS.toLocaleString("en")} cells wrong`),
      element("div", {className: "buttons"}, step(-1, "− 0.001"), step(1, "+ 0.001"))),
    slider, element("div", {className: "needle"}, plot),
    element("div", {className: "ends small"}, ...[LEAST, "up: cells wrong, at exponents tried", MOST]
      .map(textContent => element("span", {textContent}))),
    element("div", {className: "maps"}, sorted.root, cells.root), spoken));
  follow();
});
