// Rows of pictures, and the panel about one image that a click opens.
function gallery(items, run) {
  return make(
    "ul",
    { class: "gallery" },
    ...items.map((item) => make("li", {}, picture(item, run))),
  );
}

function picture(item, run) {
  const said = run ? verdict(run, item) : null;
  const text = make("div", {}, labelText(item));
  if (said) {
    const word = make("span", { class: said.right ? "right" : "wrong" }, said.text);
    text.append(make("br"), said.right ? "" : "→ ", word);
  }
  text.append(make("small", {}, ITEMS.ids[item]));
  return make("button", { type: "button", "data-item": item }, thumbnail(item, 96), text);
}

function drawWorst(run, split) {
  const note = split.worst.length ? [] : [make("p", { class: "note" }, "Nothing was wrong.")];
  byId("worst").replaceChildren(gallery(split.worst, run), ...note);
}

let returnTo = null;

function choose(item) {
  const panel = byId("chosen");
  const map = DATA.maps[Number(byId("map-of")?.value ?? 0)];
  const close = make("button", { type: "button", class: "close", "aria-label": "Close" }, "✕");
  close.addEventListener("click", closePanel);
  const facts = DATA.labelled ? [[DATA.several ? "labels" : "class", labelText(item)]] : [];
  facts.push(["split", DATA.splits[ITEMS.part[item]]]);
  for (const column of ITEMS.about) {
    facts.push([column.name, column.values[column.codes[item]] ?? "unknown"]);
  }
  const said = DATA.runs.map((run) => [run.label, verdict(run, item)]).filter(([, one]) => one);
  if (said.length) {
    facts.push(["right", `${said.filter(([, one]) => one.right).length} of ${said.length} runs`]);
  }
  const list = make("dl", {}, ...facts.flatMap(([word, value]) => [make("dt", {}, word), make("dd", {}, value)]));
  const about = make("div", { class: "about" }, thumbnail(item, 128, describe(item)), list);
  panel.replaceChildren(close, make("h3", {}, ITEMS.ids[item]), about, ...neighbours(map, item), ...verdicts(said));
  if (panel.hidden) {
    returnTo = document.activeElement;
  }
  panel.hidden = false;
  panel.focus({ preventScroll: true });
  document.dispatchEvent(new CustomEvent("chosen", { detail: item }));
}

function verdicts(said) {
  const lines = said.map(([label, one]) =>
    make("li", {}, `${label}: `, make("span", { class: one.right ? "right" : "wrong" }, `${one.right ? "✓" : "✗"} ${one.text}`)),
  );
  return lines.length ? [make("h3", {}, "What each run said"), make("ul", { class: "said" }, ...lines)] : [];
}

function neighbours(map, item) {
  const found = [];
  for (let j = 0; map && j < map.k; j += 1) {
    const other = map.neighbours[item * map.k + j];
    if (other !== NOBODY) {
      const same = sharesLabel(other, item);
      const text = make("div", {}, make("span", { class: same ? "right" : "wrong" }, labelText(other)));
      const cosine = (map.similarity[item * map.k + j] / 200).toFixed(2);
      text.append(make("small", {}, `cosine ${cosine}, ${DATA.splits[ITEMS.part[other]]}`), make("small", {}, ITEMS.ids[other]));
      const button = make("button", { type: "button", "data-item": other }, thumbnail(other, 80), text);
      found.push(make("li", {}, button));
    }
  }
  if (!found.length) {
    return [make("p", { class: "note" }, "Its features are not on this page, so it has no neighbours here.")];
  }
  return [make("h3", {}, `Nearest in ${map.label.split(" · ")[0]}`), make("ul", { class: "gallery", id: "neighbours" }, ...found)];
}

function closePanel() {
  byId("chosen").hidden = true;
  document.dispatchEvent(new CustomEvent("chosen", { detail: null }));
  returnTo?.focus?.({ preventScroll: true });
}

document.addEventListener("click", (event) => {
  const button = event.target.closest("[data-item]");
  if (button) {
    choose(Number(button.dataset.item));
  }
});
document.addEventListener("keydown", (event) => {
  if (event.key === "Escape" && !byId("chosen").hidden) {
    closePanel();
  }
});
