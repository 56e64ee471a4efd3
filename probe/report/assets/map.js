// The feature map: points by class, error or split; a picture on hover; neighbours on a click.
const COLOURED_UP_TO = 40; // classes: beyond, only the most mistaken ones are coloured
const WITHOUT_GL = 2000; // points where the browser has no WebGL
const MAP = { shown: [], hovered: null, cursor: null, axes: [0, 1] };

function hasGl() {
  try {
    return Boolean(document.createElement("canvas").getContext("webgl"));
  } catch {
    return false;
  }
}

const GL = hasGl();
const currentMap = () => DATA.maps[Number(byId("map-of").value)];
const mapRun = () => DATA.runs[Number(byId("map-run").value)];

function groupsByClass(items) {
  const n = DATA.classes.length;
  const run = mapRun();
  const wrong = new Float64Array(n);
  for (const item of items) {
    if (run && run.predicted[item] !== NONE && run.predicted[item] !== ITEMS.label[item]) {
      wrong[ITEMS.label[item]] += 1;
    }
  }
  const order = [...Array(n).keys()];
  const few = n <= COLOURED_UP_TO ? order : order.sort((a, b) => wrong[b] - wrong[a]).slice(0, palette().length);
  const groups = few.map((label, i) => ({ name: className(label), colour: colour(i), symbol: symbol(i), items: [] }));
  const of = new Map(few.map((label, i) => [label, groups[i]]));
  const others = { name: "other classes", colour: css("--rule"), symbol: "circle", items: [] };
  for (const item of items) {
    (of.get(ITEMS.label[item]) ?? others).items.push(item);
  }
  return [others, ...groups];
}

// An image may have several labels: a colour says whether it has the one that was chosen.
function groupsByLabel(items) {
  const label = Number(byId("map-label").value);
  const name = className(label);
  const groups = [
    { name: `without ${name}`, colour: css("--line"), symbol: "circle", items: [] },
    { name: `with ${name}`, colour: colour(0), symbol: "circle", items: [] },
  ];
  for (const item of items) {
    groups[Number(hasLabel(item, label))].items.push(item);
  }
  return groups;
}

function groupsByWrongLabels(items) {
  const run = mapRun();
  const groups = [
    { name: "trained on, or not kept", colour: css("--rule"), symbol: "circle", items: [] },
    { name: "all labels right", colour: fade(colour(0), 0.55), symbol: "circle", items: [] },
    { name: "one label wrong", colour: colour(4), symbol: "diamond", items: [] },
    { name: "more wrong", colour: colour(1), symbol: "x", items: [] },
  ];
  for (const item of items) {
    const wrong = wrongLabels(run, item);
    groups[wrong === null ? 0 : Math.min(wrong, 2) + 1].items.push(item);
  }
  return groups;
}

function groupsByError(items) {
  const run = mapRun();
  const groups = [
    { name: "right", colour: fade(colour(0), 0.55), symbol: "circle", items: [] },
    { name: "trained on, or not kept", colour: css("--rule"), symbol: "circle", items: [] },
    { name: "wrong", colour: colour(4), symbol: "diamond", items: [] },
    { name: "wrong and over 90 % sure", colour: colour(1), symbol: "x", items: [] },
  ];
  for (const item of items) {
    const predicted = run ? run.predicted[item] : NONE;
    const sure = run && run.confidence[item] > 229;
    const kind = predicted === NONE ? 1 : predicted === ITEMS.label[item] ? 0 : sure ? 3 : 2;
    groups[kind].items.push(item);
  }
  return groups;
}

function groupsBySplit(items) {
  const names = [DATA.runs.length ? "trained on" : "train", "validation", "test"];
  const groups = names.map((name, i) => ({ name, colour: colour([3, 0, 4][i]), symbol: SYMBOLS[i], items: [] }));
  for (const item of items) {
    groups[ITEMS.part[item]].items.push(item);
  }
  return groups;
}

// A column of the images' table: its values are few, or quarters of numbers.
function groupsByColumn(items, column) {
  const unknown = { name: "unknown", colour: css("--rule"), symbol: "circle", items: [] };
  const groups = column.values.map((name, i) => ({ name, colour: colour(i), symbol: symbol(i), items: [] }));
  for (const item of items) {
    (groups[column.codes[item]] ?? unknown).items.push(item);
  }
  return [unknown, ...groups];
}

function chosenGroups(items) {
  const by = byId("map-by").value;
  const column = ITEMS.about[Number(by)]; // none of the words in GROUPS is a number
  return column ? groupsByColumn(items, column) : GROUPS[by](items);
}

