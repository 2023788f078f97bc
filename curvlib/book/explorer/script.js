"use strict";
const $ = (id) => document.getElementById(id);
const META = JSON.parse($("meta").textContent);
const N = META.count,
  SCORES = META.scores,
  LABELS = META.labels,
  SIGNS = META.signs;
// Tableau's ten, with blue in place of the grey, which is for all the others.
const COLOURS = [
  "#4e79a7",
  "#f28e2b",
  "#e15759",
  "#76b7b2",
  "#59a14f",
  "#edc948",
  "#b07aa1",
  "#ff9da7",
  "#9c755f",
  "#3f5be0",
];
const MANY = META.classes.length > COLOURS.length;

// ---------------------------------------------------------------- what the file holds

function bytes(id) {
  const found = Uint8Array.from(atob($(id).textContent), (c) => c.charCodeAt(0));
  $(id).textContent = "";
  return found;
}

async function inflated(id) {
  const packed = new Blob([bytes(id)]).stream();
  const stream = packed.pipeThrough(new DecompressionStream("deflate"));
  return new Response(stream).arrayBuffer();
}

function words(raw, number) {
  const out = new Uint32Array(N);
  for (let k = 0; k < 4; k++) {
    const plane = raw.subarray((4 * number + k) * N, (4 * number + k + 1) * N);
    for (let i = 0; i < N; i++) out[i] |= plane[i] << (24 - 8 * k);
  }
  return out;
}

let index, label, values, sprite, places, doc, plot;
const state = {
  logx: false,
  logy: false,
  chosen: new Map(),
  marked: null,
  order: null,
};

// ---------------------------------------------------------------------- small things

function element(name, properties = {}, ...children) {
  const made = Object.assign(document.createElement(name), properties);
  made.append(...children);
  return made;
}

const className = (i) => META.classes[label[i]];
function number(value) {
  const short = Number(value.toPrecision(4)),
    size = Math.abs(short);
  const long = size !== 0 && (size < 1e-3 || size >= 1e6);
  return long ? short.toExponential() : String(short);
}
const thousands = (value) => value.toLocaleString("en");

function thumb(i, size) {
  const canvas = element("canvas", { className: "thumb", width: size, height: size });
  canvas.setAttribute("role", "img");
  canvas.setAttribute("aria-label", `image ${index[i]}, class ${className(i)}`);
  const context = canvas.getContext("2d");
  context.imageSmoothingEnabled = META.side > 16; // photographs, but no digits
  context.imageSmoothingQuality = "high";
  const side = META.side,
    left = (i % META.across) * side;
  const top = Math.floor(i / META.across) * side;
  context.drawImage(sprite, left, top, side, side, 0, 0, size, size);
  return canvas;
}

const sorted = new Map(); // score to its values, most suspect last
function rank(score, i) {
  const sign = SIGNS[score];
  if (!sorted.has(score)) sorted.set(score, values[score].map((v) => sign * v).sort());
  const all = sorted.get(score),
    value = sign * values[score][i];
  let low = 0,
    high = N; // the first place whose value is above
  while (low < high) {
    const middle = (low + high) >> 1;
    if (all[middle] > value) high = middle;
    else low = middle + 1;
  }
  return 1 + N - low;
}

// -------------------------------------------------------------------------- the plot

const extents = new Map();
function extent(score) {
  if (!extents.has(score)) {
    let min = Infinity,
      max = -Infinity,
      positive = Infinity,
      zeros = 0;
    for (const v of values[score]) {
      if (v < min) min = v;
      if (v > max) max = v;
      if (v > 0 && v < positive) positive = v;
      if (v === 0) zeros++;
    }
    extents.set(score, { min, max, positive, zeros, log: min >= 0 && max > 0 });
  }
  return extents.get(score);
}

// Where a score's values are drawn. Logarithms of 0 stand apart, beyond a dashed line.
function drawn(score, log) {
  const { min, max, positive, zeros } = extent(score);
  if (!log) return { at: values[score], low: min, high: max, line: null };
  const low = Math.log10(positive),
    high = Math.log10(max);
  const gap = Math.max(0.25, 0.1 * (high - low));
  const at = Float64Array.from(values[score], (v) =>
    v > 0 ? Math.log10(v) : low - gap,
  );
  return zeros
    ? { at, low: low - gap, high, line: low - gap / 2, zero: low - gap }
    : { at, low, high, line: null };
}

