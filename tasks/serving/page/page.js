// The page to try a model on: sends an image to /predict, and draws what comes back. Threshold and classes are applied
// here, so they act at once.
"use strict";

const SHORTEST = 900; // a small image is drawn on a canvas of about so many pixels
const MOST_ROWS = 200;
const at = (id) => document.getElementById(id);
const state = { model: null, answer: null, picture: null, masks: new Map(), hidden: new Set(), unseen: new Set(), chosen: null, name: "" };

// ---- what the server says

async function learnModel() {
  const response = await fetch("model");
  if (!response.ok) throw new Error(await complaint(response));
  const model = (state.model = await response.json());
  document.title = at("name").textContent = model.name;
  const heads = Object.entries(model.heads).map(([name, head]) => {
    const what = head.instances ? "boxes and masks" : head.target === "regression" ? "numbers" : head.kind;
    const classes = head.classes.map((own) => own.label);
    const more = classes.length > 6 ? `, … (${classes.length})` : "";
    return `${name === what ? what : `${name}: ${what}`} of ${classes.slice(0, 6).join(", ")}${more}`;
  });
  const depth = model.bit_depth === 32 ? "real numbers" : `${model.bit_depth} bits`;
  at("about").textContent = `${heads.join("; ")}. Images of ${model.channels === 1 ? "1 channel" : `${model.channels} channels`}, ${depth}.`;
  at("kinds").textContent = `JPEG, PNG, WebP, TIFF, DICOM, NIfTI; up to ${(model.limits.bytes / 1e6).toPrecision(3) / 1} MB`;
  at("curl").textContent = `curl --data-binary @image.jpg ${location.origin}/predict`;
  const labels = Object.values(model.heads).filter((head) => head.kind !== "labels").flatMap((head) => head.classes);
  const list = [...new Map(labels.map((own) => [own.label, own])).values()];
  at("classes").hidden = list.length < 2;
  at("class-list").replaceChildren(...list.map(classSwitch));
  at("threshold-row").hidden = !Object.values(model.heads).some((head) => head.kind === "boxes");
  at("controls").hidden = at("classes").hidden && at("threshold-row").hidden;
}

async function complaint(response) {
  try {
    return (await response.json()).error;
  } catch {
    return `the server answered with status ${response.status}`;
  }
}

async function send(file) {
  if (!file || !state.model) return;
  const limit = state.model.limits.bytes;
  if (file.size > limit) {
    return tell(`${file.name || "the image"} has ${(file.size / 1e6).toFixed(1)} MB; expected at most ${limit / 1e6}`, true);
  }
  document.body.classList.add("waiting");
  tell("Looking at the image …");
  const begun = performance.now();
  try {
    const response = await fetch("predict?picture=true", { method: "POST", body: file });
    if (!response.ok) throw new Error(await complaint(response));
    const answer = await response.json();
    const picture = await load(answer.picture);
    delete answer.picture;
    Object.assign(state, { answer, picture, chosen: null, name: (file.name || "image").replace(/\.[^.]*$/, "") });
    state.masks = new Map();
    show((performance.now() - begun) / 1000);
    tell("");
  } catch (error) {
    tell(error instanceof TypeError ? "The server cannot be reached; is it still running?" : String(error.message), true);
  } finally {
    document.body.classList.remove("waiting");
  }
}

function load(source) {
  return new Promise((resolve, reject) => {
    const image = new Image();
    image.onload = () => resolve(image);
    image.onerror = () => reject(new Error("the picture in the answer cannot be shown"));
    image.src = source;
  });
}

function tell(text, bad = false) {
  at("status").textContent = text;
  at("status").classList.toggle("bad", bad);
}

// ---- what is shown

const threshold = () => Number(at("threshold").value);
const heads = (kind) => Object.entries(state.answer.heads).filter(([, own]) => own.kind === kind);
const visible = (one) => !state.unseen.has(one.head);
const colourOf = (head, label) => state.model.heads[head].classes.find((own) => own.label === label).colour;

