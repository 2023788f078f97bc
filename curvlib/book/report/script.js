"use strict";
const $ = (id) => document.getElementById(id);
const DATA = JSON.parse($("data").textContent);
const { items, classes, listed, across } = DATA;
const COUNT = items.key.length;
const DECISIONS = ["wrong", "right", "unsure"]; // and "later", which is not exported
const STORE = `curvlib-report:${DATA.checksum}`;
const PAGE = 60; // images that are shown at first, and more at each press
const STEPS = 200; // that can be undone
const DIGITS = "1234567890";

// Decisions by name of the image: {decision, label, given}, label a class's name. Of
// images of other reports about the same source too, so that nothing is lost.
let decided = new Map();
let undone = [];
let done = []; // steps, each a list of [key, before, after]
const view = { rows: [], shown: PAGE, current: null, anchor: null };
const selected = new Set();
const place = new Map(items.key.map((key, i) => [key, i]));
const classNumber = new Map(classes.map((name, c) => [name, c]));
const groupsOf = new Map(); // of duplicates
DATA.groups.forEach((group) => {
  for (const i of group.items) groupsOf.set(i, [...(groupsOf.get(i) ?? []), group]);
});

// ---------------------------------------------------------------------- small things

function element(name, properties = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(properties))
    if (key.includes("-") || key === "role") made.setAttribute(key, value);
    else made[key] = value;
  made.append(...children);
  return made;
}

const thousands = (value) => value.toLocaleString("en-US");
const given = (i) => classes[items.label[i]];
const suggestion = (i) => (items.suggested[i] < 0 ? "" : classes[items.suggested[i]]);
const entry = (i) => decided.get(items.key[i]);
const stateOf = (i) => entry(i)?.decision ?? "";

const sheets = [...document.querySelectorAll("script.sheet")].map((script) => {
  const bytes = Uint8Array.from(atob(script.textContent), (c) => c.charCodeAt(0));
  script.remove();
  return URL.createObjectURL(new Blob([bytes], { type: "image/webp" }));
});

function thumb(i, side) {
  const here = i % (across * across);
  const share = (k) => `${(100 * k) / (across - 1)}%`;
  const made = element("i", { className: "thumb", role: "img" });
  made.setAttribute("aria-label", `image ${items.key[i]}`);
  made.title = items.key[i];
  Object.assign(made.style, {
    width: `${side}px`,
    backgroundImage: `url("${sheets[Math.floor(i / (across * across))]}")`,
    backgroundSize: `${100 * across}%`,
    backgroundPosition: `${share(here % across)} ${share(Math.floor(here / across))}`,
  });
  if (DATA.side < 64) made.classList.add("coarse");
  return made;
}

function words(i) {
  const found = entry(i);
  if (!found) return "";
  if (found.decision === "wrong")
    return found.label ? `wrong: ${found.label}` : "wrong: no label fits";
  return found.decision === "later" ? "put off" : found.decision;
}

function say(text, bad = false) {
  $("message").textContent = text;
  $("message").classList.toggle("bad", bad);
}

// ------------------------------------------------------------------- what is decided

function stored() {
  const text = localStorage.getItem(STORE);
  if (!text) return;
  const kept = JSON.parse(text);
  decided = new Map(kept.decided);
  done = kept.done ?? [];
}

function store() {
  const kept = { decided: [...decided], done: done.slice(-STEPS) };
  try {
    localStorage.setItem(STORE, JSON.stringify(kept));
    return;
  } catch {
    kept.done = []; // room for the decisions, if not for the steps
  }
  try {
    localStorage.setItem(STORE, JSON.stringify(kept));
  } catch {
    say("This browser keeps nothing here: export before you close the page.", true);
  }
}

function set(key, value) {
  if (value) decided.set(key, value);
  else decided.delete(key);
}

/** Carry out a step: [key, value] each, with no value to clear a decision. */
function step(changes) {
  const made = changes
    .map(([key, after]) => [key, decided.get(key) ?? null, after ?? null])
    .filter(([, before, after]) => JSON.stringify(before) !== JSON.stringify(after));
  if (!made.length) return 0;
  for (const [key, , after] of made) set(key, after);
  done.push(made);
  undone = [];
  store();
  return made.length;
}

