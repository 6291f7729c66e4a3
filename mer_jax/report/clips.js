"use strict";
// DATA (clips/data.js) is made by mer_jax/report/clip_page.py. Names, labels and transcripts are strangers' input:
// they go into the page as text alone, never as markup.

const PER_PAGE = 20;
const { labels, modalities, clips } = DATA;
const form = document.getElementById("filters");
const list = document.getElementById("list");
const percent = (share) => `${Math.round(100 * share)} %`;

for (const clip of clips) {
  const [best] = clip.subsets[modalities.join("+")] ?? [clip.probs.indexOf(Math.max(...clip.probs))];
  clip.prediction = best; // rounded probabilities may be the same
  clip.confidence = clip.probs[clip.prediction];
  clip.present = modalities.filter((modality) => !(modality in clip.missing));
  clip.alone = clip.present.map((modality) => clip.subsets[modality][0]);
  clip.words = `${clip.name}\n${clip.text ?? ""}`.toLowerCase();
}

// Filters

const tests = {
  text: (clip, value) => value.toLowerCase().split(/\s+/).every((word) => clip.words.includes(word)),
  split: (clip, value) => clip.split === value,
  label: (clip, value) => (value === "?" ? clip.label < 0 : labels[clip.label] === value),
  prediction: (clip, value) => labels[clip.prediction] === value,
  outcome: (clip, value) => clip.label >= 0 && (clip.label === clip.prediction) === (value === "right"),
  modalities: (clip, value) =>
    value === "agree" || value === "differ"
      ? clip.alone.length > 1 && (new Set(clip.alone).size > 1) === (value === "differ")
      : clip.present.includes(value) && clip.subsets[value][0] !== clip.prediction,
  missing: (clip, value) =>
    value === "none" || value === "some"
      ? (clip.present.length < modalities.length) === (value === "some")
      : value in clip.missing,
  least: (clip, value) => 100 * clip.confidence >= value,
  most: (clip, value) => 100 * clip.confidence <= value,
};
const orders = { sure: (a, b) => b.confidence - a.confidence, unsure: (a, b) => a.confidence - b.confidence };

let page = 0;
let found = [];

function filter() {
  const given = [...new FormData(form)].filter(([, value]) => value.trim() !== "");
  found = clips.filter((clip) => given.every(([name, value]) => !tests[name] || tests[name](clip, value.trim())));
  const order = orders[form.elements.order.value];
  if (order) found.sort(order);
  history.replaceState(null, "", `#${new URLSearchParams(given)}`); // to be kept, shared and linked to
  document.querySelector(".filters summary").textContent = given.length ? `Filters (${given.length})` : "Filters";
  page = 0;
  show();
}

function show() {
  const pages = Math.max(1, Math.ceil(found.length / PER_PAGE));
  const count = found.length.toLocaleString("en");
  document.getElementById("count").textContent =
    found.length === clips.length ? `${count} clips` : `${count} of ${clips.length.toLocaleString("en")} clips`;
  for (const where of document.querySelectorAll(".where")) where.textContent = `Page ${page + 1} of ${pages}`;
  for (const button of document.querySelectorAll("[data-step]")) {
    const target = page + Number(button.dataset.step);
    button.disabled = target < 0 || target >= pages;
  }
  const cards = found.slice(page * PER_PAGE, (page + 1) * PER_PAGE).map(card);
  list.replaceChildren(...(cards.length ? cards : [make("p", "absent", "No clip is like that.")]));
}

// One clip

function make(tag, className, ...children) {
  const node = document.createElement(tag);
  if (className) node.className = className;
  node.append(...children);
  return node;
}

function bar(share, className = "") {
  const node = make("i", `share ${className}`);
  node.style.setProperty("--share", Math.min(1, Math.abs(share)));
  return node;
}

function card(clip) {
  const known = clip.label >= 0;
  const right = clip.label === clip.prediction;
  const verdict = make(
    "p",
    "verdict",
    make("strong", "", labels[clip.prediction]),
    ` ${percent(clip.confidence)} `,
    known ? make("span", right ? "right" : "wrong", right ? "✓ right" : `✗ ${clip.split === "train" ? "labelled" : "in truth"} ${labels[clip.label]}`) : "",
  );
  const said = make("div", "said", make("h2", "", clip.name, " ", make("span", "split", clip.split)), verdict);
  if (clip.text) {
    said.append(make("p", "transcript", clip.text));
    if (clip.heard) said.append(make("p", "soft", `heard by ${DATA.transcriber}`));
    const ranking = clip.ranking.map((label) => labels[label]).join(" › ");
    if (ranking) said.append(make("p", "soft", `ranked: ${ranking}`));
  }
  return make("article", "", pictures(clip), said, probabilities(clip), evidence(clip));
}