function draw() {
  const notes = [];
  for (const way of ["x", "y"]) {
    const score = Number($(way).value),
      box = $(`log${way}`);
    const { log, zeros } = extent(score);
    box.disabled = !log;
    box.parentElement.title = log ? "" : "It has values below zero, or none above";
    box.checked = log && state[`log${way}`];
    places[way] = drawn(score, box.checked);
    const { low, high, line } = places[way],
      pad = 0.04 * (high - low || 1);
    const range = doc.get_model_by_name(`${way}_range`);
    range.setv({ start: low - pad, end: high + pad });
    range.setv({ reset_start: low - pad, reset_end: high + pad });
    doc.get_model_by_name(`${way}_axis`).axis_label = LABELS[score];
    doc
      .get_model_by_name(`${way}_zero`)
      .setv({ visible: line !== null, location: line });
    if (line !== null) {
      const side = way === "x" ? "left of" : "below";
      notes.push(
        `${thousands(zeros)} images with ${LABELS[score]} 0 are ${side} ` +
          "the dashed line.",
      );
    }
  }
  $("note").textContent =
    notes.join(" ") || "Drag to zoom; the tools beside the plot move it and reset it.";
  colour();
  mark();
}

function source(name) {
  return doc.get_model_by_name(name).data_source;
}

function colour() {
  const rest = { x: [], y: [] },
    chosen = { x: [], y: [], colour: [] };
  const { x, y } = places;
  for (let i = 0; i < N; i++) {
    const own = state.chosen.get(label[i]);
    const to = own === undefined ? rest : chosen;
    to.x.push(x.at[i]);
    to.y.push(y.at[i]);
    if (own !== undefined) chosen.colour.push(COLOURS[own]);
  }
  const few = N < 5000,
    glyph = (name) => doc.get_model_by_name(name).glyph;
  const alone = state.chosen.size === 0;
  glyph("rest").setv({
    size: few ? 6 : 3.5,
    fill_color: alone ? (dark() ? "#79b8ff" : "#2f6db5") : dark() ? "#777" : "#999",
    fill_alpha: (few ? 0.6 : 0.35) * (alone ? 1 : 0.6),
  });
  glyph("chosen").setv({ size: few ? 7 : 6, fill_alpha: few ? 0.75 : 0.85 });
  source("rest").data = rest;
  source("chosen").data = chosen;
}

function mark() {
  const i = state.marked;
  const has = i !== null;
  source("marked").data = has
    ? { x: [places.x.at[i]], y: [places.y.at[i]] }
    : { x: [], y: [] };
  if (has) {
    const inside = (range, v) => range.start <= v && v <= range.end;
    if (!inside(plot.x_range, places.x.at[i]) || !inside(plot.y_range, places.y.at[i]))
      for (const r of [plot.x_range, plot.y_range])
        r.setv({ start: r.reset_start, end: r.reset_end });
  }
}

// The nearest drawn point within some pixels, and how many lie just there.
function nearest(event, within) {
  const { x_range, y_range } = plot;
  const sx = plot.inner_width / (x_range.end - x_range.start);
  const sy = plot.inner_height / (y_range.end - y_range.start);
  let best = null,
    least = within * within,
    same = 0;
  for (let i = 0; i < N; i++) {
    const dx = (places.x.at[i] - event.x) * sx,
      dy = (places.y.at[i] - event.y) * sy;
    const distance = dx * dx + dy * dy;
    if (distance < least) [best, least, same] = [i, distance, 1];
    else if (distance === least && best !== null) same++;
  }
  return { best, same };
}