function boxesShown() {
  const low = threshold();
  return heads("boxes").flatMap(([head, own]) =>
    own.found.filter((one) => one.score >= low && !state.hidden.has(one.label)).map((one) => ({ ...one, head })));
}

function areasShown() {
  return heads("masks").flatMap(([head, own]) =>
    own.found.filter((one) => !state.hidden.has(one.label)).map((one) => ({ ...one, head })));
}

function show(seconds) {
  at("drop").hidden = true;
  at("shown").hidden = at("panel").hidden = false;
  document.querySelector("main").classList.add("answered");
  const { width, height } = state.answer;
  const { reading, predicting, waiting } = state.answer.seconds;
  const part = (value) => (value < 0.0995 ? `${Math.round(1000 * value)} ms` : `${value.toFixed(2)} s`);
  at("times").textContent = `${width} × ${height} px · answered in ${part(seconds)}: reading ${part(reading)}, ` +
    `model ${part(predicting)}${waiting > 0.005 ? `, waiting ${part(waiting)}` : ""}`;
  refresh();
}

function refresh() {
  at("threshold-value").textContent = threshold().toFixed(2);
  if (!state.answer) return;
  draw();
  at("found").replaceChildren(...Object.keys(state.answer.heads).map(listHead));
}

// COCO's compressed run lengths, column by column: 5 bits a character, from the third on as differences to the last but one.
function decode({ size: [height, width], counts }) {
  const inside = new Uint8Array(height * width);
  const runs = [];
  for (let place = 0, pixel = 0, value = 0; place < counts.length; value = 1 - value) {
    let number = 0, shift = 0, code;
    do {
      code = counts.charCodeAt(place++) - 48;
      number |= (code & 31) << shift;
      shift += 5;
    } while (code & 32);
    if (code & 16 && shift < 32) number |= -1 << shift;
    if (runs.length > 2) number += runs[runs.length - 2];
    runs.push(number);
    if (value) inside.fill(1, pixel, pixel + number);
    pixel += number;
  }
  return { inside, width, height };
}

// A mask as a picture of one colour: its area translucent, its border solid.
function tinted(lengths, colour) {
  const key = colour + lengths.counts;
  if (state.masks.has(key)) return state.masks.get(key);
  const { inside, width, height } = decode(lengths);
  const sheet = Object.assign(document.createElement("canvas"), { width, height });
  const context = sheet.getContext("2d");
  const pixels = context.createImageData(width, height);
  const [red, green, blue] = [1, 3, 5].map((from) => parseInt(colour.slice(from, from + 2), 16));
  for (let x = 0; x < width; x++) {
    for (let y = 0; y < height; y++) {
      const place = x * height + y;
      if (!inside[place]) continue;
      const border = !(y && inside[place - 1] && y < height - 1 && inside[place + 1] && x && inside[place - height] &&
        x < width - 1 && inside[place + height]);
      pixels.data.set([red, green, blue, border ? 255 : 105], 4 * (y * width + x));
    }
  }
  context.putImageData(pixels, 0, 0);
  state.masks.set(key, sheet);
  return sheet;
}

