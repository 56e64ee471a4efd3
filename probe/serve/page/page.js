"use strict";

const $ = (id) => document.getElementById(id);
const FLAGS = {
  "low-confidence": "Low confidence: the best answer is less probable than those for nearly all images of the kind it was trained on.",
  "out-of-distribution": "Out of distribution: the image is further from the training images than nearly all images of their kind. The answer below may mean nothing.",
};
let asked = 0; // answers that come after a newer question are dropped

function element(tag, text, className) {
  const made = document.createElement(tag);
  if (text !== undefined) made.textContent = text; // never markup: names come from the bundle
  if (className) made.className = className;
  return made;
}

function percent(value) {
  return (100 * value).toFixed(value < 0.0995 ? 2 : 1) + " %";
}

function say(text, bad) {
  $("status").textContent = text;
  $("status").classList.toggle("bad", Boolean(bad));
}

function clear() {
  $("flags").replaceChildren();
  $("bars").replaceChildren();
  $("neighbours").replaceChildren();
  $("near").hidden = true;
}

// The headline: the class, or where an image may have several labels those that it is given.
function answer(reply) {
  if (reply.labels) return reply.labels.join(", ") || "No label";
  return reply.predictions[0].label + ", " + percent(reply.predictions[0].probability);
}

function show(reply) {
  clear();
  say(answer(reply));
  for (const flag of reply.flags) {
    $("flags").append(element("p", FLAGS[flag] || flag, "flag"));
  }
  for (const note of reply.notes) {
    $("flags").append(element("p", note[0].toUpperCase() + note.slice(1), "flag"));
  }
  for (const one of reply.predictions) {
    const item = element("li");
    const row = element("div", undefined, "row");
    row.append(element("span", one.label), element("span", percent(one.probability)));
    const below = reply.labels && !reply.labels.includes(one.label);
    if (below) row.firstChild.append(element("span", " below its threshold", "small"));
    const bar = element("div", undefined, below ? "bar below" : "bar");
    bar.setAttribute("role", "meter");
    bar.setAttribute("aria-label", one.label);
    bar.setAttribute("aria-valuemin", "0");
    bar.setAttribute("aria-valuemax", "100");
    bar.setAttribute("aria-valuenow", (100 * one.probability).toFixed(2));
    const filled = element("div");
    filled.style.width = 100 * one.probability + "%";
    bar.append(filled);
    item.append(row, bar);
    $("bars").append(item);
  }
  for (const one of reply.neighbours) {
    const item = element("li");
    if (one.picture) {
      const picture = element("img");
      picture.src = one.picture;
      picture.alt = "";
      item.append(picture);
    }
    item.append(element("div", one.label), element("div", one.distance.toFixed(3), "small"));
    if (one.id) item.append(element("div", one.id, "small"));
    $("neighbours").append(item);
  }
  $("near").hidden = reply.neighbours.length === 0;
}

async function predict(file) {
  const mine = ++asked;
  const preview = $("preview");
  if (preview.src) URL.revokeObjectURL(preview.src);
  preview.src = URL.createObjectURL(file);
  preview.alt = `The image you chose: ${file.name || "pasted"}`;
  preview.hidden = false;
  $("hint").textContent = "Choose, drop or paste another";
  $("answer").setAttribute("aria-busy", "true");
  clear();
  say("Looking ...");
  try {
    const response = await fetch("api/predict?top_k=5&neighbours=8", {
      method: "POST",
      headers: { "Content-Type": "application/octet-stream" },
      body: file,
    });
    const reply = await response.json();
    if (mine !== asked) return;
    if (response.ok) show(reply);
    else say(reply.error.message, true);
  } catch (error) {
    if (mine === asked) say("The server does not answer; is it still running?", true);
  } finally {
    if (mine === asked) $("answer").setAttribute("aria-busy", "false");
  }
}

function first(list) {
  return list && list.length ? list[0] : null;
}

$("preview").addEventListener("error", () => { $("preview").hidden = true; }); // TIFF, for one
$("file").addEventListener("change", (event) => {
  const file = first(event.target.files);
  if (file) predict(file);
  event.target.value = ""; // so that the same file can be chosen again
});
for (const kind of ["dragenter", "dragover"]) {
  document.addEventListener(kind, (event) => {
    event.preventDefault();
    $("drop").classList.add("over");
  });
}
for (const kind of ["dragleave", "drop"]) {
  document.addEventListener(kind, (event) => {
    event.preventDefault();
    $("drop").classList.remove("over");
  });
}
document.addEventListener("drop", (event) => {
  const file = first(event.dataTransfer.files);
  if (file) predict(file);
  else say("That was no file; save the image and drop it, or paste it.", true);
});
document.addEventListener("paste", (event) => {
  const file = first(event.clipboardData.files);
  if (file) predict(file);
  else say("There is no image in the clipboard.", true);
});

fetch("api/bundle").then((response) => response.json()).then((facts) => {
  document.title = facts.name + " - probe";
  $("name").textContent = facts.name;
  const classes = facts.classes.slice(0, 12).join(", ") + (facts.classes.length > 12 ? " ..." : "");
  $("facts").textContent = facts.backbone + " on " + facts.dataset + ", " + facts.classes.length +
    (facts.several ? " labels: " : " classes: ") + classes;
  $("terms").textContent = "Weights: " + facts.weights + ", " + facts.licence + "." +
    (facts.calibrated ? " Probabilities are calibrated on held-out images." : "");
}).catch(() => say("The server does not answer; is it still running?", true));
$("curl").textContent = "curl -F image=@FILE " + location.origin + "/api/predict";