function undo() {
  const made = done.pop();
  if (!made) return say("There is nothing to undo.");
  for (const [key, before] of made) set(key, before);
  undone.push(made);
  back(made, "Undone");
}

function redo() {
  const made = undone.pop();
  if (!made) return say("There is nothing to redo.");
  for (const [key, , after] of made) set(key, after);
  done.push(made);
  back(made, "Done again");
}

function back(made, word) {
  store();
  selected.clear();
  list();
  const i = place.get(made[0][0]);
  if (i !== undefined) view.current = i;
  say(`${word}: ${made.length === 1 ? made[0][0] : `${made.length} images`}.`);
  draw();
}

function value(i, act, label) {
  if (act === "clear") return null;
  const decision = act === "none" ? "wrong" : act;
  const wanted = act === "wrong" ? (label ?? suggestion(i)) : "";
  if (act === "wrong" && wanted === given(i))
    return { decision: "right", label: "", given: given(i) };
  return { decision, label: wanted, given: given(i) };
}

/** Decide about what is selected, or about the current image. */
function act(name, label) {
  const several = selected.size > 0;
  let targets = several ? [...selected].sort((a, b) => a - b) : [view.current];
  targets = targets.filter((i) => i !== null);
  if (!targets.length) return;
  const lacking = targets.filter(
    (i) => name === "wrong" && label === undefined && !suggestion(i),
  );
  if (lacking.length === targets.length) {
    $("choose").focus();
    return say("No label is suggested here: choose one, or press N if none fits.");
  }
  targets = targets.filter((i) => !lacking.includes(i));
  const old = view.rows.indexOf(view.current);
  const count = step(targets.map((i) => [items.key[i], value(i, name, label)]));
  selected.clear();
  const note = lacking.length ? ` ${lacking.length} have no suggested label.` : "";
  const first = words(targets[0]) || "cleared";
  say(
    targets.length === 1
      ? `${items.key[targets[0]]}: ${first}.${note}`
      : `${count} of ${targets.length} images changed.${note}`,
  );
  const gone = () => view.current !== null && !view.rows.includes(view.current);
  list();
  if (old >= 0 && !several) {
    // The one that moved up, or else the next.
    const next = gone() || name === "later" ? old : old + (name === "clear" ? 0 : 1);
    view.current = view.rows[Math.min(next, view.rows.length - 1)] ?? null;
  } else if (old >= 0 && gone()) view.current = view.rows[0] ?? null;
  draw();
}

// ------------------------------------------------------------------------ the filter

function list() {
  const [state, own, other, order] = ["state", "given", "suggested", "order"].map(
    (id) => $(id).value,
  );
  const word = $("name").value.trim().toLowerCase();
  const rows = [];
  for (let i = 0; i < listed; i++) {
    const now = stateOf(i);
    if (state === "left" ? now && now !== "later" : state !== "all" && now !== state)
      continue;
    if (own !== "" && items.label[i] !== Number(own)) continue;
    if (other !== "" && items.suggested[i] !== Number(other)) continue;
    if (word && !items.key[i].toLowerCase().includes(word)) continue;
    rows.push(i);
  }
  const by = {
    rank: () => 0,
    place: (a, b) => items.place[a] - items.place[b],
    pair: (a, b) =>
      items.label[a] - items.label[b] || items.suggested[a] - items.suggested[b],
  }[order];
  const late = (i) => (state === "left" && stateOf(i) === "later" ? 1 : 0);
  rows.sort((a, b) => late(a) - late(b) || by(a, b) || a - b);
  view.rows = rows;
}

function filtered() {
  selected.clear();
  view.shown = PAGE;
  list();
  view.current = view.rows[0] ?? null;
  draw();
}

// -------------------------------------------------------------------------- the grid

function card(i) {
  const made = element(
    "li",
    { role: "option", tabIndex: -1, id: `item-${i}` },
    thumb(i, 96),
    element("span", { className: "given" }, given(i)),
    element("span", { className: "suggested" }, suggestion(i) && `→ ${suggestion(i)}`),
    element("span", { className: "mark" }),
  );
  made.dataset.item = i;
  return made;
}

