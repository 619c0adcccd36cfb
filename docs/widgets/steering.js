// Chapter 7's console: the cheater's latents turned up and down, by the colour or shape that they
// speak for. Its arithmetic is the global `Steering`: behind the last maps there is only a mean
// over places and a linear head, so that to move latents is a sum.
"use strict";
globalThis.Steering ??= (() => {

// The means over the places of the last maps of the K latents that have a slider.
function encode({encoder, bias, threshold}, {maps, side}) {
  const area = side * side, width = encoder.shape[1], row = new Float64Array(area);
  return Float64Array.from(bias, (offset, j) => {
    row.fill(offset);
    for (let k = 0; k < width; k++) {
      const weight = encoder[j * width + k];
      for (let p = 0; p < area; p++) row[p] += weight * maps[k * area + p];
    }
    return row.reduce((sum, z) => z > threshold ? sum + z : sum, 0) / area;
  });
}

// What a set of latents has at the levels 0 and 1. Of a colour: its mean over `painted`, the
// latents (10, K) of the same digit in all ten colours, and what it has in the colour itself.
function ends({latents, towards, base, target}, painted) {
  if (base) return {base, target};
  const mean = j => painted.reduce((sum, z) => sum + z[j], 0) / painted.length;
  return {base: latents.map(mean), target: latents.map((j, i) => painted[towards[i]][j])};
}

// The level of a set in an image with the latents z (K): how far from one end to the other.
function level(set, z, painted) {
  const {base, target} = ends(set, painted);
  let along = 0, length = 0;
  set.latents.forEach((j, i) => {
    along += (z[j] - base[i]) * (target[i] - base[i]);
    length += (target[i] - base[i]) ** 2;
  });
  return length ? along / length : 0;
}

// What the logits (10) gain as a set is brought to a level.
function move(set, wanted, z, painted, effect) {
  const {base, target} = ends(set, painted), gained = new Float64Array(10);
  set.latents.forEach((j, i) => {
    const by = set.times * (base[i] + wanted * (target[i] - base[i]) - z[j]);
    for (let c = 0; c < 10; c++) gained[c] += by * effect[10 * j + c];
  });
  return gained;
}

return {encode, level, move};
})();