function tip(event) {
  const { best, same } = nearest(event, 8),
    box = $("tip");
  box.hidden = best === null;
  if (best === null) return;
  const list = element("dl");
  const add = (name, value, bold) => {
    const options = { className: bold ? "drawn" : "" };
    list.append(element("dt", options, name), element("dd", options, value));
  };
  add("index", String(index[best]), true);
  add("class", className(best), true);
  const width = $("place").clientWidth;
  LABELS.forEach((name, s) => {
    const bold = [$("x").value, $("y").value].includes(String(s));
    if (bold || width > 420) add(name, number(values[s][best]), bold);
  });
  const picture = element("div", {}, thumb(best, 96));
  if (same > 1) picture.append(`one of ${same} here`);
  box.replaceChildren(picture, list);
  const left =
    event.sx + 16 + box.offsetWidth > width
      ? event.sx - 16 - box.offsetWidth
      : event.sx + 16;
  box.style.left = `${Math.max(0, Math.min(left, width - box.offsetWidth))}px`;
  box.style.top = `${Math.max(
    0,
    Math.min(event.sy - box.offsetHeight / 2, 440 - box.offsetHeight),
  )}px`;
}

let waiting = null; // the last move of the mouse that was not yet answered
window.explorer = {
  mousemove(event) {
    if (waiting === null)
      requestAnimationFrame(() => {
        tip(waiting);
        waiting = null;
      });
    waiting = { x: event.x, y: event.y, sx: event.sx, sy: event.sy };
  },
  mouseleave() {
    requestAnimationFrame(() => {
      $("tip").hidden = true;
    });
  },
  tap(event) {
    const { best } = nearest(event, 14);
    if (best !== null) choose(best);
  },
  tick(way, value) {
    if (!$(`log${way}`).checked) return number(value);
    const { line } = places[way];
    return line !== null && value < line ? "" : number(10 ** value);
  },
};

// ---------------------------------------------------------------- the marked image

function choose(i) {
  state.marked = i;
  $("index").value = index[i];
  $("found").textContent = "";
  const head = element(
    "tr",
    {},
    element("th", { className: "text" }, "score"),
    element("th", {}, "value"),
    element("th", {}, "rank"),
  );
  const body = LABELS.map((name, s) =>
    element(
      "tr",
      {},
      element("td", { className: "text" }, name),
      element("td", {}, number(values[s][i])),
      element("td", {}, thousands(rank(s, i))),
    ),
  );
  $("sample").replaceChildren(
    element("h2", {}, `Image ${index[i]}, class ${className(i)}`),
    thumb(i, 224),
    element("table", {}, element("thead", {}, head), element("tbody", {}, ...body)),
    element(
      "p",
      { className: "note" },
      `Rank 1 of ${thousands(N)} is the most ` +
        "suspect; equal values share the best of their ranks.",
    ),
  );
  mark();
  for (const row of $("table").tBodies[0].rows)
    row.setAttribute("aria-selected", String(Number(row.dataset.row) === i));
}

// ----------------------------------------------------------------------- the table

const INDEX = { name: "index", of: (i) => index[i], text: (i) => String(index[i]) };
const CLASS = { name: "class", of: className, text: className, left: true };
const VALUES = LABELS.map((name, s) => ({
  name,
  of: (i) => values[s][i],
  text: (i) => number(values[s][i]),
}));

function ranked() {
  const by = Number($("by").value),
    within = $("within").value;
  const sign = SIGNS[by] * Number($("end").value);
  const rows = [];
  for (let i = 0; i < N; i++)
    if (within === "" || label[i] === Number(within)) rows.push(i);
  rows.sort((a, b) => sign * (values[by][b] - values[by][a]) || a - b);
  return {
    rows: rows.slice(0, Math.max(1, Math.min(500, Number($("k").value) || 1))),
    count: rows.length,
  };
}