function paint(made) {
  const i = Number(made.dataset.item);
  made.dataset.state = stateOf(i);
  made.querySelector(".mark").textContent = words(i);
  if (made.getAttribute("role") !== "option") return; // among the duplicates
  made.setAttribute("aria-selected", String(selected.has(i)));
  made.classList.toggle("current", i === view.current);
  if (i === view.current) made.setAttribute("aria-current", "true");
  else made.removeAttribute("aria-current");
  made.tabIndex = i === view.current ? 0 : -1;
}

function draw() {
  const rows = view.rows.slice(
    0,
    Math.max(view.shown, view.rows.indexOf(view.current) + 1),
  );
  const grid = $("grid");
  const focused = grid.contains(document.activeElement);
  const there = new Map([...grid.children].map((each) => [each.dataset.item, each]));
  const wanted = rows.map((i) => there.get(String(i)) ?? card(i));
  if (
    wanted.length !== grid.children.length ||
    wanted.some((w, k) => grid.children[k] !== w)
  )
    grid.replaceChildren(...wanted);
  wanted.forEach(paint);
  $("empty").hidden = view.rows.length > 0;
  $("more").hidden = rows.length >= view.rows.length;
  $("found").textContent = `${thousands(view.rows.length)} of ${thousands(listed)}`;
  $("selection").textContent = selected.size ? `${selected.size} selected` : "";
  if (focused) focusCurrent();
  counts();
  panel();
  summaries();
  soFar();
  for (const each of document.querySelectorAll("#groups [data-item]")) paint(each);
}

function focusCurrent() {
  const here = $(`item-${view.current}`);
  if (here && $("grid").contains(here)) here.focus();
  else $("grid").querySelector("li")?.focus();
}

function counts() {
  const found = { wrong: 0, right: 0, unsure: 0, later: 0 };
  for (const each of decided.values()) found[each.decision]++;
  const all = found.wrong + found.right + found.unsure;
  const late = found.later ? `; ${found.later} put off` : "";
  $("progress").textContent =
    `${all} decided: ${found.wrong} wrong, ${found.right} right, ` +
    `${found.unsure} unsure${late}`;
  $("export").disabled = !all;
  $("undo").disabled = !done.length;
  $("redo").disabled = !undone.length;
}

function choose(i, focus = true) {
  view.current = i;
  draw();
  if (focus) focusCurrent();
  $(`item-${i}`)?.scrollIntoView({ block: "nearest" });
}

function toggle(i) {
  if (selected.has(i)) selected.delete(i);
  else selected.add(i);
  view.anchor = i;
}

function extend(i) {
  const [from, to] = [
    view.rows.indexOf(view.anchor ?? view.current),
    view.rows.indexOf(i),
  ];
  if (from < 0 || to < 0) return;
  view.anchor ??= view.current;
  for (let k = Math.min(from, to); k <= Math.max(from, to); k++)
    selected.add(view.rows[k]);
}

function move(by, extending) {
  if (!view.rows.length) return;
  const here = view.rows.indexOf(view.current);
  const next = here < 0 ? 0 : Math.max(0, Math.min(view.rows.length - 1, here + by));
  if (extending) extend(view.rows[next]);
  choose(view.rows[next]);
}

function columns() {
  const all = [...$("grid").children];
  const top = all[0]?.offsetTop;
  const end = all.findIndex((each) => each.offsetTop !== top);
  return end < 0 ? all.length : end;
}

// ------------------------------------------------------------------------- the panel

function strip(title, some) {
  const list = element("div", { className: "strip" });
  for (const i of some) {
    const made = thumb(i, 72);
    made.title = `${items.key[i]}: ${given(i)}`;
    list.append(made);
  }
  return element("div", {}, element("h3", {}, title), list);
}

function shortNumber(number) {
  if (number === null || number === undefined) return "–";
  const size = Math.abs(number);
  return size && (size < 1e-3 || size >= 1e6)
    ? number.toExponential(2)
    : String(Number(number.toPrecision(4)));
}

