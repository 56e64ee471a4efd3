// Puts the page together: which parts are there, what is drawn when, and drawn again.
const DRAWN = [];

function part(id, draw) {
  if (byId(id)) {
    DRAWN.push(draw);
  }
}

function currentSplit() {
  const run = DETAILED[Number(byId("run").value)];
  return [run, run.splits[Number(byId("split").value)] ?? run.splits[0]];
}

function drawRun() {
  const [run, split] = currentSplit();
  drawReliability("before-plot", split.before, "As fitted");
  drawReliability("after-plot", split.after, "After temperature");
  if (DATA.several) {
    drawLabels(run, split);
    drawDecisions(split);
  } else {
    drawConfusion(run, split);
    drawTwo(split);
    drawWorst(run, split);
  }
}

function fillSplits() {
  const run = DETAILED[Number(byId("run").value)];
  fill(byId("split"), run.splits.map((one) => `${SPLIT_NAMES[one.name]}, ${whole(one.rows)} rows`));
}

const DETAILED = DATA.runs.filter((run) => run.splits.length);

document.querySelectorAll("table.sortable").forEach(sortable);

if (byId("cost-plot")) {
  byId("cost-by").addEventListener("change", drawCost);
}
if (byId("run")) {
  fill(byId("run"), DETAILED.map((run) => run.label));
  fillSplits();
  byId("run").addEventListener("change", () => {
    fillSplits();
    drawRun();
  });
  byId("split").addEventListener("change", drawRun);
}
if (byId("training-run")) {
  fill(byId("training-run"), DATA.runs.filter((run) => run.history.length).map((run) => run.label));
  byId("training-run").addEventListener("change", drawTraining);
}
if (byId("map-plot")) {
  startMap();
}
part("cost-plot", drawCost);
part("learning-plot", drawLearning);
part("before-plot", drawRun);
part("loss-plot", drawTraining);
part("map-plot", drawMap);

function drawAll() {
  DRAWN.forEach((draw) => draw());
}

// One plot after another, so that the page answers in between.
function drawInTurn(left) {
  if (left.length) {
    left[0]();
    setTimeout(() => drawInTurn(left.slice(1)), 0);
  } else {
    root.dataset.ready = "true";
  }
}

drawInTurn(DRAWN);
document.addEventListener("themechange", drawAll);

// A link to a closed block opens it, and paper has all of them open.
function openTarget() {
  const target = location.hash.length > 1 && document.getElementById(decodeURIComponent(location.hash.slice(1)));
  if (target instanceof HTMLDetailsElement) {
    target.open = true;
  }
}

addEventListener("hashchange", openTarget);
openTarget();

// Plots have the width of the window: on paper, that of a landscape page or of half of it.
const PAPER = { width: 1000, height: 520 };
function forPaper(printing) {
  for (const plot of document.querySelectorAll(".js-plotly-plot")) {
    const width = plot.closest(".pair") ? PAPER.width / 2 - 20 : PAPER.width;
    const height = plot.id === "map-plot" ? PAPER.height : undefined;
    const before = plot.layout.height;
    if (printing) {
      plot.dataset.height = before ?? "";
      Plotly.relayout(plot, { width, height: height ?? before ?? 380 });
    } else {
      Plotly.relayout(plot, { width: null, height: Number(plot.dataset.height) || null, autosize: true });
    }
  }
}

addEventListener("beforeprint", () => {
  document.querySelectorAll("details").forEach((one) => (one.open = true));
  forPaper(true);
});
addEventListener("afterprint", () => forPaper(false));

document.addEventListener("click", (event) => {
  const button = event.target.closest("[data-copy]");
  if (button) {
    const text = button.previousElementSibling.textContent;
    navigator.clipboard?.writeText(text).then(
      () => say("Copied"),
      () => say("The browser did not allow copying"),
    );
    button.textContent = "Copied";
    setTimeout(() => (button.textContent = "Copy"), 1500);
  }
});

// The navigation says which section is being read.
const links = new Map([...document.querySelectorAll("nav.top a")].map((a) => [a.hash.slice(1), a]));
const watcher = new IntersectionObserver(
  (entries) => {
    for (const entry of entries.filter((one) => one.isIntersecting)) {
      links.forEach((a) => a.removeAttribute("aria-current"));
      links.get(entry.target.id)?.setAttribute("aria-current", "true");
    }
  },
  { rootMargin: "-20% 0px -70% 0px" },
);
document.querySelectorAll("main > section").forEach((section) => watcher.observe(section));
