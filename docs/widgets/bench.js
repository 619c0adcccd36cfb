// The attack bench: a digit, a target and a size; what a change of that size, found in the page by
// gradient ascent, makes of three networks' answers; and the least size for each, by halving.
"use strict";
Widgets.define("bench", body => {
  const {element, unseen, linked, remember, show} = Widgets, {SIDE, ascend, add, largest} = Network;
  const data = Widgets.data("networks"), {background, examples, colours} = data;
  const STEPS = 20, MOST = 32; // of an attack; grey levels, of 255
  const STRONG = 127; // grey levels, that the largest change is drawn with
  const START = {digit: 7, colour: 7, target: 3, size: 8};
  const calm = matchMedia("(prefers-reduced-motion: reduce)");
  let digit, image, attacked = "", job = 0, seen = false, touched = false;

  // --- the attack -------------------------------------------------------------------------------

  const rounded = pixels => pixels.map(value => Math.round(255 * value) / 255);

  // A change of this size, made against a network; each step on the way is yielded.
  function* attack(entry, levels) {
    if (entry.made.has(levels)) return;
    let delta = new Float32Array(image.length);
    for (let step = 0; step < STEPS && levels; step++) {
      delta = ascend(entry.network, image, delta, +target.value, levels / 255, step / STEPS);
      yield delta;
    }
    const {logits} = Network.forward(entry.network, rounded(add(image, delta)));
    entry.made.set(levels, {delta, top: largest(logits)}); // top: after rounding
  }

  // The least whole number of grey levels that brings a network to the target, after rounding.
  function* search(entry) {
    if (entry.found !== undefined) return;
    let low = -1, high = MOST + 1; // the largest that does not, the smallest that does
    while (high - low > 1) {
      const middle = (low + high) >> 1;
      entry.least.textContent = `Least size: ${low + 1} to ${Math.min(high, MOST)} …`;
      yield* attack(entry, middle);
      if (entry.made.get(middle).top === +target.value) high = middle;
      else low = middle;
    }
    entry.found = high;
    entry.least.replaceChildren(...high > MOST ? [`No size up to ${MOST} does it`]
      : high ? ["Least size: ", button(inLevels(high), () => setSize(high))]
        : ["Says so without a change"]);
  }

  // Every network's work, begun by `work(entry)`, takes one step a frame; `after` is given the last
  // change of each on the way, and nothing when all is done. What ran before stops.
  function run(work, words, after) {
    halt();
    const own = job, works = entries.map(work), last = [];
    let steps = 0;
    const frame = () => {
      if (own !== job) return;
      const busy = works.map((one, i) => {
        const {value, done} = one.next();
        last[i] = value ?? last[i];
        return !done;
      });
      if (busy.includes(true)) {
        progress.textContent = `${words}, step ${++steps}`;
        after(last);
        requestAnimationFrame(frame);
      } else {
        halt();
        after(null);
      }
    };
    requestAnimationFrame(frame);
  }

  function halt() {
    job++;
    progress.textContent = "";
    find.textContent = "Find the least sizes";
    for (const {least, found} of entries)
      if (found === undefined) least.textContent = "Least size: not searched";
  }

  function searchAll(then) {
    run(search, "Searching", last => {
      if (last) return;
      spoken.textContent = "Least sizes: " + entries.map(({network, found}) =>
        `${network.name} ${found > MOST ? "none found" : found}`).join(", ");
      then?.();
    });
    find.textContent = "Stop";
  }

  function attackAll(then) {
    reach.textContent = `${size.value} of 255 levels`;
    const stronger = Math.round(STRONG / size.value);
    times.textContent = size.value === "0" ? "" : `, ${stronger} times as strong`;
    size.setAttribute("aria-valuetext", reach.textContent);
    if (!pad.blank()) run(entry => attack(entry, +size.value), "Attacking", last => {
      if (last && calm.matches) return;
      const words = entries.map((entry, i) => display(entry, last?.[i]));
      if (last) return;
      spoken.textContent = `${reach.textContent}. ${words.join(" ")}`;
      if (touched) remember("bench", {...pad.own() ? {} : {digit}, colour: colour.value,
        target: target.value, size: size.value});
      then?.();
    });
  }

  // --- the page ---------------------------------------------------------------------------------

  const inLevels = levels => `${levels} level${levels === 1 ? "" : "s"}`;
  const button = (textContent, onclick) =>
    element("button", {type: "button", textContent, onclick});
  const choice = (id, texts) => {
    const options = texts.map((textContent, value) => element("option", {value, textContent}));
    return element("select", {id, onchange: () => { touched = true; begin(); }}, ...options);
  };
  const field = (text, input, ...more) =>
    element("div", {}, element("label", {htmlFor: input.id}, text), " ", ...more, input);

  const colour = choice("bench-colour", colours.map(({name}) => name));
  const target = choice("bench-target", colours.map((_, c) => c));
  const size = element("input", {type: "range", min: 0, max: MOST, id: "bench-size"});
  const reach = element("output"), times = element("span"), spoken = unseen("");
  const progress = element("span", {className: "small"});
  const help = unseen("With mouse or keys: the arrows move the pen over a grid, Space puts it down "
    + "and lifts it, Backspace takes the last stroke back, Delete clears.");
  help.id = "bench-help";
  spoken.setAttribute("role", "status");
  const pad = Widgets.makePad(background, () => { touched ||= pad.own(); begin(); }, help.id);
  const digits = Widgets.makeDigits(take);
  const draw = button("Draw your own", () => { pad.open(true); pad.clear(); pad.canvas.focus(); });
  const find = button("Find the least sizes", () => find.textContent === "Stop" ? halt() : searchAll());

  // A network, what stands on its card, and by size what was `made`; `found` is its least size.
  const entries = data.networks.map(network => {
    const [picture, change] = ["the changed picture", "the change, drawn around grey"].map(name => {
      const canvas = element("canvas", {className: "pixels", width: SIDE, height: SIDE});
      canvas.setAttribute("role", "img");
      canvas.setAttribute("aria-label", `${name}, for the ${network.name}`);
      return canvas;
    });
    const card = Widgets.makeCard(network, data);
    const [rounding, least] = [0, 1].map(() => element("p", {className: "small"}));
    card.root.querySelector("table").before(
      element("div", {className: "pair"}, picture, change), rounding, least);
    return {network, card, picture, change, rounding, least, made: new Map()};
  });

  // What a network makes of the picture under `delta`, or else under what was made, in words.
  function display({card, picture, change, rounding, made}, delta) {
    const levels = +size.value, final = made.get(levels), shown = delta ?? final.delta;
    const changed = add(image, shown), gain = levels && STRONG / levels;
    const {top, told} = card.show(changed, {near: () => [+colour.value]});
    show(picture, changed);
    show(change, shown.map(value => .5 + gain * value));
    rounding.textContent = delta ? "Not rounded yet"
      : `Rounded to 8 bits: ${final.top === top ? "still " : ""}${final.top}`;
    return told;
  }

  function setSize(levels) {
    touched = true;
    size.value = levels;
    attackAll(find.textContent === "Stop" ? searchAll : null); // which then goes on
  }

  // Takes up the picture on the pad and the target, if they have changed, and attacks.
  function begin(then) {
    const grey = pad.grey(), {rgb} = colours[colour.value];
    image = rounded(Network.paint(grey, rgb, background));
    pad.paint(image, rgb);
    digits.press(pad.own() ? null : digit);
    find.disabled = pad.blank();
    const wanted = [colour.value, target.value, ...grey].join();
    if (wanted === attacked || !seen) return; // the pad has got or lost the focus
    attacked = wanted;
    for (const entry of entries) {
      entry.made.clear();
      delete entry.found;
    }
    halt();
    if (pad.blank()) for (const {card} of entries) card.show(null);
    attackAll(then);
  }

  function take(given) {
    touched = true;
    digit = given;
    colour.value = digit; // its own
    pad.open(false);
    pad.give(examples[digit]);
  }

  size.addEventListener("input", () => setSize(size.value));
  body.append(element("div", {className: "turn"},
    element("div", {className: "easel"}, pad.root, element("div", {className: "picks"},
      element("div", {className: "buttons"}, draw),
      element("div", {className: "small", textContent: "or take a test digit:"}), digits.root,
      field("painted", colour), field("to be taken for a", target))),
    field("Largest change of a pixel:", size, reach),
    element("div", {className: "buttons"}, find, progress),
    element("div", {className: "cards three"}, ...entries.map(({card}) => card.root)),
    element("div", {className: "small"}, "On each card: the changed picture, and the change alone",
      times, `. It takes ${STEPS} steps up the gradient of the target's logit less its largest `
      + "rival's, from the picture itself: a simpler attack than the chapter's, which may find "
      + "smaller changes."),
    spoken, help));

  function follow() {
    const setting = linked("bench"), given = name => {
      const value = parseInt(setting?.get(name));
      return Number.isFinite(value) ? value : START[name];
    };
    digit = Math.min(9, Math.max(0, given("digit")));
    for (const [name, input] of [["colour", colour], ["target", target], ["size", size]])
      input.value = given(name);
    attacked = "";
    pad.give(setting && !setting.has("digit") ? null : examples[digit]);
    if (setting) body.parentElement.scrollIntoView();
  }

  // Opens cloaked: at a size that fools the cure and not the cheater, if there is one.
  function open() {
    const [cheater, cure] = entries.map(({found}) => found);
    if (cure < cheater && !(cure <= size.value && size.value < cheater)) {
      size.value = cure;
      attackAll();
    }
  }
  addEventListener("hashchange", () => { if (linked("bench")) follow(); });
  follow();
  new IntersectionObserver(([{isIntersecting}], observer) => {
    if (!isIntersecting) return;
    observer.disconnect();
    seen = true;
    begin(linked("bench") ? null : () => searchAll(open));
  }).observe(body);
});