function draw() {
  const { width, height } = state.answer;
  const zoom = Math.max(state.picture.width / width, Math.ceil(SHORTEST / Math.max(width, height)));
  const canvas = at("canvas");
  canvas.width = Math.round(width * zoom);
  canvas.height = Math.round(height * zoom);
  const context = canvas.getContext("2d");
  context.drawImage(state.picture, 0, 0, canvas.width, canvas.height);
  context.imageSmoothingEnabled = false;
  const boxes = boxesShown().filter(visible), areas = areasShown().filter(visible);
  for (const one of [...areas, ...boxes.filter((box) => box.segmentation)].reverse()) {
    context.drawImage(tinted(one.segmentation, colourOf(one.head, one.label)), 0, 0, canvas.width, canvas.height);
  }
  // The best is drawn last. A line is as thick on a phone as on a large screen.
  const line = Math.max(1.5, 2 * (canvas.width / Math.max(canvas.clientWidth, 1)));
  for (const box of boxes.reverse()) {
    const [x, y, w, h] = box.bbox.map((value) => value * zoom);
    const chosen = state.chosen && sameBox(box, state.chosen);
    context.lineWidth = chosen ? 2.5 * line : line;
    context.strokeStyle = colourOf(box.head, box.label);
    context.strokeRect(x, y, w, h);
    if (chosen) {
      context.lineWidth = line;
      context.strokeStyle = "#fff";
      context.strokeRect(x, y, w, h);
    }
  }
  const shown = [...boxes, ...areas].map((one) => one.label);
  const counted = [...new Set(shown)].map((label) => `${shown.filter((own) => own === label).length} ${label}`);
  canvas.setAttribute("aria-label", `The image with ${counted.join(", ") || "nothing found"}`);
}

const sameBox = (a, b) => a.head === b.head && a.score === b.score && String(a.bbox) === String(b.bbox);

function element(name, { text, ...options } = {}, ...children) {
  const made = Object.assign(document.createElement(name), options);
  if (text !== undefined) made.textContent = text;
  made.append(...children);
  return made;
}

function key(colour) {
  const made = element("span", { className: "key" });
  made.style.background = colour;
  return made;
}

function classSwitch({ label, colour }) {
  const box = element("input", { type: "checkbox", checked: true, value: label });
  box.addEventListener("change", () => {
    if (box.checked) state.hidden.delete(label);
    else state.hidden.add(label);
    refresh();
  });
  return element("label", {}, box, key(colour), element("span", { text: label }));
}

function listHead(head) {
  const own = state.answer.heads[head];
  const several = Object.keys(state.answer.heads).length > 1;
  const list = element("ul");
  let title, aside = "";
  if (own.kind === "boxes") {
    const boxes = boxesShown().filter((box) => box.head === head);
    title = several ? head : "Found";
    aside = `${boxes.length} of ${own.found.length}`;
    list.append(...boxes.slice(0, MOST_ROWS).map(boxRow));
    if (boxes.length > MOST_ROWS) list.append(element("li", { className: "quiet", text: `and ${boxes.length - MOST_ROWS} more` }));
  } else if (own.kind === "masks") {
    const all = state.answer.width * state.answer.height;
    title = several ? head : "Area";
    list.append(...areasShown().filter((area) => area.head === head).map((area) =>
      element("li", {}, element("div", { className: "row" }, key(colourOf(head, area.label)),
        element("span", { text: area.label }), element("span", { text: `${((100 * area.area) / all).toFixed(1)} %` })))));
  } else {
    title = several ? head : "Labels";
    const decided = own.labels ?? [own.label];
    if (own.values) {
      list.append(...Object.entries(own.values).map(([name, value]) =>
        element("li", {}, element("div", { className: "row" }, element("span"), element("span", { text: name }),
          element("span", { text: String(Number(value.toPrecision(4))) })))));
    } else {
      const ranked = Object.entries(own.scores).sort(([, a], [, b]) => b - a).slice(0, MOST_ROWS);
      list.append(...ranked.map(([name, score]) => labelRow(head, name, score, decided.includes(name))));
    }
  }
  const empty = list.children.length ? [] : [element("p", { className: "quiet", text: "Nothing at this threshold." })];
  const drawn = several && own.kind !== "labels" ? [drawnSwitch(head)] : [];
  return element("div", {}, element("h2", {}, title, element("span", { text: aside }), ...drawn), list, ...empty);
}