let shownItem;
function panel() {
  const i = view.current;
  $("about").textContent = selected.size
    ? `Buttons and keys decide about ${selected.size} selected images.`
    : "";
  for (const button of document.querySelectorAll("#actions [data-act]"))
    button.disabled = i === null && !selected.size;
  $("choose").disabled = i === null && !selected.size;
  const known = i === null ? null : `${i} ${JSON.stringify(entry(i))} ${selected.size}`;
  if (known === shownItem) return;
  shownItem = known;
  if (i === null) {
    $("current").replaceChildren(element("p", {}, "No image is chosen."));
    $("beside").replaceChildren();
    labels();
    return;
  }
  const facts = element("dl");
  const fact = (name, ...text) =>
    facts.append(element("dt", {}, name), element("dd", {}, ...text));
  fact(DATA.key === "path" ? "file" : "index", element("code", {}, items.key[i]));
  fact("given", element("strong", {}, given(i)));
  fact("suggested", element("strong", {}, suggestion(i) || "–"));
  if (items.rank[i] !== null)
    fact(
      "rank",
      `${thousands(items.rank[i])}, in its class ${thousands(items.place[i])}`,
    );
  fact("decision", element("strong", {}, words(i) || "–"));
  $("current").replaceChildren(thumb(i, 168), facts);
  const beside = [];
  const near = DATA.nearest[i] ?? [];
  if (near.length)
    beside.push(strip(`Nearest images labelled ${given(near[0])}`, near));
  const shown = near.length ? [items.label[i]] : [items.suggested[i], items.label[i]];
  for (const c of shown) {
    const some = (DATA.examples[c] ?? []).filter((other) => other !== i);
    if (some.length) beside.push(strip(`Typical images labelled ${classes[c]}`, some));
  }
  for (const group of groupsOf.get(i) ?? []) {
    const others = group.items.filter((other) => other !== i);
    const named = [...new Set(others.map(given))].join(", ");
    beside.push(strip(`The same image, labelled ${named}`, others));
  }
  const names = Object.keys(DATA.scores);
  if (items.rank[i] !== null) {
    const error = items.error?.[i];
    const rows = [
      ["consensus", items.consensus[i], error],
      ...names.map((n) => [n, DATA.scores[n][i]]),
    ];
    const body = rows.map(([name, number, spread]) =>
      element(
        "tr",
        {},
        element("th", { scope: "row" }, name),
        element(
          "td",
          {},
          shortNumber(number) + (spread ? ` ± ${shortNumber(spread)}` : ""),
        ),
      ),
    );
    const open = $("beside").querySelector("details")?.open ?? false;
    beside.push(
      element(
        "details",
        { open },
        element("summary", {}, "Scores"),
        element("table", { className: "numbers" }, element("tbody", {}, ...body)),
      ),
    );
  }
  $("beside").replaceChildren(...beside);
  $("choose").value = "";
  labels();
}

let active = -1;
function labels() {
  const word = $("choose").value.trim().toLowerCase();
  const starts = [],
    holds = [];
  classes.forEach((name, c) => {
    const low = name.toLowerCase();
    if (low.startsWith(word)) starts.push(c);
    else if (low.includes(word)) holds.push(c);
  });
  const found = [...starts, ...holds];
  active = word && found.length ? 0 : -1;
  $("labels").replaceChildren(
    ...found.slice(0, 200).map((c, k) => {
      const made = element("li", { role: "option", id: `label-${c}` }, classes[c]);
      if (!word && k < DIGITS.length) made.prepend(element("kbd", {}, DIGITS[k]), " ");
      made.dataset.label = c;
      const kind = {};
      if (view.current !== null) {
        kind.given = c === items.label[view.current];
        kind.suggested = c === items.suggested[view.current];
      }
      if (kind.given) made.append(element("small", {}, " given"));
      if (kind.suggested) made.append(element("small", {}, " suggested"));
      return made;
    }),
  );
  if (!found.length)
    $("labels").append(
      element("li", { role: "option", "aria-disabled": "true" }, "No such label."),
    );
  activate();
}

function activate() {
  const options = [...$("labels").querySelectorAll("[data-label]")];
  options.forEach((each, k) =>
    each.setAttribute("aria-selected", String(k === active)),
  );
  const here = options[active];
  here?.scrollIntoView({ block: "nearest" });
  if (here) $("choose").setAttribute("aria-activedescendant", here.id);
  else $("choose").removeAttribute("aria-activedescendant");
}

function take(c) {
  act("wrong", classes[c]);
  $("choose").value = "";
  labels();
}