Widgets.define("steering", body => {
  const {element, unseen, swatch, linked, remember, soon, makeCard} = Widgets;
  const data = Widgets.data("networks"), {colours, background, examples} = data;
  const coder = Widgets.data("latents");
  const network = data.networks.find(one => one.name === "cheater");
  const before = makeCard(network, data);
  const after = makeCard({...network, name: "steered cheater"}, data);
  const spoken = unseen(""), help = unseen("With mouse or keys: the arrows move the pen over "
    + "a grid, Space puts it down and lifts it, Backspace takes the last stroke back, Delete "
    + "clears.");
  const moved = new Map(); // slider's number -> its level
  let digit = 1, image = null, seen = {}, walking = 0, speaking = 0, pause = 0;
  let touched = false, drawing = false;
  after.root.classList.add("of-cheater");
  after.root.querySelector(".who").textContent = "Steered, it says";
  help.id = "steering-help";
  spoken.setAttribute("role", "status");

  const latentsOf = picture => Steering.encode(coder, Network.forward(network, picture).blocks[2]);
  const set = slider => others.checked ? slider.control : slider.own;

  // What the network makes of what is on the pad, and of it in all ten colours; kept until it
  // changes. As one draws, the ten colours wait for a pause.
  function look(grey, rgb) {
    const drawn = grey.join(), key = [drawn, rgb].join();
    clearTimeout(pause);
    if (drawing) pause = setTimeout(() => { drawing = false; refresh(); }, 250);
    if (key === seen.key && (drawing || seen.painted)) return seen;
    image = Network.paint(grey, rgb, background);
    const run = Network.forward(network, image), z = Steering.encode(coder, run.blocks[2]);
    const painted = drawing ? null : drawn === seen.drawn && seen.painted ? seen.painted :
      colours.map(one => latentsOf(Network.paint(grey, one.rgb, background)));
    seen = {key, drawn, run, z, painted};
    return seen;
  }

  const refresh = soon(() => {
    const blank = pad.blank(), rgb = wheel.rgb();
    const {run, z, painted} = look(pad.grey(), rgb);
    pad.paint(image, rgb);
    const logits = Float64Array.from(run.logits);
    rows.forEach(({slider, name, range, told, leave}, i) => {
      const is = painted ? Steering.level(set(slider), z, painted) : 0, wanted = moved.get(i);
      if (wanted !== undefined)
        Steering.move(set(slider), wanted, z, painted, coder.effect)
          .forEach((by, c) => { logits[c] += by; });
      range.value = wanted ?? is;
      told.textContent = wanted?.toFixed(1) ?? "as it is";
      range.setAttribute("aria-valuetext",
        wanted === undefined ? `as it is, ${is.toFixed(1)}` : `${told.textContent} times ${name}`);
      range.classList.toggle("moved", wanted !== undefined);
      leave.hidden = wanted === undefined;
    });
    const answers = [before.show(blank ? null : image, wheel, run)?.told,
      after.show(blank ? null : image, wheel, {...run, logits})?.told];
    digits.press(pad.own() ? null : digit);
    clearTimeout(speaking);
    speaking = setTimeout(() => {
      spoken.textContent = blank ? "Nothing drawn." : answers.join(" ");
      const levels = [...moved].map(([i, wanted]) => [rows[i].key, wanted]);
      if (touched) remember("steering", {...pad.own() ? {} : {digit}, hue: wheel.turn(),
        ...others.checked ? {others: 1} : {}, ...Object.fromEntries(levels)});
    }, 400);
  });

  function change() {
    touched = true;
    refresh();
  }

  function take(number) {
    digit = number;
    pad.open(false);
    pad.give(examples[number]);
  }

  // Begins with a digit in a colour and walks a slider from where it is to a level.
  function walk(number, colour, i, to) {
    moved.clear();
    others.checked = false;
    wheel.set(data.wheel.indexOf(colour));
    take(number);
    const from = colour === rows[i].slider.level ? 1 : 0, own = ++walking;
    const begin = performance.now();
    const still = matchMedia("(prefers-reduced-motion: reduce)").matches;
    const step = now => {
      if (own !== walking) return;
      const part = still ? 1 : Math.min(1, Math.max(0, (now - begin) / 2000 - .2));
      moved.set(i, Math.round(10 * (from + part * (to - from))) / 10);
      change();
      if (part < 1) requestAnimationFrame(step);
    };
    step(begin);
  }

  const press = (textContent, action) => {
    const button = element("button", {type: "button", textContent});
    button.addEventListener("click", () => { walking++; action(); });
    return button;
  };
  const pad = Widgets.makePad(background, () => {
    touched ||= pad.own();
    drawing = pad.own() && !moved.size;
    refresh();
  }, help.id);
  const wheel = Widgets.makeWheel(data, change);
  const digits = Widgets.makeDigits(i => { walking++; take(i); change(); });
  const others = element("input", {type: "checkbox"});
  others.addEventListener("change", change);
  const rows = coder.sliders.map((slider, i) => {
    const {kind, level} = slider, colour = kind === "colour" ? colours[level] : null;
    const key = colour?.name ?? `shape${level}`, of = colour?.name ?? `the shape of ${level}`;
    const name = colour ? `as in ${key}` : `as in a ${level}`;
    const range = element("input", {type: "range", min: 0, max: 4, step: .1});
    const told = element("span", {className: "level"});
    const leave = press("×", () => { moved.delete(i); change(); range.focus(); });
    const speaks = colour ? `, which speak for ${level}` : "";
    range.setAttribute("aria-label", `Latents of ${of}${speaks}`);
    leave.setAttribute("aria-label", `Leave the latents of ${of} as they are`);
    range.addEventListener("input", () => { walking++; moved.set(i, +range.value); change(); });
    const title = colour ? [swatch(colour.rgb), `${key} → ${level}`] : [`shape of ${level}`];
    const line = element("div", {className: "latent"},
      element("span", {className: "of"}, ...title), range,
      element("span", {className: "end"}, told, leave));
    return {slider, key, name, range, told, leave, line};
  });
  const red = 0, one = 1, green = 1;
  body.append(element("div", {className: "buttons"},
    press("Walk a red 1 from 0 to 1", () => walk(one, red, red, 0)),
    press("Make a green 1 a 0", () => walk(one, green, red, 4)),
    press("Leave all as they are", () => { moved.clear(); change(); })),
  element("div", {className: "console"},
    element("div", {className: "turn"}, element("div", {className: "easel"}, pad.root,
      element("div", {className: "picks"}, digits.root,
        element("div", {className: "buttons"},
          press("Draw", () => { pad.open(true); pad.clear(); pad.canvas.focus(); }),
          press("Undo", pad.undo)))), wheel.root),
    element("div", {className: "cards"}, before.root, after.root),
    element("div", {className: "latents"}, ...rows.map(row => row.line)),
    element("label", {className: "small"}, others,
      " Move as many others instead, which carry as much of each colour or shape (the control)")),
  element("p", {className: "small", textContent: "0: the mean over the ten colours of this digit "
    + "(of shapes: over all digits); 1: as in the colour, or in the digit; to the right, times as "
    + "much."}),
  spoken, help);

  function follow() {
    const setting = linked("steering");
    moved.clear();
    rows.forEach(({key}, i) => {
      const wanted = parseFloat(setting?.get(key));
      if (wanted >= 0) moved.set(i, Math.min(4, wanted));
    });
    others.checked = Boolean(setting?.has("others"));
    wheel.set(parseFloat(setting?.get("hue") ?? 0));
    take(Math.min(9, Math.max(0, parseInt(setting?.get("digit") ?? 1) || 0)));
    if (setting && !setting.has("digit")) pad.clear();
    if (setting) body.parentElement.scrollIntoView();
  }
  addEventListener("hashchange", () => { if (linked("steering")) follow(); });
  follow();
});