function fill() {
  const { rows, count } = ranked(),
    by = Number($("by").value);
  const columns = [INDEX, CLASS, VALUES[by], ...VALUES.filter((_, s) => s !== by)];
  if (state.order) {
    const { of } = columns[state.order.column],
      way = state.order.way;
    rows.sort((a, b) => {
      const [u, v] = [of(a), of(b)];
      return way * (u < v ? -1 : u > v ? 1 : 0) || a - b;
    });
  }
  const head = element("tr", {}, element("th", { className: "text" }, "image"));
  columns.forEach(({ name, left }, c) => {
    const here = state.order?.column === c;
    const arrow = here ? (state.order.way > 0 ? " ▲" : " ▼") : "";
    const button = element("button", { type: "button" }, name + arrow);
    button.onclick = () => {
      state.order = { column: c, way: here ? -state.order.way : 1 };
      fill();
      $("table").tHead.rows[0].cells[c + 1].firstChild.focus();
    };
    const cell = element("th", { className: left ? "text" : "" }, button);
    cell.scope = "col";
    const way = state.order?.way > 0 ? "ascending" : "descending";
    cell.setAttribute("aria-sort", here ? way : "none");
    head.append(cell);
  });
  const body = rows.map((i) => {
    const row = element(
      "tr",
      { tabIndex: 0 },
      element("td", {}, thumb(i, 32)),
      ...columns.map(({ text, left }) =>
        element("td", { className: left ? "text" : "" }, text(i)),
      ),
    );
    row.dataset.row = i;
    row.setAttribute("aria-selected", String(i === state.marked));
    row.onclick = () => choose(i);
    row.onkeydown = (event) => {
      if (event.key === "Enter" || event.key === " ") {
        event.preventDefault();
        choose(i);
      }
    };
    return row;
  });
  $("table").tHead.replaceChildren(head);
  $("table").tBodies[0].replaceChildren(...body);
  const way = SIGNS[by] < 0 ? "low" : "high";
  $("tablenote").textContent =
    `${rows.length} of ${thousands(count)} images. ` +
    `Of ${LABELS[by]}, ${way} values are suspect. ` +
    "A column's name sorts these rows; a row marks its image.";
}

// -------------------------------------------------------------------- the controls

function classList() {
  const full = state.chosen.size >= COLOURS.length;
  for (const box of $("classes").querySelectorAll("input")) {
    const own = state.chosen.get(Number(box.value));
    box.checked = own !== undefined;
    box.disabled = full && own === undefined;
    box.nextSibling.style.background = own === undefined ? "none" : COLOURS[own];
  }
  $("legend").replaceChildren(
    ...[...state.chosen].map(([c, own]) => {
      const dot = element("i", { className: "dot" });
      dot.style.background = COLOURS[own];
      return element("span", {}, dot, META.classes[c]);
    }),
  );
  if (!state.chosen.size) $("legend").textContent = "none chosen, all alike";
}

function pick(c, on) {
  if (!on) state.chosen.delete(c);
  else if (!state.chosen.has(c)) {
    const taken = new Set(state.chosen.values());
    const free = COLOURS.findIndex((_, k) => !taken.has(k));
    if (free >= 0) state.chosen.set(c, free);
  }
}

function controls() {
  const options = LABELS.map((name, s) => [name, s]);
  for (const id of ["x", "y", "by"])
    $(id).append(...options.map(([name, s]) => new Option(name, s)));
  const wish = (name, other) => Math.max(SCORES.indexOf(name), 0) || other;
  $("x").value = wish("cumulative_loss", 1);
  $("y").value = $("by").value = Math.max(SCORES.indexOf("curvature_square"), 0);
  $("within").append(
    new Option("all classes", ""),
    ...META.classes.map((name, c) => new Option(name, c)),
  );
  for (const way of ["x", "y"]) {
    const sensible = () => {
      const { log, positive, max } = extent(Number($(way).value));
      state[`log${way}`] = log && max > 300 * positive;
    };
    sensible();
    $(way).onchange = () => {
      sensible();
      draw();
    };
    $(`log${way}`).onchange = () => {
      state[`log${way}`] = $(`log${way}`).checked;
      draw();
    };
  }
  $("classes").append(
    ...META.classes.map((name, c) => {
      const box = element("input", { type: "checkbox", value: c });
      box.onchange = () => {
        pick(c, box.checked);
        classList();
        colour();
      };
      return element("label", {}, box, element("i", { className: "dot" }), name);
    }),
  );
  $("first").textContent = MANY ? "First ten" : "All";
  const firsts = () => {
    META.classes.slice(0, COLOURS.length).forEach((_, c) => pick(c, true));
  };
  $("none").onclick = () => {
    state.chosen.clear();
    classList();
    colour();
  };
  $("first").onclick = () => {
    state.chosen.clear();
    firsts();
    classList();
    colour();
  };
  $("filter").hidden = !MANY;
  $("filter").oninput = () => {
    const word = $("filter").value.trim().toLowerCase();
    for (const each of $("classes").children)
      each.hidden = !each.textContent.toLowerCase().includes(word);
    for (const each of $("classes").children)
      each.style.display = each.hidden ? "none" : "";
  };
  if (!MANY) firsts();
  classList();
  const where = new Map(Array.from(index, (value, i) => [value, i]));
  $("search").onsubmit = (event) => {
    event.preventDefault();
    const i = where.get(Number($("index").value));
    if (i !== undefined) choose(i);
    else {
      const least = index.reduce((a, b) => Math.min(a, b));
      const most = index.reduce((a, b) => Math.max(a, b));
      $("found").textContent =
        `No image here has index ${$("index").value}; ` +
        `they lie between ${least} and ${most}.`;
    }
  };
  $("top").onsubmit = (event) => event.preventDefault();
  for (const id of ["end", "k", "by", "within"])
    $(id).addEventListener("input", () => {
      state.order = null;
      fill();
    });
}

