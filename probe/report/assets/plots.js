// What all plots share, and the simple ones: cost, learning curves, training curves, calibration.

// Okabe and Ito's hues, moved until every pair is told apart by every kind of colour vision and
// each stands out from the page; tests/report/test_palette.py measures both.
const PALETTES = {
  light: ["#114780", "#ac2c14", "#00a861", "#ad83a8", "#d57c00", "#6f74ff", "#250902", "#580da9"],
  dark: ["#226cb9", "#bf7c21", "#22f689", "#ff5d99", "#edcd17", "#cab2fe", "#cefcff", "#8f4aff"],
};
const SYMBOLS = ["circle", "square", "diamond", "cross", "triangle-up", "star", "hexagon", "x"];
const DASHES = ["solid", "dash", "dot", "dashdot"];
const CONFIG = { responsive: true, displaylogo: false, displayModeBar: false, plotlyServerURL: "" };

const css = (name) => getComputedStyle(root).getPropertyValue(name).trim();
const palette = () => PALETTES[root.dataset.theme] ?? PALETTES.light;
const colour = (i) => palette()[i % palette().length];
const symbol = (i) => SYMBOLS[Math.floor(i / palette().length) % SYMBOLS.length];
const dash = (i) => DASHES[Math.floor(i / palette().length) % DASHES.length];

function fade(hex, alpha) {
  const [r, g, b] = [1, 3, 5].map((i) => parseInt(hex.slice(i, i + 2), 16));
  return `rgba(${r},${g},${b},${alpha})`;
}

// Plotly reads a little HTML in texts: names are shown as they are.
function plain(text) {
  return String(text).replace(/[&<>]/g, (c) => ({ "&": "&amp;", "<": "&lt;", ">": "&gt;" })[c]);
}

// What a plot shows, in words for people who do not see it.
function describePlot(id, text) {
  byId(id).setAttribute("aria-label", text);
}

function axis(title, more = {}) {
  return {
    title: { text: title, font: { size: 13, color: css("--faint") } },
    gridcolor: css("--rule"),
    zerolinecolor: css("--rule"),
    linecolor: css("--line"),
    tickfont: { color: css("--faint") },
    automargin: true,
    exponentformat: "SI", // 1G, not 1B
    ...more,
  };
}

function layout(more) {
  return {
    paper_bgcolor: css("--paper"),
    plot_bgcolor: css("--paper"),
    font: { family: getComputedStyle(document.body).fontFamily, size: 13, color: css("--ink") },
    margin: { l: 56, r: 16, t: 28, b: 48 },
    hoverlabel: {
      bgcolor: css("--raised"),
      bordercolor: css("--line"),
      font: { color: css("--ink") },
      align: "left",
    },
    legend: { orientation: "h", y: -0.22, yanchor: "top", x: 0, font: { size: 12 } },
    ...more,
  };
}

// Rows are ranked by a share, or by a log loss, of which less is better.
const SCALE = DATA.loss ? 1 : 100;
const SIGN = DATA.loss ? -1 : 1;

function frontier(rows, values, ascending) {
  const order = rows
    .map((row, i) => ({ x: values[i], y: row.score }))
    .filter((one) => one.x !== null)
    .sort((a, b) => (ascending ? a.x - b.x : b.x - a.x) || SIGN * (b.y - a.y));
  let best = -Infinity;
  return order.filter((one) => SIGN * one.y > best && (best = SIGN * one.y) > -Infinity);
}

function drawCost() {
  const by = byId("cost-by").value;
  const rows = DATA.costs;
  const values = rows.map((row) => row.values[by]);
  const groups = [...new Set(rows.map((row) => row.group))];
  const traces = groups.map((group, g) => {
    const own = rows.map((_, i) => i).filter((i) => rows[i].group === group && values[i] !== null);
    const up = own.map((i) => (rows[i].high === null ? 0 : SCALE * (rows[i].high - rows[i].score)));
    const down = own.map((i) => (rows[i].low === null ? 0 : SCALE * (rows[i].score - rows[i].low)));
    return {
      type: "scatter",
      mode: "markers",
      name: plain(group),
      x: own.map((i) => values[i]),
      y: own.map((i) => SCALE * rows[i].score),
      error_y: { type: "data", symmetric: false, array: up, arrayminus: down, thickness: 1.4, width: 4 },
      marker: { color: colour(g), symbol: SYMBOLS[g % SYMBOLS.length], size: 10 },
      text: own.map((i) => plain(rows[i].label) + (rows[i].tied ? "<br>not told from the best" : "")),
      hovertemplate: `%{text}<br>${DATA.loss ? "%{y:.4f}" : "%{y:.2f} %"}, %{x:.4s}<extra></extra>`,
    };
  });
  const edge = frontier(rows, values, !["images_per_second", "imagenet_top1"].includes(by));
  traces.unshift({
    type: "scatter",
    mode: "lines",
    x: edge.map((one) => one.x),
    y: edge.map((one) => SCALE * one.y),
    line: { color: css("--line"), width: 1, dash: "dot" },
    hoverinfo: "skip",
    showlegend: false,
  });
  const positive = values.filter((value) => value > 0);
  const wide = Math.max(...positive) / Math.min(...positive) > 20;
  const unit = byId("cost-by").selectedOptions[0].textContent;
  const single = Math.min(...positive) === Math.max(...positive);
  const x = axis(unit, { ...(single ? { range: [0, 2 * positive[0]] } : {}), type: wide ? "log" : "linear", ...(wide ? { dtick: 1, minor: { ticks: "outside", ticklen: 3 } } : {}) });
  const y = axis(`${DATA.metric} on held-out rows, ${DATA.loss ? "nats" : "%"}`);
  Plotly.react("cost-plot", traces, layout({ xaxis: x, yaxis: y, hovermode: "closest" }), CONFIG);
}

