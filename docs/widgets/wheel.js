// The front page's widget: a digit, the hue wheel beneath it, and what three networks say.
"use strict";
Widgets.define("wheel", body => {
  const {element, unseen, linked, linkTo, remember, soon} = Widgets;
  const data = Widgets.data("networks"), {background, examples} = data;
  const cards = data.networks.map(network => Widgets.makeCard(network, data));
  const spoken = unseen(""), more = element("a", {textContent: "More in the playground"});
  const help = unseen("With mouse or keys: the arrows move the pen over a grid, Space puts it down "
    + "and lifts it, Backspace takes the last stroke back, Delete clears.");
  help.id = "wheel-help";
  spoken.setAttribute("role", "status");
  let digit = 7, speaking = 0, touched = false;

  const refresh = soon(() => {
    const grey = pad.grey(), blank = pad.blank(), rgb = wheel.rgb();
    const image = Network.paint(grey, rgb, background);
    pad.paint(image, rgb);
    const told = cards.map(card => card.show(blank ? null : image, wheel)?.told ?? "");
    const shown = pad.own() ? null : digit;
    digits.press(shown);
    const setting = {...shown === null ? {} : {digit}, hue: wheel.turn()};
    more.href = `playground.html${linkTo("play", setting)}`;
    clearTimeout(speaking);
    speaking = setTimeout(() => {
      spoken.textContent = blank ? "Nothing drawn." : told.join(" ");
      if (touched) remember("wheel", setting);
    }, 400);
  });

  function change() {
    touched = true;
    refresh();
  }

  const pad = Widgets.makePad(background, () => { touched ||= pad.own(); refresh(); }, help.id);
  const wheel = Widgets.makeWheel(data, change);
  const digits = Widgets.makeDigits(i => {
    digit = i;
    pad.open(false);
    pad.give(examples[i]);
    change();
  });
  const draw = element("button", {type: "button", textContent: "Draw your own"});
  draw.addEventListener("click", () => { pad.open(true); pad.clear(); pad.canvas.focus(); });
  const undo = element("button", {type: "button", textContent: "Undo"});
  undo.addEventListener("click", pad.undo);
  body.append(element("div", {className: "turn"},
    element("div", {className: "easel"}, pad.root, element("div", {className: "picks"},
      element("div", {className: "buttons"}, draw, undo),
      element("div", {className: "small", textContent: "or take a test digit:"}),
      digits.root, more)),
    wheel.root, element("div", {className: "cards three"}, ...cards.map(card => card.root)),
    spoken, help));

  function follow() {
    const setting = linked("wheel");
    if (setting?.has("digit")) digit = Math.min(9, Math.max(0, parseInt(setting.get("digit")) || 0));
    wheel.set(parseFloat(setting?.get("hue") ?? 2)); // yellow, which suggests 3
    if (!setting || setting.has("digit")) pad.give(examples[digit]);
    else pad.clear();
    if (setting) body.parentElement.scrollIntoView();
  }
  addEventListener("hashchange", () => { if (linked("wheel")) follow(); });
  follow();
});
