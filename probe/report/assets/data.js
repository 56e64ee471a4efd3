// What Python packed, unpacked; and small helpers that all other scripts use.
const DATA = JSON.parse(document.getElementById("data").textContent);
const NONE = 0xffff;
const NOBODY = 0xffffffff;
const SPLIT_NAMES = { oof: "out of fold", val: "validation", test: "test (reported)" };

function unpack(text, Kind) {
  const bytes = Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
  return new Kind(bytes.buffer);
}

const ITEMS = DATA.items;
ITEMS.split = unpack(ITEMS.split, Uint8Array);
ITEMS.part = unpack(ITEMS.part, Uint8Array);
if (DATA.several) {
  ITEMS.labels = unpack(ITEMS.labels, Uint8Array);
  ITEMS.known = unpack(ITEMS.known, Uint8Array);
} else {
  ITEMS.label = unpack(ITEMS.label, Uint16Array);
}
ITEMS.there = unpack(ITEMS.there, Uint8Array);
for (const column of ITEMS.about) {
  column.codes = unpack(column.codes, Uint8Array);
}
for (const run of DATA.runs) {
  if (DATA.several) {
    run.given = unpack(run.given, Uint8Array);
    run.known = unpack(run.known, Uint8Array);
    continue;
  }
  run.predicted = unpack(run.predicted, Uint16Array);
  run.confidence = unpack(run.confidence, Uint8Array);
  for (const split of run.splits) {
    split.pairs = unpack(split.pairs, Uint32Array);
  }
}
for (const map of DATA.maps) {
  map.coordinates = unpack(map.coordinates, Float32Array);
  map.neighbours = unpack(map.neighbours, Uint32Array);
  map.similarity = unpack(map.similarity, Uint8Array);
}

const byId = (id) => document.getElementById(id);
const percent = (fraction, digits = 1) => `${(100 * fraction).toFixed(digits)} %`;
const whole = (count) => count.toLocaleString("en");
const className = (number) => (number === NONE ? "unknown" : DATA.classes[number] ?? `class ${number}`);

// Text goes in as text: nothing of the data is ever parsed as HTML.
function make(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    made.setAttribute(key, value);
  }
  made.append(...children);
  return made;
}

function fill(select, options, chosen = 0) {
  select.replaceChildren(...options.map((text, i) => make("option", { value: i }, text)));
  select.value = String(chosen);
  select.closest("label").hidden = options.length < 2;
}

function say(text) {
  byId("status").textContent = text;
}

// An image; `alt` is left out where the words beside it say the same.
function thumbnail(item, shown, alt) {
  const said = ITEMS.there[item] ? alt : `no picture${alt ? `: ${alt}` : ""}`;
  const made = make("span", said ? { class: "thumb", role: "img", "aria-label": said } : { class: "thumb", "aria-hidden": "true" });
  made.style.setProperty("--shown", `${shown}px`);
  if (!ITEMS.there[item]) {
    made.classList.add("none");
    return made;
  }
  const sheet = Math.floor(item / ITEMS.perSheet);
  const place = item % ITEMS.perSheet;
  const columns = Math.min(ITEMS.columns, ITEMS.ids.length - sheet * ITEMS.perSheet);
  const x = (place % ITEMS.columns) * shown;
  const y = Math.floor(place / ITEMS.columns) * shown;
  made.classList.add(`s${sheet}`);
  made.style.backgroundSize = `${columns * shown}px auto`;
  made.style.backgroundPosition = `-${x}px -${y}px`;
  return made;
}

// Where an image may have several labels they are bits, a row of whole bytes an image.
const ROW_BYTES = Math.ceil(DATA.classes.length / 8);
const bit = (bits, item, label) => Boolean(bits[item * ROW_BYTES + (label >> 3)] & (128 >> (label & 7)));
const bitNames = (bits, item) => DATA.classes.filter((_, label) => bit(bits, item, label)).join(", ") || "no label";
const hasLabel = (item, label) => (DATA.several ? bit(ITEMS.labels, item, label) : ITEMS.label[item] === label);

// In words for people who do not see the picture.
function describe(item) {
  return DATA.labelled ? `${ITEMS.ids[item]}, ${labelText(item)}` : ITEMS.ids[item];
}

function labelText(item) {
  if (!DATA.labelled) {
    return "";
  }
  if (!DATA.several) {
    return className(ITEMS.label[item]);
  }
  return ITEMS.known[item] ? bitNames(ITEMS.labels, item) : "unknown";
}

// How many labels of an image a run has wrong; null where it was trained on it.
function wrongLabels(run, item) {
  if (!run?.known[item] || !ITEMS.known[item]) {
    return null;
  }
  return [...DATA.classes.keys()].filter((label) => bit(run.given, item, label) !== hasLabel(item, label)).length;
}

const sharesLabel = (one, other) =>
  DATA.several
    ? DATA.classes.some((_, label) => hasLabel(one, label) && hasLabel(other, label))
    : ITEMS.label[one] === ITEMS.label[other];

// A run's verdict on an image, in words; nothing where it was trained on it.
function verdict(run, item) {
  if (DATA.several) {
    const wrong = wrongLabels(run, item);
    return wrong === null ? null : { right: wrong === 0, text: bitNames(run.given, item) };
  }
  const predicted = run.predicted[item];
  if (predicted === NONE) {
    return null;
  }
  const right = predicted === ITEMS.label[item];
  return { right, text: `${className(predicted)}, ${percent(run.confidence[item] / 255, 0)} sure` };
}