// ---------------------------------------------------------- light, dark, and a frame

const dark = () => document.documentElement.dataset.theme === "dark";

function theme(name) {
  document.documentElement.dataset.theme = name;
  if (!plot) return;
  const style = getComputedStyle(document.documentElement);
  const of = (variable) => style.getPropertyValue(variable).trim();
  for (const axis of [...plot.below, ...plot.left])
    axis.setv({
      axis_label_text_color: of("--text"),
      major_label_text_color: of("--muted"),
      axis_line_color: of("--muted"),
      major_tick_line_color: of("--muted"),
      minor_tick_line_color: of("--line"),
      axis_label_text_font_style: "normal",
    });
  for (const grid of plot.center)
    if ("grid_line_color" in grid) grid.grid_line_color = of("--line");
  for (const way of ["x", "y"])
    doc.get_model_by_name(`${way}_zero`).line_color = of("--muted");
  doc.get_model_by_name("marked").glyph.line_color = of("--mark");
  colour();
}

function frame() {
  const system = matchMedia("(prefers-color-scheme: dark)");
  const given = /^#(light|dark)$/.exec(location.hash)?.[1];
  theme(given ?? (system.matches ? "dark" : "light"));
  if (!given) system.onchange = () => theme(system.matches ? "dark" : "light");
  if (window.parent === window) return;
  document.documentElement.classList.add("inside");
  addEventListener("message", (event) => {
    if (["light", "dark"].includes(event.data?.theme)) theme(event.data.theme);
  });
  new ResizeObserver(tellHeight).observe(document.body);
}

function tellHeight() {
  const height = Math.ceil(document.body.getBoundingClientRect().height);
  window.parent.postMessage({ explorerHeight: height }, "*");
}

async function start() {
  frame();
  $("top").reset();
  document.title = `${META.name}: ${thousands(N)} images, ${SCORES.length} scores`;
  document.querySelector("h1").textContent = document.title;
  const raw = new Uint8Array(await inflated("columns"));
  const [high, low] = [words(raw, 0), words(raw, 1)]; // halves of the index
  index = Float64Array.from(low, (half, i) => high[i] * 2 ** 32 + half);
  label = words(raw, 2);
  values = SCORES.map((_, s) => new Float32Array(words(raw, 3 + s).buffer));
  sprite = new Image();
  sprite.src = URL.createObjectURL(new Blob([bytes("sprite")], { type: "image/webp" }));
  await sprite.decode();
  const code = new TextDecoder().decode(await inflated("bokeh"));
  document.head.append(element("script", { textContent: code }));
  $("wait").hidden = true;
  $("all").hidden = false;
  places = {};
  controls();
  const views = await Bokeh.embed.embed_item(JSON.parse($("plotjson").textContent));
  plot = [...views][0].model;
  doc = plot.document;
  if (matchMedia("(pointer: coarse)").matches) plot.toolbar.active_drag = null;
  draw();
  theme(document.documentElement.dataset.theme);
  fill();
  tellHeight(); // observers sleep where the frame is out of sight
  document.documentElement.dataset.ready = "yes";
}

start().catch((error) => {
  $("wait").hidden = false;
  $("wait").textContent = `The explorer could not start: ${error.message}`;
  throw error;
});
