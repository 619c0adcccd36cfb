// The reader's conveniences, the same in both builders' pages: search, one toggle for all code,
// enlarging of figures, data as CSV, permalinks, terms explained. Works from file://, asks nothing
// of the network; the page reads well without it.
"use strict";

const BOOK_ROOT = document.currentScript.dataset.root;
const BOOK_MAIN = document.querySelector("main");

function make(tag, properties = {}, ...children) {
  const made = Object.assign(document.createElement(tag), properties);
  made.append(...children);
  return made;
}

function button(text, label, act, className = "") {
  const made = make("button", {type: "button", className, textContent: text});
  if (label) made.setAttribute("aria-label", label);
  made.addEventListener("click", () => act(made));
  return made;
}

function words(element) {
  return element.textContent.replace(/\s+/g, " ").trim();
}

// A dialog that Escape, its button and a click beside it close; the browser gives the focus back.
function dialog(className, label, ...children) {
  const made = make("dialog", {className}, ...children);
  made.setAttribute("aria-label", label);
  made.addEventListener("click", event => {
    if (event.target === made) made.close();
  });
  document.body.append(made);
  return made;
}

// All code at once

const CODE = "book-code";

function remembered(key) {
  try {
    return localStorage.getItem(key);
  } catch {
    return null; // storage may be closed to pages from file://
  }
}

function codeToggle() {
  const folds = [...BOOK_MAIN.querySelectorAll("details.code-fold")];
  if (!folds.length) return [];
  const show = open => {
    folds.forEach(fold => (fold.open = open));
    toggle.textContent = open ? "Hide all code" : "Show all code";
  };
  const toggle = button("", "", () => {
    const open = toggle.textContent === "Show all code";
    show(open);
    try {
      localStorage.setItem(CODE, open ? "open" : "");
    } catch {}
  });
  if (remembered(CODE)) show(true);
  else toggle.textContent = "Show all code";
  return [toggle];
}

// Search: every word of the query has to begin a word of the section, whatever their accents,
// quotes and hyphens are, in British or American spelling

let bookSections = null;

// The text, character by character, without accents and with straight quotes, in small letters.
function plain(text) {
  return text.replace(/[\u0080-\uffff]/g, c => c.normalize("NFD")[0])
    .replace(/[‘’]/g, "'").replace(/[‐‑–]/g, "-").toLowerCase();
}