function drawLearning() {
  const traces = DATA.curves.flatMap((curve, i) => {
    const mean = curve.mean.map((value) => 100 * value);
    const has = mean.map((_, j) => j).filter((j) => curve.deviation[j] !== null);
    const edge = (sign) => has.map((j) => mean[j] + sign * 100 * curve.deviation[j]);
    const told = curve.deviation.map((value) => (value === null ? "" : ` ± ${(100 * value).toFixed(2)}`));
    const name = plain(curve.label);
    return [
      {
        type: "scatter",
        mode: "lines",
        x: [...has, ...[...has].reverse()].map((j) => curve.perClass[j]),
        y: [...edge(1), ...edge(-1).reverse()],
        fill: "toself",
        fillcolor: fade(colour(i), 0.18),
        line: { width: 0 },
        hoverinfo: "skip",
        showlegend: false,
        legendgroup: name,
      },
      {
        type: "scatter",
        mode: "lines+markers",
        name,
        legendgroup: name,
        x: curve.perClass,
        y: mean,
        customdata: curve.draws.map((draws, j) => [draws, told[j]]),
        line: { color: colour(i), width: 2, dash: dash(i) },
        marker: { symbol: SYMBOLS[i % SYMBOLS.length], size: 7 },
        hovertemplate: "%{x} a class: %{y:.2f} %%{customdata[1]}, %{customdata[0]} draws",
      },
    ];
  });
  const counts = [...new Set(DATA.curves.flatMap((curve) => curve.perClass))].sort((a, b) => a - b);
  const x = axis("training images a class", { type: "log", tickvals: counts, ticktext: counts.map(whole) });
  const y = axis("top-1, %");
  Plotly.react("learning-plot", traces, layout({ xaxis: x, yaxis: y, hovermode: "closest" }), CONFIG);
  const told = DATA.curves.map((curve) => `${curve.label}: ${curve.perClass.map((count, j) => `${percent(curve.mean[j])} of ${whole(count)}`).join(", ")}`);
  describePlot("learning-plot", `Top-1 against training images a class. ${told.join(". ")}`);
}

function drawTraining() {
  const trained = DATA.runs.filter((run) => run.history.length);
  const run = trained[Number(byId("training-run").value)];
  const epochs = run.history.map((row) => row[0]);
  const draw = (id, train, val, scale, title) => {
    const line = (name, column, color, style) => ({
      type: "scatter",
      mode: epochs.length > 1 ? "lines" : "markers",
      name,
      x: epochs,
      y: run.history.map((row) => (row[column] === null ? null : scale * row[column])),
      line: { color, width: 2, dash: style },
    });
    const traces = train === null ? [] : [line("train", train, css("--line"), "dash")];
    if (run.history.some((row) => row[val] !== null)) {
      traces.push(line("validation", val, colour(0), "solid"));
    }
    const more = { xaxis: axis("epoch"), yaxis: axis(title), hovermode: "x unified" };
    Plotly.react(id, traces, layout(more), CONFIG);
    const last = traces.map((one) => [one.name, one.y.at(-1)]).filter(([, value]) => value !== null);
    describePlot(id, `${title}, over ${epochs.length} epoch${epochs.length === 1 ? "" : "s"}; at the last one ${last.map(([name, value]) => `${name} ${value.toFixed(scale === 1 ? 4 : 2)}`).join(", ")}`);
  };
  draw("loss-plot", 1, 3, 1, "cross-entropy, nats");
  const measured = (column) => run.history.some((row) => row[column] !== null);
  byId("top1-plot").hidden = !measured(2) && !measured(5); // of several labels there is no top-1
  if (measured(2)) {
    draw("top1-plot", 2, 4, 100, "top-1, %");
  } else if (measured(5)) {
    draw("top1-plot", null, 5, 100, "mAP, %");
  }
}