// ------------------------------------------------- classes, pairs, and duplicates

function fillTable(id, heads, rows) {
  const head = element(
    "tr",
    {},
    ...heads.map((text) => element("th", { scope: "col" }, text)),
  );
  const body = rows.map(({ cells, name, go }) => {
    const button = element("button", { type: "button", className: "link" }, name);
    button.onclick = go;
    return element(
      "tr",
      {},
      element("td", {}, button),
      ...cells.map((cell) => element("td", {}, thousands(cell))),
    );
  });
  const old = document.activeElement;
  const row = $(id).contains(old) ? old.closest("tr").rowIndex : -1;
  $(id).replaceChildren(element("thead", {}, head), element("tbody", {}, ...body));
  $(id).rows[row]?.querySelector("button")?.focus();
}

function show(own, other) {
  $("state").value = "left";
  $("given").value = own;
  $("suggested").value = other;
  list();
  if (!view.rows.length) $("state").value = "all";
  filtered();
  $("decide").scrollIntoView();
  focusCurrent();
}

const AMONG = Math.min(listed, Math.max(20, Math.round(DATA.wrong ?? 100)));

/** Expected and found wrong labels among the first suspects, all of them decided. */
function soFar() {
  let count = 0,
    wrong = 0;
  while (count < listed && DECISIONS.includes(stateOf(count)))
    if (stateOf(count++) === "wrong") wrong++;
  $("sofar").hidden = count < 5;
  if (count < 5) return;
  const percent = (share) => `${Math.round(100 * share)}%`;
  let text =
    `So far you have decided about the first ${thousands(count)} suspects: ` +
    `${thousands(wrong)} of their labels are wrong, ${percent(wrong / count)}.`;
  if (DATA.curve) {
    const { rank } = DATA.curve;
    const k = Math.max(
      rank.findLastIndex((r) => r <= count),
      0,
    );
    const part = Math.min((count - rank[k]) / ((rank[k + 1] ?? Infinity) - rank[k]), 1);
    const at = (values) =>
      values[k] + part * ((values[k + 1] ?? values[k]) - values[k]);
    const [precision, low, high] = ["precision", "low", "high"].map((name) =>
      percent(at(DATA.curve[name])),
    );
    text += ` ${precision} were expected (${low} to ${high}).`;
  }
  $("sofar").textContent = text;
}

function summaries() {
  const byClass = classes.map(() => [0, 0]);
  const pairs = new Map();
  for (let i = 0; i < listed; i++) {
    const wrong = stateOf(i) === "wrong" ? 1 : 0;
    const counted = i < AMONG ? 1 : 0;
    byClass[items.label[i]][0] += counted;
    byClass[items.label[i]][1] += wrong;
    if (!counted && !wrong) continue;
    const name = `${items.label[i]} ${items.suggested[i]}`;
    const found = pairs.get(name) ?? [items.label[i], items.suggested[i], 0, 0];
    found[2] += counted;
    found[3] += wrong;
    pairs.set(name, found);
  }
  const order = classes
    .map((_, c) => c)
    .sort((a, b) => byClass[b][0] - byClass[a][0] || a - b);
  fillTable(
    "byclass",
    ["given label", "images", "suspects", "found wrong"],
    order.map((c) => ({
      name: classes[c],
      cells: [DATA.sizes[c], ...byClass[c]],
      go: () => show(String(c), ""),
    })),
  );
  const sorted = [...pairs.values()].sort(
    (a, b) => b[2] - a[2] || b[3] - a[3] || a[0] - b[0],
  );
  fillTable(
    "bypair",
    ["given → suggested", "suspects", "found wrong"],
    sorted.slice(0, 100).map(([own, other, ...cells]) => ({
      name: `${classes[own]} → ${other < 0 ? "–" : classes[other]}`,
      cells,
      go: () => show(String(own), other < 0 ? "" : String(other)),
    })),
  );
}

