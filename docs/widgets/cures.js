// Chapter 5's explorer: which cure does best, by how rare exceptions are, what one must know, and
// what it may cost. It shows what the chapter has measured, and says where it has measured nothing.
"use strict";
Widgets.define("cures", body => {
  const {element, linked, remember, percent, show} = Widgets;
  const {methods, shares, levels, pictures, pairs} = Widgets.data("methods");
  const MARKS = ["●", "▲", "■"], KEYS = ["nothing", "colour", "labels"];
  const TIMES = [1.05, 1.25, 1.5, 2, Infinity];
  const NS = "http://www.w3.org/2000/svg", TICKS = [.1, .3, .5, .7, .9, .95, .98, .99];
  const logit = share => Math.log(share / (1 - share)), LOW = logit(.08), HIGH = logit(.994);
  const place = share => Math.min(1, Math.max(0, (logit(share) - LOW) / (HIGH - LOW)));
  const state = {share: shares[0], know: 1, time: Infinity, plain: false, open: ""};
  const spelt = share => share === .5 ? "½" : String(share);
  const mark = ({reference, needs}) => reference ? "◆" : MARKS[levels.indexOf(needs)];
  const family = ({reference, needs}) => reference ? "reference" : KEYS[levels.indexOf(needs)];
  const result = ({results}, share) =>
    results.find(one => one.augment !== state.plain && (one.share ?? share) === share);

  // Radio buttons with a legend; chosen: called with the place of what was chosen.
  function choices(legend, texts, chosen) {
    const name = `cures-${legend.replace(/\W+/g, "-")}`;
    const box = element("fieldset", {className: "choices"});
    const radios = texts.map((text, i) => {
      const radio = element("input", {type: "radio", name, value: i});
      radio.addEventListener("change", () => { chosen(i); update(true); });
      box.append(element("label", {}, radio, element("span", {}, text)));
      return radio;
    });
    box.prepend(element("legend", {}, legend));
    return {box, set: i => { radios[i].checked = true; }};
  }

  const share = choices("Misleading colours, of a hundred images",
    shares.map(spelt), i => { state.share = shares[i]; });
  const known = ["nothing", "that the shortcut is colour", "each image's colour"];
  const know = choices("One knows (◆: for comparison, no cure)",
    known.map((text, i) => `${MARKS[i]} ${text}`), i => { state.know = i; });
  const time = choices("Processor time of training, at most",
    TIMES.map(most => most < Infinity ? `${most} × ERM` : "any"), i => { state.time = TIMES[i]; });
  const kind = choices("Augmented", ["yes", "no (one seed)"], i => { state.plain = i === 1; });
  const sentence = element("p", {className: "best"}), list = element("div", {className: "methods"});
  const missing = element("p", {className: "small"}), chart = document.createElementNS(NS, "svg");
  sentence.setAttribute("role", "status");
  chart.setAttribute("role", "img");
  chart.setAttribute("class", "chart");

  const bold = text => element("b", {}, String(text));
  const small = text => element("p", {className: "small"}, text);

  // The row of a method: a line, and what it opens.
  const rows = methods.map(method => {
    const fixed = method.results.some(one => one.share === null); // whatever the share
    const number = element("span", {className: "told"}), dot = element("b"), reach = element("i");
    const seeds = small(""), rank = element("span", {className: "rank"});
    const pre = element("pre", {tabIndex: 0, textContent: method.code});
    pre.setAttribute("role", "group");
    pre.setAttribute("aria-label", `Code of ${method.title}`);
    const faces = pairs.map(({digit, colour, name}, i) => {
      const [answer, confidence] = method.answers[i];
      const canvas = element("canvas", {width: 28, height: 28});
      show(canvas, Float32Array.from(pictures.subarray(2352 * i, 2352 * (i + 1)), v => v / 255));
      canvas.setAttribute("role", "img");
      canvas.setAttribute("aria-label", `a ${name} ${digit}`);
      const goes = {[colour]: "✗ colour", [digit]: "✓ digit"}[answer] ?? "✗ neither";
      return element("figure", {}, canvas, element("figcaption", {}, bold(answer),
        ` ${percent(confidence)}`, element("br"), goes));
    });
    const line = element("summary", {}, rank, element("span", {className: "title"},
      element("span", {className: "mark"}, mark(method)), ` ${method.title}`),
    element("span", {className: "track"}, reach, dot), number);
    const trained = fixed ? "on unbiased images" : `where ${spelt(shares[0])} of a hundred mislead`;
    const root = element("details", {className: `of-${family(method)}`}, line,
      element("p", {}, bold("Hypothesis: "), method.hypothesis, "."),
      element("p", {}, bold("Must know: "), method.needs, ". ", bold("Time: "),
        `${method.cost.toFixed(2)} × ERM.`),
      seeds, small(`From ${method.file}:`), pre,
      small(`What its first network, trained ${trained}, says of eight digits in colours that `
        + "mislead:"), element("div", {className: "faces"}, ...faces));
    root.addEventListener("toggle", () => {
      if (root.open) state.open = method.name;
      else if (state.open === method.name) state.open = "";
      for (const other of rows) if (root.open && other.root !== root) other.root.open = false;
      draw();
      save();
    });
    return {method, fixed, root, rank, number, dot, reach, seeds};
  });

  const allowed = ({reference, needs, cost}) =>
    reference || (levels.indexOf(needs) <= state.know && cost <= state.time);
  let current = [], touched = false;

  function update(byHand) {
    touched ||= byHand;
    const listed = rows.filter(row => allowed(row.method));
    current = listed.map(row => ({...row, now: result(row.method, state.share)}));
    const ranked = current.filter(row => row.now).sort((a, b) => b.now.mean - a.now.mean);
    const left = current.filter(row => !row.now && !row.method.reference);
    let rank = 0;
    for (const {method, fixed, now, rank: place_, number, dot, reach, seeds} of ranked) {
      place_.textContent = method.reference ? "" : ++rank;
      number.textContent = now.told;
      const [low, high] = now.interval ?? [now.mean, now.mean];
      dot.style.left = 100 * place(now.mean) + "%";
      reach.style.left = 100 * place(low) + "%";
      reach.style.width = 100 * (place(high) - place(low)) + "%";
      const others = shares
        .map(one => `${spelt(one)}: ${result(method, one)?.told ?? "not measured"}`).join("; ");
      const by = fixed ? `whatever the share: ${now.told}`
        : `by how many of a hundred mislead: ${others}`;
      seeds.textContent = `Right on hard images, in percent, ${by}`
        + `. Here ${now.n} seed${now.n > 1 ? "s, mean ± the reach of the 95% interval" : ""}.`;
    }
    const shown = ranked.map(row => row.root); // moved only if need be, which keeps the focus
    if (shown.some((root, i) => list.children[i] !== root) || list.children.length !== shown.length)
      list.replaceChildren(...shown);
    const best = ranked.find(row => !row.method.reference);
    const where = `${state.plain ? "without augmentation, " : ""}where ${spelt(state.share)} of a `
      + "hundred mislead";
    const found = best ? `of the ${rank} methods measured, ${best.method.title} has the highest `
      + `mean, ${best.now.told} percent of hard images.` : "nothing was measured.";
    sentence.textContent = `${where}: ${found}`.replace("w", "W");
    const names = left.map(row => row.method.title).join(", ");
    missing.textContent = names && `Not measured ${where}: ${names}.`;
    draw();
    save();
  }

  function draw() {
    const width = Math.max(280, chart.clientWidth || 600), height = 250;
    const left = 42, right = width < 480 ? 150 : 175, bottom = 40, top = 10;
    const step = (width - left - right - 36) / (shares.length - 1);
    const x = share => left + 18 + step * shares.indexOf(share);
    const y = value => top + (height - top - bottom) * (1 - place(value));
    const part = (name, given, text) => {
      const made = document.createElementNS(NS, name);
      for (const [key, value] of Object.entries(given)) made.setAttribute(key, value);
      if (text) made.textContent = text;
      chart.append(made);
      return made;
    };
    chart.replaceChildren();
    chart.setAttribute("viewBox", `0 0 ${width} ${height}`);
    const write = (x, y, anchor, text, look = "") =>
      part("text", {x, y, "text-anchor": anchor, class: look}, text);
    const now = {x: x(state.share) - 15, y: top, width: 30, height: height - top - bottom};
    part("rect", {...now, class: "now"});
    for (const tick of TICKS) {
      part("line", {x1: left, x2: width - right, y1: y(tick), y2: y(tick), class: "grid"});
      write(left - 6, y(tick) + 4, "end", percent(tick));
    }
    for (const one of shares) write(x(one), height - bottom + 17, "middle", spelt(one));
    write((left + width - right) / 2, height - 5, "middle", "misleading colours, of a hundred");
    const labels = [];
    for (const {method} of current) {
      const open = state.open === method.name, look = `of-${family(method)}${open ? " open" : ""}`;
      const points = shares.map(one => ({at: x(one), found: result(method, one)}))
        .filter(point => point.found).map(point => ({...point, y: y(point.found.mean)}));
      if (points.length > 1) {
        const line = points.map(point => `${point.at},${point.y}`).join(" ");
        part("polyline", {points: line, class: look});
      }
      for (const point of points)
        if (point.found.share !== null)
          write(point.at, point.y + 5, "middle", mark(method), `mark ${look}`);
      if (points.length > 1 || (open && points.length))
        labels.push({...points.at(-1), look, text: method.title.replace(" (ours)", "")});
    }
    labels.sort((a, b) => a.y - b.y).forEach((label, i) => { // one below the other
      label.y = Math.max(label.y, i ? labels[i - 1].y + 15 : 0);
      write(label.at + 14, label.y + 4, "start", label.text, label.look);
    });
    const told = current.filter(row => row.now)
      .map(row => `${row.method.title} ${percent(row.now.mean)}`).join(", ");
    chart.setAttribute("aria-label",
      `Accuracy on hard images where ${spelt(state.share)} of a hundred mislead: ${told}`);
  }

  function save() {
    if (touched) remember("cures", {share: state.share, know: KEYS[state.know],
      ...state.time < Infinity ? {time: state.time} : {}, ...state.plain ? {plain: 1} : {},
      ...state.open ? {open: state.open} : {}});
  }

  function follow() {
    const setting = linked("cures"), wanted = parseFloat(setting?.get("share"));
    if (shares.includes(wanted)) state.share = wanted;
    if (KEYS.includes(setting?.get("know"))) state.know = KEYS.indexOf(setting.get("know"));
    if (setting) state.time = TIMES.find(most => most === +setting.get("time")) ?? Infinity;
    state.plain = Boolean(setting?.has("plain"));
    share.set(shares.indexOf(state.share));
    know.set(state.know);
    time.set(TIMES.indexOf(state.time));
    kind.set(+state.plain);
    update(false);
    for (const row of rows) row.root.open = row.method.name === setting?.get("open");
    if (setting) body.parentElement.scrollIntoView();
  }
  const boxes = [share, kind, know, time].map(choice => choice.box);
  body.append(sentence, element("div", {className: "cures"}, ...boxes), chart, list, missing);
  new ResizeObserver(draw).observe(chart);
  list.addEventListener("click", () => { touched = true; });
  addEventListener("hashchange", () => { if (linked("cures")) follow(); });
  follow();
});