// What a decision is, by whether an image may have several labels.
const CALIBRATION = DATA.several
  ? { rows: "decisions", part: "part of the decisions", accuracy: "it is there", x: "probability of a label, %", y: "it is there, %", hover: "%{x:.1f} % probable, %{y:.1f} % there" }
  : { rows: "rows", part: "part of the rows", accuracy: "accuracy", x: "confidence, %", y: "accuracy, %", hover: "%{x:.1f} % sure, %{y:.1f} % right" };

function drawReliability(id, one, title) {
  if (!one) {
    const why = "This run has no temperature: nothing was held out to fit one.";
    Plotly.purge(id);
    byId(id).replaceChildren(make("p", { class: "empty" }, why));
    describePlot(id, why);
    return;
  }
  byId(id).querySelector(".empty")?.remove();
  const total = one.count.reduce((a, b) => a + b, 0);
  const share = one.count.map((count) => (100 * count) / total);
  const traces = [
    {
      type: "scatter",
      mode: "lines",
      x: [0, 100],
      y: [0, 100],
      line: { color: css("--line"), width: 1, dash: "dot" },
      hoverinfo: "skip",
      showlegend: false,
    },
    {
      type: "bar",
      x: one.confidence.map((value) => 100 * value),
      y: share,
      width: 4,
      marker: { color: fade(colour(3), 0.45) },
      name: CALIBRATION.part,
      hoverinfo: "skip",
    },
    {
      type: "scatter",
      mode: "lines+markers",
      x: one.confidence.map((value) => 100 * value),
      y: one.accuracy.map((value) => 100 * value),
      customdata: one.count,
      line: { color: colour(0), width: 2 },
      marker: { size: 7 },
      name: CALIBRATION.accuracy,
      hovertemplate: `${CALIBRATION.hover}, %{customdata:,} ${CALIBRATION.rows}<extra></extra>`,
    },
  ];
  const heading = { text: `${title}: error ${percent(one.error, 2)}`, font: { size: 14 }, x: 0, xref: "paper" };
  const x = axis(CALIBRATION.x, { range: [0, 101], constrain: "domain" });
  const y = axis(CALIBRATION.y, { range: [0, 101] });
  const more = { title: heading, xaxis: x, yaxis: y, hovermode: "closest", margin: { l: 56, r: 16, t: 40, b: 48 } };
  Plotly.react(id, traces, layout(more), CONFIG);
  describePlot(id, `Reliability. ${title}: error ${percent(one.error, 2)}`);
}

// Two classes: every threshold as a line, and where the run answers as points.
function drawTwo(split) {
  byId("two").hidden = !split.two;
  if (!split.two) {
    return;
  }
  const { roc, pr, share, points, positive } = split.two;
  const recall = `recall of ${plain(shorten(className(positive), 28))}, %`;
  const draw = (id, lines, chance, places, more, hover) => {
    const traces = lines.map(([x, y]) => ({
      type: "scatter",
      mode: "lines",
      x,
      y,
      line: { color: fade(colour(0), lines.length > 1 ? 0.4 : 1), width: 2, shape: more.shape },
      hovertemplate: hover,
      showlegend: false,
    }));
    traces.unshift({
      type: "scatter",
      mode: "lines",
      ...chance,
      line: { color: css("--line"), width: 1, dash: "dot" },
      hoverinfo: "skip",
      showlegend: false,
    });
    places.forEach(([words, x, y], i) => {
      const last = i === places.length - 1;
      traces.push({
        type: "scatter",
        mode: "markers",
        name: plain(words),
        x: [x],
        y: [y],
        marker: { size: 10, color: last ? css("--ink") : css("--paper"), line: { color: last ? css("--paper") : css("--ink"), width: 2 } },
        hovertemplate: `${plain(words)}<br>${hover}`,
        cliponaxis: false,
      });
    });
    const heading = { text: more.title, font: { size: 14 }, x: 0, xref: "paper" };
    const x = axis(more.x, { range: [0, 100], constrain: "domain" });
    const y = axis(more.y, { range: [0, 101] });
    Plotly.react(id, traces, layout({ title: heading, xaxis: x, yaxis: y, hovermode: "closest", margin: { l: 56, r: 16, t: 40, b: 48 } }), CONFIG);
  };
  const others = "false positives, % of the others";
  draw(
    "roc-plot", roc, { x: [0, 100], y: [0, 100] }, points.map(([words, x, y]) => [words, x, y]),
    { title: `ROC: area ${percent(split.two.auc)}`, x: others, y: recall, shape: "linear" },
    "%{x:.1f} % false positives, recall %{y:.1f} %<extra></extra>",
  );
  draw(
    "pr-plot", pr, { x: [0, 100], y: [share, share] },
    points.filter((one) => one[3] !== null).map(([words, , x, y]) => [words, x, y]),
    { title: `Average precision ${percent(split.two.average)}`, x: recall, y: "precision, %", shape: "vh" },
    "recall %{x:.1f} %, precision %{y:.1f} %<extra></extra>",
  );
}