function duplicates() {
  const { groups } = DATA;
  const differ = groups.filter((group) => group.conflict).length;
  $("groupnote").textContent = groups.length
    ? `${groups.length} images occur more than once, ${differ} of them under different ` +
      "labels, which come first. Choose one to decide about it."
    : "No image occurs more than once.";
  $("groups").replaceChildren(
    ...groups.map((group) => {
      const what = group.exact ? "same pixels" : `nearly the same, ${group.similarity}`;
      const list = element("ul", { className: "cards" });
      for (const i of group.items) {
        const button = element(
          "button",
          { type: "button", className: "card" },
          thumb(i, 96),
          element("span", { className: "given" }, given(i)),
          element("small", {}, items.key[i]),
          element("span", { className: "mark" }),
        );
        button.onclick = () => {
          selected.clear();
          view.current = i;
          draw();
          $("panel").scrollIntoView({ block: "nearest" });
          $("choose").focus({ preventScroll: true });
        };
        const made = element("li", {}, button);
        made.dataset.item = i;
        list.append(made);
      }
      const text = group.conflict ? `${what}; different labels` : what;
      return element(
        "div",
        { className: "group" },
        element("p", { className: "note" }, text),
        list,
      );
    }),
  );
}

// ------------------------------------------------------------------ decisions as CSV

/** Spreadsheets run what looks like a formula; an apostrophe before it stops that. */
function field(text) {
  const number = /^[+-]?\d+(\.\d+)?$/.test(text);
  const safe = !number && /^'*[=+\-@\t\r]/.test(text) ? `'${text}` : text;
  return /[",\r\n]|^\s|\s$/.test(safe) ? `"${safe.replaceAll('"', '""')}"` : safe;
}

