// The page's own part: a clip goes up, its windows come down one by one and join what timeline.js draws.
const element = (id) => document.getElementById(id);
const node = (name, text = "", kind = "") => {
  const made = document.createElement(name);
  made.textContent = text;
  made.className = kind;
  return made;
};
const percent = (p) => `${Math.round(100 * p)} %`;
const WAITS = 5;  // times that a busy server is asked again
let request, recorder, shares;

function reset(name) {
  times.length = probabilities.length = 0;
  shares = labels.map(() => 0);
  for (const id of ["scenes", "legend"]) element(id).replaceChildren();
  draw();
  for (const id of ["problem", "warning", "results"]) element(id).hidden = true;
  element("name").textContent = name;
  element("status").textContent = "";
}

function busy(is) {
  element("cancel").hidden = !is;
  element("file").disabled = element("record").disabled = is;
  element("progress").hidden = !is;
  if (is) element("progress").removeAttribute("value");
}

function complain(sentence) {
  element("problem").textContent = sentence;
  element("problem").hidden = false;
  element("status").textContent = "";
}

const pause = (seconds, signal) => new Promise((done, failed) => {
  setTimeout(done, 1000 * seconds);
  signal.addEventListener("abort", () => failed(signal.reason));
});

async function answer(file, signal) {
  for (let again = 0; ; again++) {
    const form = new FormData();
    form.append("text", element("text").value);
    form.append("clip", file, file.name);
    const response = await fetch("timeline", { method: "POST", body: form, signal });
    const wait = Number(response.headers.get("Retry-After"));
    if (![429, 503].includes(response.status) || !wait || again === WAITS) return response;
    element("status").textContent = `The server is busy; trying again in ${wait} s.`;
    await pause(wait, signal);
  }
}

async function* linesOf(response) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  for (let rest = ""; ;) {
    const { done, value } = await reader.read();
    if (done) return;
    const lines = (rest + value).split("\n");
    rest = lines.pop();
    for (const line of lines) yield JSON.parse(line);
  }
}

async function recognise(file) {
  if (request) request.abort();
  const own = request = new AbortController();
  reset(file.name);
  if (file.size > data.most.MiB * 2 ** 20)
    return complain(`${file.name} is larger than ${data.most.MiB} MiB, the most that this server takes.`);
  busy(true);
  play(file);
  element("status").textContent = `Sending ${file.name}.`;
  try {
    const response = await answer(file, own.signal);
    if (!response.ok) throw new Error((await response.json()).error);
    let count = 0;
    for await (const line of linesOf(response)) {
      if (line.windows) {
        count = element("progress").max = line.windows;
        element("status").textContent = "Looking and listening.";
      } else if (line.start === undefined) {
        throw new Error(line.error);
      } else {
        add(line);
        element("progress").value = times.length;
        element("status").textContent = `${times.length} of ${count} windows.`;
      }
    }
    if (times.length < count) throw new Error("The server has ended in the middle of it.");
  } catch (error) {
    if (own.signal.aborted) element("status").textContent = "Cancelled.";
    else complain(error instanceof TypeError ? `The server cannot be reached (${error.message}).` : error.message);
  }
  if (request === own) {
    request = null;
    busy(false);
  }
}

function add(line) {
  times.push([line.start, line.end]);
  probabilities.push(line.label ? labels.map((label) => line.probabilities[label]) : null);
  const place = labels.indexOf(line.label);
  if (place >= 0) shares[place]++;
  if (line.warning) {
    element("warning").textContent = line.warning;
    element("warning").hidden = false;
  }
  element("results").hidden = false;
  element("scenes").append(row(line, place));
  element("legend").replaceChildren(...labels.map((label, k) => {
    const item = node("li");
    item.append(dot(k), `${label} `, node("span", percent(shares[k] / times.length), "soft"));
    return item;
  }));
  draw();
}

function dot(k) {
  const mark = node("span", "", "dot");
  mark.style.background = k < 0 ? "transparent" : colours[k];
  return mark;
}

function row(line, place) {
  const item = node("li"), scene = node("div", "", "scene"), what = node("span"), more = node("span", "", "said");
  item.dataset.start = line.start;
  item.dataset.end = line.end;
  if (line.face) {
    const face = node("img");
    face.alt = "face";
    face.src = `data:image/jpeg;base64,${line.face}`;
    scene.append(face);
  } else scene.append(node("span", "no face", "none"));
  what.append(dot(place), line.label || "nothing to go by");
  if (line.label) what.append(node("br"), node("span", percent(line.probabilities[line.label]), "soft"));
  const button = node("button", `${clock(line.start)} – ${clock(line.end)}`, "seek");
  button.type = "button";
  button.dataset.seek = line.start;
  if (line.used) more.append(node("span", `by ${line.used.join(", ")}`, "soft"));
  for (const [modality, reason] of Object.entries(line.absent || {}))
    more.append(node("span", `${modality}: ${reason}`, "soft absences"));
  scene.append(what, button, more);
  item.append(scene);
  return item;
}

function play(file) {
  URL.revokeObjectURL(player.src);
  player.src = URL.createObjectURL(file);
}
// What browsers record does not say how long it is; they find out on the way to a place far behind its end.
player.addEventListener("loadedmetadata", () => {
  if (player.duration !== Infinity) return;
  player.addEventListener("durationchange", () => { player.currentTime = 0; }, { once: true });
  player.currentTime = 1e7;
});

async function record() {
  if (recorder) return recorder.stop();
  reset("recording");
  if (!navigator.mediaDevices || !window.MediaRecorder)
    return complain("This browser gives no camera here: it does to pages of localhost or https alone.");
  let stream;
  try {
    stream = await navigator.mediaDevices.getUserMedia({ video: true, audio: true });
  } catch (error) {
    return complain(`No recording: ${error.message}.`);
  }
  const parts = [], begin = Date.now(), most = 1000 * data.most.seconds - 1000;
  const own = recorder = new MediaRecorder(stream);
  URL.revokeObjectURL(player.src);
  player.removeAttribute("src");
  player.srcObject = stream;
  player.muted = true;
  player.play();
  element("results").hidden = false;
  element("record").textContent = "Stop";
  element("file").disabled = true;
  const timer = setInterval(() => {
    element("status").textContent = `Recording, ${clock((Date.now() - begin) / 1000)}.`;
    if (Date.now() - begin > most && own.state === "recording") own.stop();
  }, 250);
  own.ondataavailable = (event) => parts.push(event.data);
  own.onstop = () => {
    clearInterval(timer);
    stream.getTracks().forEach((track) => track.stop());
    recorder = null;
    player.srcObject = null;
    player.muted = false;
    element("record").textContent = "Record with the camera";
    const type = own.mimeType.split(";")[0], suffix = type.endsWith("mp4") ? "mp4" : "webm";
    recognise(new File(parts, `recording.${suffix}`, { type }));
  };
  own.start(1000);
}

element("record").addEventListener("click", record);
element("cancel").addEventListener("click", () => request && request.abort());
element("file").addEventListener("change", () => {
  if (element("file").files[0]) recognise(element("file").files[0]);
  element("file").value = "";
});
element("form").addEventListener("submit", (event) => event.preventDefault());
for (const kind of ["dragover", "dragleave", "drop"])
  addEventListener(kind, (event) => {
    event.preventDefault();
    element("drop").classList.toggle("over", kind === "dragover");
    if (kind === "drop" && event.dataTransfer.files[0] && !recorder) recognise(event.dataTransfer.files[0]);
  });
reset("");