function pictures(clip) {
  const node = make("div", "pictures");
  if (clip.strip) {
    const image = make("img");
    [image.src, image.width, image.height] = [`clips/${clip.strip[0]}`, clip.strip[1], DATA.height];
    [image.loading, image.alt] = ["lazy", `pictures of ${clip.name}`];
    node.append(image);
  } else {
    node.append(make("p", "absent", "no pictures"));
  }
  if (clip.outline) {
    node.append(waveform(clip.outline), make("p", "soft", `${clip.seconds} s of sound`));
  } else {
    node.append(make("p", "absent", "no sound"));
  }
  return node;
}

function waveform(outline) {
  const space = "http://www.w3.org/2000/svg";
  const svg = document.createElementNS(space, "svg");
  const path = document.createElementNS(space, "path");
  const lines = [...outline].map((level, x) => {
    const height = Math.max(0.5, (20 * DATA.levels.indexOf(level)) / (DATA.levels.length - 1));
    return `M${2 * x + 1} ${20 - height}v${2 * height}`;
  });
  svg.setAttribute("viewBox", `0 0 ${2 * outline.length} 40`);
  svg.setAttribute("preserveAspectRatio", "none");
  svg.setAttribute("role", "img");
  svg.setAttribute("aria-label", "outline of the sound");
  path.setAttribute("d", lines.join(""));
  svg.append(path);
  return svg;
}

function probabilities(clip) {
  const body = make("tbody");
  clip.probs.forEach((share, label) => {
    const name = make("th", "", labels[label]);
    name.scope = "row";
    if (label === clip.label) name.append(" ", make("span", "truth", clip.split === "train" ? "label" : "truth"));
    body.append(
      make("tr", label === clip.prediction ? "strong" : "", name, make("td", "bar", bar(share)), make("td", "", percent(share))),
    );
  });
  return make("table", "probabilities", make("caption", "", "Probability"), body);
}

function evidence(clip) {
  const head = make("tr", "", ...["Modality", "alone says", "weight"].map((name) => make("th", "", name)));
  const body = make("tbody");
  const largest = Math.max(...clip.attention.map(Math.abs)) || 1;
  modalities.forEach((modality, i) => {
    const name = make("th", "", modality);
    name.scope = "row";
    if (modality in clip.missing) {
      const reason = make("td", "soft reason", clip.missing[modality] || "missing");
      reason.colSpan = 2;
      body.append(make("tr", "", name, reason));
      return;
    }
    const [label, share] = clip.subsets[modality];
    const says = make("td", label === clip.prediction ? "" : "wrong", `${labels[label]} ${percent(share)}`);
    const weight = clip.attention[i];
    const number = weight.toFixed(2).replace("-", "−");
    body.append(make("tr", "", name, says, make("td", "weight", number, bar(weight / largest, weight < 0 ? "negative" : ""))));
  });
  const node = make("div", "evidence", make("table", "", make("thead", "", head), body));
  const others = Object.entries(clip.subsets).filter(([name]) => {
    const parts = name.split("+");
    return parts.length > 1 && parts.length < clip.present.length && parts.every((part) => clip.present.includes(part));
  });
  if (others.length) {
    const items = others.map(([name, [label, share]]) =>
      make("li", label === clip.prediction ? "" : "wrong", `${name.replaceAll("+", " + ")}: ${labels[label]} ${percent(share)}`),
    );
    node.append(make("details", "", make("summary", "", "With fewer modalities"), make("ul", "", ...items)));
  }
  return node;
}

// What happens

function restore() {
  for (const [name, value] of new URLSearchParams(location.hash.slice(1))) {
    if (form.elements[name]) form.elements[name].value = value;
  }
  filter();
}

form.addEventListener("input", filter);
form.addEventListener("submit", (event) => event.preventDefault());
form.addEventListener("reset", () => setTimeout(filter));
for (const button of document.querySelectorAll("[data-step]")) {
  button.addEventListener("click", () => {
    page += Number(button.dataset.step);
    show();
    document.querySelector(".found").scrollIntoView();
  });
}
window.addEventListener("hashchange", restore);
document.querySelector(".filters").open = !matchMedia("(max-width: 40rem)").matches; // where they would fill the screen
restore();