const plain = (text) => (/^'+[=+\-@\t\r]/.test(text) ? text.slice(1) : text);

function csv() {
  const rows = [[DATA.key, "given_label", "decision", "label", "source"]];
  const known = [...decided].filter(([, each]) => DECISIONS.includes(each.decision));
  const rank = ([key]) => place.get(key) ?? COUNT;
  known.sort((a, b) => rank(a) - rank(b) || (a[0] < b[0] ? -1 : 1));
  for (const [key, { decision, label, given: own }] of known)
    rows.push([key, own, decision, label, DATA.checksum]);
  return rows.map((row) => row.map(field).join(",") + "\n").join("");
}

/** UTF-8; bytes of a file's name that are no text, U+DC80 to U+DCFF, as themselves. */
function bytesOf(text) {
  const parts = text
    .split(/([\udc80-\udcff])/u)
    .map((part, k) =>
      k % 2
        ? Uint8Array.of(part.charCodeAt(0) - 0xdc00)
        : new TextEncoder().encode(part),
    );
  return new Blob(parts, { type: "text/csv" });
}

function exported() {
  const link = element("a", {
    href: URL.createObjectURL(bytesOf(csv())),
    download: "decisions.csv",
  });
  document.body.append(link);
  link.click();
  link.remove();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
  say("Exported decisions.csv. “How to go on” below says what to do with it.");
}

/** Text of bytes, with those that are no UTF-8 as U+DC80 to U+DCFF. */
function textOf(bytes) {
  const strict = new TextDecoder("utf-8", { fatal: true });
  try {
    return strict.decode(bytes);
  } catch {
    let text = "";
    for (let at = 0; at < bytes.length;) {
      let size = bytes[at] < 0x80 ? 1 : bytes[at] < 0xe0 ? 2 : bytes[at] < 0xf0 ? 3 : 4;
      try {
        text += strict.decode(bytes.subarray(at, at + size));
      } catch {
        size = 1;
        text += String.fromCharCode(0xdc00 + bytes[at]);
      }
      at += size;
    }
    return text;
  }
}

/** Rows of a CSV, each with the number of its line. */
function parsed(text) {
  const rows = [];
  let row = [],
    cell = "",
    quoted = false,
    line = 1,
    start = 1;
  const end = () => {
    row.push(cell);
    cell = "";
  };
  const close = () => {
    end();
    if (row.length > 1 || row[0] !== "") rows.push({ row, line: start });
    row = [];
    start = line;
  };
  for (let k = 0; k < text.length; k++) {
    const c = text[k];
    if (c === "\n") line++;
    if (quoted) {
      if (c !== '"') cell += c;
      else if (text[k + 1] === '"') cell += text[++k];
      else quoted = false;
    } else if (c === '"' && cell === "") quoted = true;
    else if (c === ",") end();
    else if (c === "\n") close();
    else if (c !== "\r" || text[k + 1] !== "\n") cell += c;
  }
  if (quoted) throw new Error("A quotation mark is open at the end of the file.");
  if (cell || row.length) close();
  return rows;
}

/** Decisions of a CSV, or an error that names the first wrong line. */
function read(text) {
  const rows = parsed(text.replace(/^\ufeff/, ""));
  if (!rows.length) throw new Error("The file is empty.");
  const heads = rows[0].row.map((name) => name.trim());
  const column = (name) => heads.indexOf(name);
  for (const name of [DATA.key, "decision", "label"])
    if (column(name) < 0)
      throw new Error(`The file lacks the column ${name}; it has ${heads.join(", ")}.`);
  const found = new Map();
  for (const { row, line } of rows.slice(1)) {
    const fault = (text) => new Error(`Line ${line}: ${text}`);
    if (row.length !== heads.length)
      throw fault(`${row.length} values, but the first line names ${heads.length}.`);
    const cell = (name) => (column(name) < 0 ? null : plain(row[column(name)]));
    const key = cell(DATA.key),
      decision = cell("decision");
    const source = cell("source");
    if (source !== null && source !== DATA.checksum)
      throw fault(`it is about another source, with the checksum ${source}.`);
    if (!DECISIONS.includes(decision))
      throw fault(`the decision must be wrong, right or unsure, but is “${decision}”.`);
    const i = place.get(key);
    const own = cell("given_label") ?? (i === undefined ? null : given(i));
    if (i === undefined && (source === null || own === null))
      throw fault(`this page has no image ${key}.`);
    if (i !== undefined && own !== given(i))
      throw fault(`the label was “${own}” then, and is “${given(i)}” here.`);
    const label = decision === "wrong" ? cell("label") : "";
    if (label && !classNumber.has(label)) throw fault(`unknown label “${label}”.`);
    if (decision === "wrong" && label === own)
      throw fault("the decision is wrong, but the label stays the same.");
    if (found.has(key)) throw fault(`a second decision about ${key}.`);
    found.set(key, { decision, label, given: own });
  }
  return found;
}

async function imported(file) {
  try {
    const found = read(textOf(new Uint8Array(await file.arrayBuffer())));
    const count = step([...found]);
    const elsewhere = [...found.keys()].filter((key) => !place.has(key)).length;
    say(
      `Loaded ${found.size} decisions, ${count} of them new or changed.` +
        (elsewhere
          ? ` ${elsewhere} are about images that this page does not show.`
          : ""),
    );
  } catch (error) {
    say(`Nothing was loaded from ${file.name}. ${error.message}`, true);
  }
  selected.clear();
  list();
  if (!view.rows.includes(view.current)) view.current = view.rows[0] ?? null;
  draw();
}

// ------------------------------------------------------------------- keys and clicks

const KEYS = {
  w: () => act("wrong"),
  r: () => act("right"),
  u: () => act("unsure"),
  l: () => act("later"),
  n: () => act("none"),
  backspace: () => act("clear"),
  delete: () => act("clear"),
  z: undo,
  y: redo,
  c: () => $("choose").focus(),
  a: () => {
    const shown = [...$("grid").children].map((each) => Number(each.dataset.item));
    for (const i of shown) selected.add(i);
    draw();
  },
  x: () => {
    if (view.current === null) return;
    toggle(view.current);
    draw();
  },
  escape: () => {
    selected.clear();
    view.anchor = null;
    draw();
  },
  "?": () => $("keys").showModal(),
  arrowleft: (event) => move(-1, event.shiftKey),
  arrowright: (event) => move(1, event.shiftKey),
  arrowup: (event) => move(-columns(), event.shiftKey),
  arrowdown: (event) => move(columns(), event.shiftKey),
  home: () => move(-COUNT),
  end: () => move(view.shown - 1 - Math.max(view.rows.indexOf(view.current), 0)),
};
KEYS[" "] = KEYS.x;

function pressed(event) {
  if (event.defaultPrevented || event.altKey || $("keys").open) return;
  const target = event.target;
  if (target.closest("input, select, textarea")) return;
  const key = event.key.toLowerCase();
  const button = target.closest("button, summary, a");
  if (button && (key === " " || key === "enter")) return;
  // Arrows scroll the page and tables, unless an image or the panel has the focus.
  const inWork = target === document.body || target.closest("#grid, #panel");
  if (key.startsWith("arrow") || ["home", "end", " "].includes(key)) {
    if (!inWork) return;
  }
  if (event.ctrlKey || event.metaKey) {
    if (key === "z") (event.shiftKey ? redo : undo)();
    else if (key === "y") redo();
    else return;
  } else if (/^\d$/.test(key)) {
    const c = DIGITS.indexOf(key);
    if (c >= classes.length) return;
    take(c);
  } else if (Object.hasOwn(KEYS, key)) KEYS[key](event);
  else return;
  event.preventDefault();
}

function chooserKeys(event) {
  const options = [...$("labels").querySelectorAll("[data-label]")];
  if (event.key === "ArrowDown" || event.key === "ArrowUp") {
    if (!options.length) return;
    const way = event.key === "ArrowDown" ? 1 : -1;
    const start = active < 0 && way < 0 ? 0 : active;
    active = (start + way + options.length) % options.length;
    activate();
  } else if (event.key === "Enter") {
    if (active < 0) return;
    take(Number(options[active].dataset.label));
    focusCurrent();
  } else if (event.key === "Escape") {
    $("choose").value = "";
    labels();
    focusCurrent();
  } else return;
  event.preventDefault();
}

function controls() {
  const names = classes.map((name, c) => [name, String(c)]);
  for (const id of ["given", "suggested"])
    $(id).append(
      new Option("any label", ""),
      ...names.map(([name, c]) => new Option(name, c)),
    );
  $("filter").reset();
  $("filter").onsubmit = (event) => event.preventDefault();
  for (const id of ["state", "given", "suggested", "name", "order"])
    $(id).addEventListener("input", filtered);
  for (const button of document.querySelectorAll("#actions [data-act]"))
    button.onclick = () => act(button.dataset.act);
  $("undo").onclick = undo;
  $("redo").onclick = redo;
  $("all").onclick = KEYS.a;
  $("nothing").onclick = KEYS.escape;
  $("help").onclick = KEYS["?"];
  $("export").onclick = exported;
  $("import").onclick = () => $("file").click();
  $("file").onchange = async () => {
    const [file] = $("file").files;
    if (file) await imported(file);
    $("file").value = "";
  };
  $("more").onclick = () => {
    view.shown += PAGE;
    draw();
  };
  $("grid").onclick = (event) => {
    const made = event.target.closest("[data-item]");
    if (!made) return;
    const i = Number(made.dataset.item);
    const several = $("several").getAttribute("aria-pressed") === "true";
    const adding = several || event.ctrlKey || event.metaKey;
    if (event.shiftKey) extend(i);
    else if (adding) toggle(i);
    else view.anchor = i;
    choose(i);
    const beside = matchMedia("(min-width: 800px)").matches; // as in the style sheet
    if (!beside && !adding && !event.shiftKey) $("panel").scrollIntoView();
  };
  $("several").onclick = () => {
    const on = $("several").getAttribute("aria-pressed") === "true";
    $("several").setAttribute("aria-pressed", String(!on));
  };
  $("choose").oninput = labels;
  $("choose").onkeydown = chooserKeys;
  $("labels").onclick = (event) => {
    const made = event.target.closest("[data-label]");
    if (made) take(Number(made.dataset.label));
  };
  document.addEventListener("keydown", pressed);
  addEventListener("storage", (event) => {
    // Another tab has decided.
    if (event.key !== STORE) return;
    decided = new Map();
    done = undone = [];
    stored();
    list();
    draw();
  });
}

function start() {
  try {
    stored();
  } catch (error) {
    say(`Decisions that this browser kept could not be read: ${error.message}`, true);
  }
  controls();
  $("among").textContent =
    `Suspects are counted among the first ${thousands(AMONG)}. ` +
    "Choose a row to see its images.";
  duplicates();
  $("decide").hidden = false;
  filtered();
  document.documentElement.dataset.ready = "yes";
}

try {
  start();
} catch (error) {
  $("fault").hidden = false;
  $("fault").textContent = `The page could not start: ${error.message}`;
  throw error;
}
