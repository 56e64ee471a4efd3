// The confusion matrix of one run on one split, the worst pairs beside it, the images of a cell.
const MATRIX_NAMES_UP_TO = 60; // classes whose names fit along an axis
const MATRIX_UP_TO = 400; // classes: beyond it a cell is hardly a pixel, and the matrix their square
const PAIRS_LISTED = 20;

function pairsOf(split) {
  const found = [];
  for (let i = 0; i < split.pairs.length; i += 3) {
    found.push({ actual: split.pairs[i], predicted: split.pairs[i + 1], rows: split.pairs[i + 2] });
  }
  return found;
}

function drawConfusion(run, split) {
  const n = DATA.classes.length;
  const pairs = pairsOf(split);
  const totals = new Float64Array(n);
  for (const pair of pairs) {
    totals[pair.actual] += pair.rows;
  }
  if (n > MATRIX_UP_TO) {
    byId("confusion-plot").hidden = true;
    listConfusions(run, split, pairs, totals);
    byId("cell").replaceChildren();
    return;
  }
  const shares = Array.from({ length: n }, (_, i) => new Float64Array(n).fill(totals[i] ? 0 : NaN));
  for (const pair of pairs) {
    shares[pair.actual][pair.predicted] = (100 * pair.rows) / totals[pair.actual];
  }
  const z = shares.map((row) => Array.from(row, Math.sqrt)); // 2 % is seen next to 80 %
  const named = n <= MATRIX_NAMES_UP_TO;
  const ticks = named
    ? { tickvals: [...DATA.classes.keys()], ticktext: DATA.classes.map((name) => plain(shorten(name))) }
    : {};
  const ground = root.dataset.theme === "dark" ? "#15181c" : "#ffffff";
  const trace = {
    type: "heatmap",
    z,
    zmin: 0,
    zmax: 10,
    customdata: shares.map((row) => Array.from(row, (value) => (Number.isNaN(value) ? null : value))),
    colorscale: [[0, ground], [0.3, root.dataset.theme === "dark" ? "#1d3f63" : "#b9d3ec"], [1, colour(0)]],
    colorbar: { tickvals: [0, 1, 10, 25, 50, 100].map(Math.sqrt), ticktext: ["0 %", "1 %", "10 %", "25 %", "50 %", "100 %"], thickness: 10, outlinewidth: 0 },
    hoverongaps: false,
    xgap: n <= 20 ? 1 : 0,
    ygap: n <= 20 ? 1 : 0,
    hovertemplate: "%{customdata:.1f} % of %{y}<br>taken for %{x}<extra></extra>",
  };
  if (!named) {
    trace.hovertemplate = "%{customdata:.1f} % of class %{y} taken for %{x}<extra></extra>";
  }
  if (n <= 12) {
    trace.text = shares.map((row) => Array.from(row, (value) => (value >= 0.5 ? value.toFixed(0) : "")));
    trace.texttemplate = "%{text}";
  }
  const x = axis("predicted", { ...ticks, side: "bottom", showgrid: false, zeroline: false, tickangle: named ? -45 : 0 });
  const y = axis("true", { ...ticks, autorange: "reversed", showgrid: false, zeroline: false });
  const size = Math.min(640, Math.max(400, 22 * n + 160));
  const plot = byId("confusion-plot");
  Plotly.react(plot, [trace], layout({ xaxis: x, yaxis: y, height: size, margin: { l: 60, r: 10, t: 10, b: 60 } }), CONFIG);
  plot.removeAllListeners?.("plotly_click");
  plot.on("plotly_click", (event) => {
    const [actual, predicted] = event.points[0].pointIndex ?? event.points[0].pointNumber;
    showCell(run, split, actual, predicted);
  });
  listConfusions(run, split, pairs, totals);
  byId("cell").replaceChildren();
}

function shorten(text, most = 18) {
  return text.length <= most ? text : `${text.slice(0, most - 6)}…${text.slice(-5)}`;
}

function listConfusions(run, split, pairs, totals) {
  const worst = pairs.filter((pair) => pair.actual !== pair.predicted).sort((a, b) => b.rows - a.rows);
  const body = worst.slice(0, PAIRS_LISTED).map((pair) => {
    const what = `images of ${className(pair.actual)} taken for ${className(pair.predicted)}`;
    const button = make("button", { type: "button", "aria-label": what }, "images");
    button.addEventListener("click", () => showCell(run, split, pair.actual, pair.predicted));
    return make(
      "tr",
      {},
      make("td", {}, className(pair.actual)),
      make("td", {}, className(pair.predicted)),
      make("td", { class: "number" }, whole(pair.rows)),
      make("td", { class: "number" }, percent(pair.rows / totals[pair.actual])),
      make("td", { class: "screen" }, button),
    );
  });
  const heads = ["true", "taken for", "rows", "of the class", "show"].map((text) => make("th", { scope: "col" }, text));
  heads[4].classList.add("screen");
  const right = pairs.filter((pair) => pair.actual === pair.predicted).reduce((sum, pair) => sum + pair.rows, 0);
  const text = `Worst pairs; ${whole(right)} of ${whole(split.rows)} right (${percent(right / split.rows, 2)})`;
  const table = make("table", {}, make("caption", {}, text), make("thead", {}, make("tr", {}, ...heads)), make("tbody", {}, ...body));
  byId("confusion-list").replaceChildren(make("div", { class: "scroll", tabindex: 0, role: "group", "aria-label": "Worst pairs" }, table));
}

// Which of the dataset's splits, and which part of it, held-out rows lie in.
function inSplit(item, split) {
  const part = DATA.splits[ITEMS.part[item]];
  return split.name === "oof" ? part !== "test" : part === split.name;
}

function showCell(run, split, actual, predicted) {
  const found = [];
  for (let item = 0; item < ITEMS.ids.length && found.length < 48; item += 1) {
    if (ITEMS.label[item] === actual && run.predicted[item] === predicted && inSplit(item, split)) {
      found.push(item);
    }
  }
  const what = actual === predicted ? `${className(actual)}, rightly` : `${className(actual)} taken for ${className(predicted)}`;
  const text = found.length ? `${what}: ${whole(found.length)} of this page's images` : `${what}: none of this page's images`;
  byId("cell").replaceChildren(make("h3", {}, text), gallery(found, run));
}
