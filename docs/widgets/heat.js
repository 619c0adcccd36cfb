// Heat you can move: a patch of background over a digit, the hue wheel, and where networks look.
"use strict";
Widgets.define("heat", body => {
  const {element, unseen, linked, remember, soon, percent} = Widgets, {SIDE} = Network;
  const data = Widgets.data("networks"), {background, examples} = data;
  const ARROWS = {ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1]};
  const START = {digit: 7, hue: 2, size: 9, left: 13, top: 5}; // a yellow seven, its corner covered
  let digit, left, top, side, middle, speaking = 0, touched = false, hold = null, bare = "";

  const picture = element("canvas", {className: "pixels", width: SIDE, height: SIDE});
  const patch = element("div", {className: "patch", tabIndex: 0});
  const spoken = unseen(""), told = element("output");
  const help = unseen("Drag the patch, or move it with the arrow keys; a click on the picture moves "
    + "it there.");
  help.id = "heat-help";
  for (const [name, value] of [["role", "application"], ["aria-label", "Patch"],
    ["aria-describedby", help.id]]) patch.setAttribute(name, value);
  spoken.setAttribute("role", "status");
  const size = element("input", {type: "range", min: 0, max: SIDE / 2, id: "heat-size"});
  const wheel = Widgets.makeWheel(data, change);
  const digits = Widgets.makeDigits(i => { digit = i; change(); });
  const cards = data.networks.map(network => {
    const card = Widgets.makeCard(network, data), heat = Widgets.makeHeat(network);
    const without = element("p", {className: "small"});
    card.root.querySelector("table").before(heat.root, without);
    return {...card, network, heat, without};
  });

  function change() {
    touched = true;
    refresh();
  }

  // The patch with its upper left corner here, kept on the picture; `middle` is that of the patch,
  // and stays when its size changes.
  function place(x, y) {
    side = +size.value;
    [left, top] = [x, y].map(value => Math.min(SIDE - side, Math.max(0, Math.round(value))));
    change();
  }

  function move(x, y) {
    place(x, y);
    middle = [left, top].map(value => value + side / 2);
  }

  const refresh = soon(() => {
    const grey = Network.cover(examples[digit], left, top, side);
    const image = Network.paint(grey, wheel.rgb(), background), own = `${digit} ${wheel.turn()}`;
    if (own !== bare) for (const {without} of cards) without.textContent = "";
    const answers = cards.map(card => {
      const run = card.show(image, wheel);
      card.heat.show(run, grey);
      return run.told;
    });
    Widgets.show(picture, image);
    picture.setAttribute("aria-label", `the digit ${digit}, ${wheel.words()}`);
    patch.hidden = side === 0;
    for (const [name, pixels] of Object.entries({left, top, width: side, height: side}))
      patch.style[name] = `${100 * pixels / SIDE}%`;
    told.textContent = patch.hidden ? "no patch" : `${side} by ${side} pixels`;
    size.setAttribute("aria-valuetext", told.textContent);
    digits.press(digit);
    clearTimeout(speaking);
    speaking = setTimeout(() => {
      if (own !== bare) uncover();
      bare = own;
      const where = patch.hidden ? "No patch." : `Patch at column ${left + 1}, row ${top + 1}.`;
      spoken.textContent = [where, ...answers].join(" ");
      if (touched) remember("heat", {digit, hue: wheel.turn(), size: side, left, top});
    }, 400);
  });

  // What the networks say without the patch.
  function uncover() {
    const whole = Network.paint(examples[digit], wheel.rgb(), background);
    for (const {network, without} of cards) {
      const shares = Network.softmax(Network.forward(network, whole).logits);
      const top = Network.largest(shares), share = percent(shares[top]).replace(" ", "\u00a0");
      without.textContent = `Uncovered: ${top}, ${share}`;
    }
  }

  const pixel = event => {
    const box = picture.getBoundingClientRect();
    return [(event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height]
      .map(share => SIDE * share);
  };
  picture.addEventListener("click", event =>
    move(...pixel(event).map(value => value - side / 2)));
  patch.addEventListener("pointerdown", event => {
    const [x, y] = pixel(event);
    patch.setPointerCapture(event.pointerId);
    hold = [x - left, y - top];
  });
  patch.addEventListener("pointermove", event => {
    if (!hold) return;
    const [x, y] = pixel(event);
    move(x - hold[0], y - hold[1]);
  });
  for (const name of ["pointerup", "pointercancel", "lostpointercapture"])
    patch.addEventListener(name, () => { hold = null; });
  patch.addEventListener("keydown", event => {
    const arrow = ARROWS[event.key];
    if (!arrow || event.ctrlKey || event.altKey || event.metaKey) return;
    event.preventDefault();
    move(left + arrow[0], top + arrow[1]);
  });
  size.addEventListener("input", () => place(...middle.map(value => value - size.value / 2)));

  picture.setAttribute("role", "img");
  body.append(element("div", {className: "turn"},
    element("div", {className: "easel"}, element("div", {className: "stage"}, picture, patch),
      element("div", {className: "picks"}, element("div", {className: "small",
        textContent: "Drag the patch of background over the digit; make it larger."}),
      element("label", {htmlFor: size.id}, "Patch: ", told), size,
      element("div", {className: "small", textContent: "Or take another digit:"}), digits.root)),
    wheel.root, element("div", {className: "cards three"}, ...cards.map(card => card.root)),
    spoken, help));

  function follow() {
    const setting = linked("heat");
    const given = name => {
      const value = parseFloat(setting?.get(name));
      return Number.isFinite(value) ? value : START[name];
    };
    digit = Math.min(9, Math.max(0, Math.round(given("digit"))));
    wheel.set(given("hue"));
    size.value = given("size");
    move(given("left"), given("top"));
    touched = false;
    if (setting) body.parentElement.scrollIntoView();
  }
  addEventListener("hashchange", () => { if (linked("heat")) follow(); });
  follow();
});
