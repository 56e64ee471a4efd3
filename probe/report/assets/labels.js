// Images that may have several labels: how well a run finds each, and where it is surely wrong.
const BARS_UP_TO = 40; // labels: beyond, the lowest are drawn, the table has all

// A row of figures as Python packed it; null where it could not be measured.
function figuresOf(split) {
  return split.labels.map(([positives, threshold, average, precision, recall, f1, auc], label) => ({
    label, positives, threshold, average, precision, recall, f1, auc,
  }));
}

function drawLabels(run, split) {
  const every = figuresOf(split);
  const order = every.filter((one) => one.average !== null).sort((a, b) => a.average - b.average);
  const shown = order.slice(0, BARS_UP_TO);
  const names = shown.map((one) => plain(shorten(className(one.label), 28)));
  const places = [...shown.keys()];
  const chance = shown.map((one) => (100 * one.positives) / split.rows);
  const traces = [
    {
      type: "bar",
      orientation: "h",
      x: shown.map((one) => 100 * one.average),
      y: places,
      marker: { color: colour(0) },
      name: "average precision",
      customdata: shown.map((one, i) => [names[i], one.positives]),
      hovertemplate: "%{customdata[0]}: %{x:.2f} %, %{customdata[1]:,} images<extra></extra>",
    },
    {
      type: "scatter",
      mode: "markers",
      x: chance,
      y: places,
      marker: { color: css("--ink"), symbol: "line-ns-open", size: 13, line: { width: 2 } },
      name: "what chance gives",
      hovertemplate: "chance: %{x:.1f} %<extra></extra>",
    },
  ];
  const x = axis("average precision, %", { range: [0, 101] });
  const y = axis("", { tickvals: places, ticktext: names, showgrid: false, zeroline: false, range: [-0.7, shown.length - 0.3] });
  const height = Math.min(760, Math.max(300, 22 * shown.length + 120));
  const more = { xaxis: x, yaxis: y, height, hovermode: "closest", bargap: 0.3, margin: { l: 60, r: 10, t: 10, b: 48 } };
  listLabels(run, split, every); // first: the plot takes the width that the table leaves
  Plotly.react("labels-plot", traces, layout(more), CONFIG);
  byId("cell").replaceChildren();
}

const share = (value) => (value === null ? "–" : percent(value));

function listLabels(run, split, every) {
  const cell = (text, value) => make("td", { class: "number", ...(value === null ? {} : { "data-value": value }) }, text);
  const ranked = [...every].sort((a, b) => (b.average ?? -1) - (a.average ?? -1));
  const body = ranked.map((one) => {
    const what = `images of which ${className(one.label)} is wrong`;
    const button = make("button", { type: "button", "aria-label": what }, "images");
    button.addEventListener("click", () => showLabel(run, split, one.label));
    return make(
      "tr",
      {},
      make("th", { scope: "row" }, className(one.label)),
      cell(whole(one.positives), one.positives),
      cell(share(one.average), one.average),
      cell(one.threshold.toFixed(2), one.threshold),
      ...[one.precision, one.recall, one.f1, one.auc].map((value) => cell(share(value), value)),
      make("td", { class: "screen" }, button),
    );
  });
  const words = ["label", "images", "AP", "threshold", "precision", "recall", "F1", "AUC"];
  const heads = words.map((text, i) => {
    const sorter = make("button", { type: "button" }, text);
    return make("th", { scope: "col", ...(i ? { class: "number" } : {}) }, sorter);
  });
  heads.push(make("th", { scope: "col", class: "screen" }, "wrong"));
  const caption = make("caption", {}, "Precision, recall and F1 at the threshold, %; click a heading to sort");
  const table = make("table", {}, caption, make("thead", {}, make("tr", {}, ...heads)), make("tbody", {}, ...body));
  sortable(table);
  const frame = make("div", { class: "scroll tall", tabindex: 0, role: "group", "aria-label": "Figures of each label" }, table);
  byId("labels-list").replaceChildren(frame);
}

// The images of this page that a run is wrong about in one label.
function showLabel(run, split, label) {
  const wrong = { false: [], missed: [] };
  for (let item = 0; item < ITEMS.ids.length; item += 1) {
    const has = hasLabel(item, label);
    const given = run.known[item] ? bit(run.given, item, label) : has;
    if (ITEMS.known[item] && given !== has && inSplit(item, split)) {
      wrong[given ? "false" : "missed"].push(item);
    }
  }
  const part = (items, what) => [
    make("h3", {}, `${className(label)} ${what}: ${whole(items.length)} of this page's images`),
    gallery(items.slice(0, 48), run),
  ];
  byId("cell").replaceChildren(...part(wrong.false, "given, and not there"), ...part(wrong.missed, "there, and not given"));
}

function drawDecisions(split) {
  for (const kind of ["false", "missed"]) {
    const note = split[kind].length ? [] : [make("p", { class: "note" }, "None.")];
    const list = split[kind].map(([item, label, probability]) => {
      const word = make("span", { class: "wrong" }, `${className(label)} ${percent(probability)}`);
      const text = make("div", {}, word, make("br"), labelText(item), make("small", {}, ITEMS.ids[item]));
      return make("li", {}, make("button", { type: "button", "data-item": item }, thumbnail(item, 96), text));
    });
    byId(kind).replaceChildren(make("ul", { class: "gallery" }, ...list), ...note);
  }
}