// What matches a word of the query in plain text, with hyphens and quotes or without.
function pattern(word) {
  const bare = plain(word).replace(/[-'"“”]/g, "").replace(/colou?r/g, "colo\0r");
  const each = [...bare.replace(/gr[ae]y/g, "gr\x01y")].map(c =>
    ({"\0": "u?", "\x01": "[ae]"})[c] ?? c.replace(/[.*+?^${}()|[\]\\]/, "\\$&"));
  return new RegExp("(?<![\\p{L}\\p{N}])" + each.join("[-']?"), "gu");
}

// What reader/index.js calls: sections are [page, anchor, title, text].
function bookIndex({titles, sections}) {
  bookSections = sections.map(([page, anchor, title, text]) => ({
    address: page + (anchor && "#" + anchor),
    page: titles[page].split(" – ")[0],
    title,
    text,
    low: plain(text),
    lowTitle: plain(title),
  }));
}

function find(query) {
  const wanted = query.split(/\s+/).filter(word => /[^-'"‘’“”]/.test(word)).map(pattern);
  if (!wanted.length) return [];
  return bookSections.map(section => {
    const counts = wanted.map(word => (`${section.lowTitle} ${section.low}`.match(word) || []).length);
    const titled = wanted.filter(word => section.lowTitle.search(word) >= 0).length;
    const score = Math.min(...counts) && 10 * titled + counts.reduce((a, b) => a + Math.min(b, 5), 0);
    return {section, score, wanted};
  }).filter(hit => hit.score).sort((a, b) => b.score - a.score);
}

// The text around the first hit, with the hits marked.
function excerpt({section, wanted}) {
  const first = Math.max(0, section.low.search(wanted[0]));
  const start = first < 60 ? 0 : section.text.indexOf(" ", first - 60) + 1;
  const text = section.text.slice(start, start + 200);
  const low = section.low.slice(start, start + 200);
  const hits = wanted.flatMap(word => [...low.matchAll(word)].map(m => [m.index, m[0].length]));
  hits.sort((a, b) => a[0] - b[0]);
  const line = make("p", {}, start ? "… " : "");
  let end = 0;
  for (const [at, length] of hits) {
    if (at < end) continue;
    line.append(text.slice(end, at), make("mark", {textContent: text.slice(at, at + length)}));
    end = at + length;
  }
  line.append(text.slice(end), start + 200 < section.text.length ? " …" : "");
  return line;
}

function searchButton() {
  const field = make("input", {type: "search", id: "book-query", autocomplete: "off"});
  const count = make("p", {className: "search-count"});
  count.setAttribute("role", "status");
  const list = make("ol");
  const top = make("div", {className: "search-top"},
    make("label", {htmlFor: "book-query", textContent: "Search the book"}), field);
  const panel = dialog("search-panel", "Search", top, count, list);
  top.append(button("Close", "", () => panel.close()));
  const show = () => {
    const hits = find(field.value);
    const most = hits.slice(0, 30);
    count.textContent = !field.value.trim() ? "" : !hits.length ? "Nothing found."
      : `${hits.length} section${hits.length > 1 ? "s" : ""} found`
        + (hits.length > most.length ? `, the best ${most.length} shown.` : ".");
    list.replaceChildren(...most.map(hit => {
      const {address, page, title} = hit.section;
      const name = title && title !== page ? `${page} › ${title}` : page;
      const link = make("a", {href: BOOK_ROOT + address, textContent: name});
      link.addEventListener("click", () => panel.close());
      return make("li", {}, link, excerpt(hit));
    }));
  };
  field.addEventListener("input", () => bookSections && show());
  field.addEventListener("keydown", event => {
    if (event.key === "Enter") list.querySelector("a")?.click();
    if (event.key === "Escape") { // else it would but empty the field
      event.preventDefault();
      panel.close();
    }
  });
  const open = () => {
    if (panel.open) return;
    panel.showModal();
    field.focus();
    field.select();
    if (bookSections) return;
    const index = make("script", {src: `${BOOK_ROOT}reader/index.js`});
    index.addEventListener("load", show);
    document.head.append(index);
  };
  document.addEventListener("keydown", event => {
    if ((event.ctrlKey || event.metaKey) && event.key.toLowerCase() === "k") {
      event.preventDefault();
      open();
    }
  });
  const made = button("Search", "", open);
  made.title = "Ctrl+K";
  return made;
}

// What stands below each figure and table

function enlarge(image, opener) {
  const large = (image.closest(".picture") || image).cloneNode(true);
  const view = dialog("lightbox", "Enlarged figure", large);
  view.prepend(button("Close", "Close the enlarged figure", () => view.close()));
  view.addEventListener("close", () => view.remove());
  opener.focus();
  view.showModal();
}

function csv(table) {
  const cell = td => {
    const text = words(td);
    return /[",]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
  };
  return [...table.rows].map(row => [...row.cells].map(cell).join(",") + "\n").join("");
}

function save(table, name) {
  const file = URL.createObjectURL(new Blob([csv(table)], {type: "text/csv;charset=utf-8"}));
  make("a", {href: file, download: name}).click();
  setTimeout(() => URL.revokeObjectURL(file), 1000);
}

function tools(name, ...parts) {
  const row = make("p", {className: "float-tools"});
  parts.filter(Boolean).forEach((part, i) => row.append(...i ? [" · ", part] : [part]));
  return row;
}

function permalink(id, name) {
  const link = make("a", {href: "#" + id, textContent: "Link"});
  link.setAttribute("aria-label", `Link to ${name}`);
  return link;
}

function addTools() {
  const page = location.pathname.split("/").pop().replace(/\.html$/, "") || "index";
  for (const image of BOOK_MAIN.querySelectorAll("figure img, .cell-output-display img")) {
    const figure = image.closest("figure") || image.parentElement;
    if (image.matches(".mixed img:last-child, table img")) continue; // pictures again; small enough
    const id = image.closest("[id^='fig-']")?.id;
    const name = figure.querySelector("figcaption")?.textContent.match(/Figure\s[\dA-Z]+(\.\d+)*/)?.[0]
      || "this figure";
    const opener = button("Enlarge", `Enlarge ${name}`, () => enlarge(image, opener));
    const shown = image.closest(".picture") || image;
    shown.classList.add("can-enlarge");
    shown.addEventListener("click", () => enlarge(image, opener));
    let data = null;
    if (image.dataset.csv) {
      const file = image.dataset.csv;
      const kind = file.endsWith(".zip") ? "CSV, zipped" : "CSV";
      data = make("a", {href: file, download: file.split("/").pop(), textContent: `Data (${kind})`});
      data.setAttribute("aria-label", `Data (${kind}) of ${name}`);
    }
    figure.append(tools(name, opener, data, id && permalink(id, name)));
  }
  let number = 0;
  for (const table of BOOK_MAIN.querySelectorAll("table")) {
    number += 1;
    const figure = table.closest("figure") || table.parentElement;
    const id = table.closest("[id^='tbl-']")?.id;
    const name = figure.querySelector("figcaption, caption")?.textContent.match(/Table\s[\dA-Z]+(\.\d+)*/)?.[0]
      || "this table";
    const file = `${id || `${page}-table-${number}`}.csv`;
    const data = button("Data (CSV)", `Data (CSV) of ${name}`, () => save(table, file));
    const row = tools(name, data, id && permalink(id, name));
    if (figure.localName === "figure") figure.append(row);
    else (table.closest(".table-scroll") || table).after(row);
  }
  for (const heading of BOOK_MAIN.querySelectorAll("h2, h3, h4")) {
    const id = heading.id || heading.closest("section")?.id;
    if (!id) continue;
    const link = make("a", {href: "#" + id, className: "permalink", textContent: "#"});
    link.setAttribute("aria-label", "Link to this section");
    heading.append(" ", link);
  }
}

// Terms of the glossary: the first of each on a page is a link to its entry, and explains itself

function addTerms() {
  const {page, terms} = typeof BOOK_GLOSSARY === "undefined" ? {terms: []} : BOOK_GLOSSARY;
  const here = decodeURI(new URL(BOOK_ROOT + page, location.href).pathname);
  if (!terms.length || here === decodeURI(location.pathname)) return;
  const byForm = new Map(terms.flatMap(term => term[1].map(form => [form.toLowerCase(), term])));
  const forms = [...byForm.keys()].sort((a, b) => b.length - a.length);
  const pattern = new RegExp("(?<![\\p{L}\\p{N}-])(?:" + forms.map(form =>
    form.replace(/[.*+?^${}()|[\]\\]/g, "\\$&").replaceAll(" ", "\\s+")).join("|")
    + ")(?![\\p{L}\\p{N}])", "iu");
  const left = new Set(terms);
  const tip = make("div", {id: "term-tip", hidden: true});
  tip.setAttribute("role", "tooltip");
  document.body.append(tip);
  let shown = null;
  const hide = () => {
    shown?.removeAttribute("aria-describedby");
    tip.hidden = true;
    shown = null;
  };
  const show = (link, term) => {
    hide();
    shown = link;
    tip.replaceChildren(make("strong", {textContent: term[1][0]}), " ", term[2]);
    tip.hidden = false;
    link.setAttribute("aria-describedby", tip.id);
    const box = link.getClientRects()[0], width = document.documentElement.clientWidth;
    const below = box.bottom + tip.offsetHeight + 6 < innerHeight;
    tip.style.left = `${Math.max(8, Math.min(box.left, width - tip.offsetWidth - 8)) + scrollX}px`;
    tip.style.top = `${(below ? box.bottom : box.top - tip.offsetHeight) + scrollY}px`;
  };
  const leave = event => {
    if (!tip.contains(event.relatedTarget) && event.relatedTarget !== shown
        && document.activeElement !== shown) hide();
  };
  tip.addEventListener("pointerleave", leave);
  document.addEventListener("keydown", event => event.key === "Escape" && hide());
  const passed = "a, code, pre, math, button, summary, figure, table, .claim, .csl-entry, .title-block";
  const texts = [];
  for (const block of BOOK_MAIN.querySelectorAll("p, li")) {
    if (block.closest(passed)) continue;
    const walker = document.createTreeWalker(block, NodeFilter.SHOW_TEXT);
    while (walker.nextNode()) {
      const node = walker.currentNode;
      if (!node.parentElement.closest(passed) && !texts.includes(node)) texts.push(node);
    }
  }
  for (let node of texts) {
    for (let from = 0; from < node.data.length; ) {
      const found = node.data.slice(from).match(pattern);
      if (!found) break;
      const term = byForm.get(found[0].toLowerCase().replace(/\s+/g, " "));
      from += found.index;
      if (!left.delete(term)) {
        from += found[0].length;
        continue;
      }
      const rest = node.splitText(from);
      node = rest.splitText(found[0].length);
      const link = make("a", {href: `${BOOK_ROOT}${page}#${term[0]}`, className: "term"});
      rest.replaceWith(link);
      link.append(rest);
      link.addEventListener("pointerenter", event =>
        event.pointerType !== "touch" && show(link, term));
      link.addEventListener("pointerleave", leave);
      link.addEventListener("focus", () => link.matches(":focus-visible") && show(link, term));
      link.addEventListener("blur", hide);
      link.addEventListener("click", event => { // a first tap explains, a second one follows
        if (event.pointerType === "touch" && shown !== link) {
          event.preventDefault();
          show(link, term);
        }
      });
      from = 0;
    }
  }
}

// What scrolls sideways can be scrolled by keyboard

function reachScrolling() {
  const selector = "pre, table, .picture, .table-scroll, .cell-output, .equation, math[display='block'], "
    + "p:has(> math[display='block'])";
  for (const box of BOOK_MAIN.querySelectorAll(selector)) {
    const scrolls = box.scrollWidth > box.clientWidth + 1
      && getComputedStyle(box).overflowX !== "visible";
    if (scrolls) box.tabIndex = 0;
    else if (box.getAttribute("tabindex") === "0") box.removeAttribute("tabindex");
  }
}

// Quarto's folded callouts are worked by mouse alone

function nameCallouts() {
  for (const header of BOOK_MAIN.querySelectorAll(".callout-header[data-bs-toggle]")) {
    header.setAttribute("role", "button");
    header.tabIndex = 0;
    header.addEventListener("keydown", event => {
      if (event.key === "Enter" || event.key === " ") {
        event.preventDefault();
        header.click();
      }
    });
  }
}

const bar = make("div", {className: "reader-bar"}, searchButton(), ...codeToggle());
const place = document.querySelector(".bar .theme-toggle");
if (place) place.before(bar);
else BOOK_MAIN.prepend(bar);
addTools();
addTerms();
nameCallouts();
reachScrolling();
addEventListener("load", reachScrolling);
addEventListener("resize", reachScrolling);
BOOK_MAIN.addEventListener("toggle", reachScrolling, true);