const GROUPS = DATA.several
  ? { class: groupsByLabel, error: groupsByWrongLabels, split: groupsBySplit }
  : { class: groupsByClass, error: groupsByError, split: groupsBySplit };

function at(map, item) {
  const start = item * map.dimensions;
  return [map.coordinates[start + MAP.axes[0]], map.coordinates[start + MAP.axes[1]]];
}

function pointTrace(map, group) {
  const places = group.items.map((item) => at(map, item));
  return {
    type: GL ? "scattergl" : "scatter",
    mode: "markers",
    name: `${plain(shorten(group.name, 28))} (${whole(group.items.length)})`,
    x: places.map((place) => place[0]),
    y: places.map((place) => place[1]),
    customdata: group.items,
    hoverinfo: "none",
    marker: { color: group.colour, symbol: group.symbol, size: MAP.shown.length > 3000 ? 5 : 7, opacity: 0.8 },
  };
}

function visibleItems(map) {
  const wanted = byId("map-class").value.trim();
  const label = wanted ? DATA.classes.indexOf(wanted) : -1;
  const items = [];
  for (let item = 0; item < ITEMS.points; item += 1) {
    if ((label < 0 || hasLabel(item, label)) && !Number.isNaN(at(map, item)[0])) {
      items.push(item);
    }
  }
  const every = GL ? 1 : Math.ceil(items.length / WITHOUT_GL);
  return items.filter((_, i) => i % every === 0);
}

function axisTitle(map, dimension) {
  if (map.method === "tsne") {
    return "";
  }
  return `component ${dimension + 1}, ${percent(map.explained[dimension])} of the variance`;
}

function drawMap() {
  const map = currentMap();
  const pairs = map.dimensions === 3 ? [[0, 1], [0, 2], [1, 2]] : [[0, 1]];
  MAP.axes = pairs[Number(byId("map-axes").value)] ?? pairs[0];
  MAP.shown = visibleItems(map);
  const groups = chosenGroups(MAP.shown).filter((group) => group.items.length);
  const traces = groups.map((group) => pointTrace(map, group));
  traces.push(markTrace([]));
  const bare = { showticklabels: false, zeroline: false };
  const more = {
    xaxis: axis(axisTitle(map, MAP.axes[0]), bare),
    yaxis: axis(axisTitle(map, MAP.axes[1]), { ...bare, scaleanchor: map.method === "tsne" ? "x" : undefined }),
    hovermode: "closest",
    dragmode: "pan",
    uirevision: `${byId("map-of").value} ${MAP.axes}`,
    margin: { l: 36, r: 8, t: 8, b: 40 },
    legend: { orientation: "h", y: -0.1, yanchor: "top", x: 0, itemsizing: "constant", font: { size: 12 } },
  };
  const plot = byId("map-plot");
  Plotly.react(plot, traces, layout(more), { ...CONFIG, displayModeBar: true, modeBarButtons: [["zoomIn2d", "zoomOut2d", "zoom2d", "pan2d", "resetScale2d"]] });
  plot.removeAllListeners?.("plotly_hover");
  plot.on("plotly_hover", (event) => {
    MAP.hovered = event.points[0].customdata ?? null;
    showTip(MAP.hovered, event.event);
  });
  plot.removeAllListeners?.("plotly_unhover");
  plot.on("plotly_unhover", () => {
    MAP.hovered = null;
    hideTip();
  });
  plot.removeAllListeners?.("plotly_click");
  plot.on("plotly_click", (event) => {
    hideTip();
    choose(event.points[0].customdata);
  });
  const legend = "Drag to move, zoom with the buttons above, double-click to see all. Click a name below the map to hide it, double-click to see it alone.";
  byId("map-note").textContent = GL ? legend : `${legend} This browser has no WebGL: ${whole(MAP.shown.length)} points are drawn.`;
}

// The ring around the point that is kept, and around its neighbours.
function markTrace(items) {
  const map = currentMap();
  const places = items.map((item) => at(map, item));
  return {
    type: GL ? "scattergl" : "scatter",
    mode: "markers",
    x: places.map((place) => place[0]),
    y: places.map((place) => place[1]),
    hoverinfo: "skip",
    showlegend: false,
    marker: {
      size: items.map((_, i) => (i ? 12 : 18)),
      color: "rgba(0,0,0,0)",
      line: { color: css("--ink"), width: 2 },
      symbol: "circle",
    },
  };
}

