"use strict";
const data = JSON.parse(document.getElementById("data").textContent);
const player = document.getElementById("player"), chart = document.getElementById("chart");
const scroll = document.getElementById("scroll"), now = document.getElementById("now");
const { labels, colours, times, probabilities } = data;
const height = 128, foot = 20;
const centre = ([start, end]) => (start + end) / 2;
const svg = (name, attributes) => {
  const node = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const key in attributes) node.setAttribute(key, attributes[key]);
  return node;
};
const clock = (s) => {
  const two = (n) => String(n).padStart(2, "0"), [h, m] = [Math.floor(s / 3600), Math.floor(s / 60) % 60];
  return h ? `${h}:${two(m)}:${two(Math.floor(s % 60))}` : `${m}:${two(Math.floor(s % 60))}`;
};
let playhead, width, total;

function draw() {
  width = chart.clientWidth;
  total = times.length ? times[times.length - 1][1] : 1;
  chart.replaceChildren();
  chart.setAttribute("viewBox", `0 0 ${width} ${height}`);
  const x = (second) => (second / total) * width, y = (p) => (height - foot) * (1 - p);
  // Runs of windows that have probabilities; each area reaches from its first window's start to its last one's end.
  for (let first = 0; first < times.length; first++) {
    if (!probabilities[first]) continue;
    let last = first;
    while (last + 1 < times.length && probabilities[last + 1]) last++;
    const below = new Array(last - first + 1).fill(0);
    const at = (i) => x(i === first ? times[i][0] : i === last ? times[i][1] : centre(times[i])).toFixed(1);
    const points = [...below.keys()].map((i) => i + first);
    labels.forEach((_, k) => {
      const floor = points.map((i) => `${at(i)},${y(below[i - first]).toFixed(1)}`).reverse();
      if (first === last) floor.push(`${x(times[first][0])},${y(below[0])}`);
      points.forEach((i) => { below[i - first] += probabilities[i][k]; });
      const ceiling = points.map((i) => `${at(i)},${y(Math.min(1, below[i - first])).toFixed(1)}`);
      if (first === last) ceiling.push(`${x(times[last][1])},${y(Math.min(1, below[0]))}`);
      chart.append(svg("polygon", { points: [...ceiling, ...floor].join(" "), fill: colours[k] }));
    });
    first = last;
  }
  const steps = [1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400];
  const step = steps.find((s) => x(s) >= 70) || 28800;
  for (let second = 0; second < total; second += step) {
    chart.append(svg("line", { class: "tick", x1: x(second), x2: x(second), y1: height - foot, y2: height - foot + 5 }));
    const text = svg("text", { class: "axis", x: x(second) + 3, y: height - 5 });
    text.textContent = clock(second);
    if (x(second) + 40 < width) chart.append(text);
  }
  playhead = svg("line", { id: "playhead", y1: 0, y2: height - foot });
  chart.append(playhead);
  follow(false);
}

function nearest(second) {
  let best = 0;
  const away = (i) => Math.abs(centre(times[i]) - second);
  times.forEach((_, i) => { if (away(i) < away(best)) best = i; });
  return best;
}

function say(second) {
  if (!times.length) return now.replaceChildren();
  const p = probabilities[nearest(second)];
  const ranked = p ? labels.map((label, k) => [label, p[k]]).sort((a, b) => b[1] - a[1]).slice(0, 3) : [];
  now.textContent = `${clock(second)}  ` + (ranked.map(([label, q]) => `${label} ${Math.round(100 * q)} %`).join(", ") || "nothing to go by");
}

function follow(scrolls = true) {
  const second = player.currentTime || 0, x = (second / total) * width;
  playhead.setAttribute("x1", x);
  playhead.setAttribute("x2", x);
  say(second);
  if (scrolls && (x < scroll.scrollLeft || x > scroll.scrollLeft + scroll.clientWidth))
    scroll.scrollLeft = x - scroll.clientWidth / 4;
  document.querySelectorAll("#scenes li").forEach((row) =>
    row.classList.toggle("current", row.dataset.start <= second && second < row.dataset.end));
}

function seek(second) { player.currentTime = second; follow(false); }
const pointed = (event) => Math.max(0, Math.min(total, ((event.clientX - chart.getBoundingClientRect().left) / width) * total));

chart.addEventListener("click", (event) => seek(pointed(event)));
chart.addEventListener("mousemove", (event) => say(pointed(event)));
chart.addEventListener("mouseleave", () => follow(false));
player.addEventListener("timeupdate", () => follow());
player.addEventListener("error", () => { now.textContent = "This browser cannot play the recording, or it has been moved."; });
document.addEventListener("click", (event) => {
  const button = event.target.closest("button");
  if (button && button.dataset.seek) seek(Number(button.dataset.seek));
  if (button && button.dataset.zoom) {
    document.querySelectorAll("#zoom button").forEach((each) => each.setAttribute("aria-pressed", String(each === button)));
    chart.style.width = `${100 * button.dataset.zoom}%`;
    draw();
    follow();
  }
});
addEventListener("resize", draw);
draw();