function drawnSwitch(head) {
  const box = element("input", { type: "checkbox", checked: !state.unseen.has(head) });
  box.addEventListener("change", () => {
    if (box.checked) state.unseen.delete(head);
    else state.unseen.add(head);
    draw();
  });
  return element("label", {}, box, "drawn");
}

function boxRow(box) {
  const row = element("button", { className: "row", type: "button" }, key(colourOf(box.head, box.label)),
    element("span", { text: box.label }), element("span", { text: box.score.toFixed(2) }));
  const choose = (chosen) => {
    state.chosen = chosen;
    draw();
  };
  row.addEventListener("mouseenter", () => choose(box));
  row.addEventListener("mouseleave", () => choose(null));
  row.addEventListener("focus", () => choose(box));
  row.addEventListener("blur", () => choose(null));
  return element("li", {}, row);
}

function labelRow(head, name, score, decided) {
  const fill = element("i");
  fill.style.width = `${100 * score}%`;
  return element("li", {}, element("div", { className: decided ? "row decided" : "row" }, key(colourOf(head, name)),
    element("span", { text: name }), element("span", { text: score.toFixed(3) }), element("div", { className: "bar" }, fill)));
}

// ---- what a person does

function pointed(event) {
  const canvas = at("canvas"), edge = canvas.getBoundingClientRect();
  const x = ((event.clientX - edge.left) / edge.width) * state.answer.width;
  const y = ((event.clientY - edge.top) / edge.height) * state.answer.height;
  const over = ({ bbox: [left, top, w, h] }) => x >= left && x <= left + w && y >= top && y <= top + h;
  const under = boxesShown().filter(visible).filter(over);
  // Of boxes within each other the smallest is meant.
  under.sort((a, b) => a.bbox[2] * a.bbox[3] - b.bbox[2] * b.bbox[3]);
  return under[0] ?? null;
}

at("canvas").addEventListener("pointermove", (event) => {
  const box = pointed(event), tip = at("tip");
  if (String(box?.bbox) !== String(state.chosen?.bbox)) {
    state.chosen = box;
    draw();
  }
  tip.hidden = !box;
  if (!box) return;
  tip.textContent = `${box.label} ${box.score.toFixed(2)}`;
  const frame = at("shown").getBoundingClientRect();
  tip.style.left = `${Math.max(0, Math.min(event.clientX - frame.left + 12, frame.width - tip.offsetWidth))}px`;
  tip.style.top = `${Math.max(0, event.clientY - frame.top - tip.offsetHeight - 8)}px`;
});
at("canvas").addEventListener("pointerleave", () => {
  at("tip").hidden = true;
  state.chosen = null;
  if (state.answer) draw();
});

function save(content, name) {
  const link = element("a", { href: URL.createObjectURL(content), download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10000);
}

at("save-json").addEventListener("click", () => {
  const text = JSON.stringify(state.answer, null, 1);
  save(new Blob([text], { type: "application/json" }), `${state.name}.json`);
});
at("save-picture").addEventListener("click", () => {
  state.chosen = null;
  draw();
  at("canvas").toBlob((content) => save(content, `${state.name}_found.png`), "image/png");
});
at("another").addEventListener("click", () => at("file").click());
at("threshold").addEventListener("input", refresh);
at("file").addEventListener("change", (event) => {
  send(event.target.files[0]);
  event.target.value = ""; // so that the same file can be chosen again
});
document.addEventListener("paste", (event) => send(event.clipboardData.files[0]));
document.addEventListener("dragover", (event) => {
  event.preventDefault();
  document.body.classList.add("over");
});
document.addEventListener("dragleave", (event) => event.relatedTarget || document.body.classList.remove("over"));
document.addEventListener("drop", (event) => {
  event.preventDefault();
  document.body.classList.remove("over");
  send(event.dataTransfer.files[0]);
});
window.addEventListener("resize", () => state.answer && draw());

learnModel().catch((error) => tell(error instanceof TypeError ? "The server cannot be reached." : error.message, true));