function mark(item) {
  const plot = byId("map-plot");
  if (!plot?.data) {
    return;
  }
  const map = currentMap();
  const near = item === null ? [] : [item, ...map.neighbours.subarray(item * map.k, (item + 1) * map.k)];
  const trace = markTrace([...near].filter((one) => one !== NOBODY && one < ITEMS.points));
  const last = plot.data.length - 1;
  Plotly.restyle(plot, { x: [trace.x], y: [trace.y], "marker.size": [trace.marker.size] }, [last]);
}

function showTip(item, where) {
  if (item === null) {
    return;
  }
  const tip = byId("tip");
  const said = mapRun() ? verdict(mapRun(), item) : null;
  const words = DATA.labelled ? [make("p", {}, labelText(item))] : [];
  if (said) {
    words.push(make("p", { class: said.right ? "right" : "wrong" }, `${said.right ? "✓" : "✗"} ${said.text}`));
  }
  words.push(make("p", { class: "note" }, `${ITEMS.ids[item]} · ${DATA.splits[ITEMS.part[item]]}`));
  tip.replaceChildren(thumbnail(item, 112, describe(item)), ...words);
  tip.hidden = false;
  const { width, height } = tip.getBoundingClientRect();
  const left = where.clientX + 18 + width > innerWidth ? where.clientX - 18 - width : where.clientX + 18;
  tip.style.left = `${Math.max(4, left)}px`;
  tip.style.top = `${Math.max(4, Math.min(where.clientY - height / 2, innerHeight - height - 4))}px`;
}

function hideTip() {
  byId("tip").hidden = true;
}

// Arrow keys walk over the points in the order of the axis they point along.
function walk(key) {
  const map = currentMap();
  const along = key === "ArrowLeft" || key === "ArrowRight" ? 0 : 1;
  const order = [...MAP.shown].sort((a, b) => at(map, a)[along] - at(map, b)[along]);
  const step = key === "ArrowRight" || key === "ArrowUp" ? 1 : -1;
  const now = order.indexOf(MAP.cursor);
  MAP.cursor = order[now < 0 ? Math.floor(order.length / 2) : Math.min(Math.max(now + step, 0), order.length - 1)];
  mark(MAP.cursor);
  const frame = byId("map-plot").getBoundingClientRect();
  showTip(MAP.cursor, { clientX: frame.left + 60, clientY: frame.top + 120 });
  say(describe(MAP.cursor));
}

function find(text) {
  const wanted = text.trim();
  const item = wanted ? ITEMS.ids.findIndex((id, i) => i < ITEMS.points && id.includes(wanted)) : -1;
  if (item >= 0) {
    choose(item);
  } else if (wanted) {
    say(`No image on the map is called ${wanted}`);
  }
}

function startMap() {
  const map = () => currentMap();
  fill(byId("map-of"), DATA.maps.map((one) => one.label));
  fill(byId("map-run"), DATA.runs.map((run) => run.label));
  const axes = () => fill(byId("map-axes"), map().dimensions === 3 ? ["1 and 2", "1 and 3", "2 and 3"] : ["both"]);
  axes();
  byId("map-by").append(...ITEMS.about.map((column, i) => make("option", { value: i }, column.name)));
  byId("map-by").closest("label").hidden = byId("map-by").options.length < 2;
  byId("class-names").append(...DATA.classes.map((name) => make("option", { value: name })));
  byId("map-of").addEventListener("change", axes);
  if (DATA.several) {
    fill(byId("map-label"), DATA.classes);
  }
  for (const id of ["map-of", "map-axes", "map-by", "map-run", "map-class", "map-label"]) {
    byId(id)?.addEventListener("change", drawMap);
  }
  byId("map-find").addEventListener("change", (event) => find(event.target.value));
  byId("map-plot").addEventListener("keydown", (event) => {
    if (event.key.startsWith("Arrow")) {
      event.preventDefault();
      walk(event.key);
    } else if (event.key === "Enter" && MAP.cursor !== null) {
      hideTip();
      choose(MAP.cursor);
    }
  });
  byId("map-plot").addEventListener("blur", hideTip);
  // Plotly tells of a point once: the picture follows the mouse, and comes back after a scroll
  byId("map-plot").addEventListener("mousemove", (event) => showTip(MAP.hovered, event));
  document.addEventListener("scroll", hideTip, { passive: true });
  document.addEventListener("chosen", (event) => mark(event.detail));
}
