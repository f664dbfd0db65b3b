"use strict";
const about = JSON.parse(document.getElementById("about").textContent);
const find = (id) => document.getElementById(id);
const answers = find("answers");
const whole = new Intl.NumberFormat("en");
let addresses = [];

function element(name, text = "", kind = "") {
  const made = document.createElement(name);
  if (text !== "") made.textContent = text;
  if (kind) made.className = kind;
  return made;
}

function percent(share, digits = 1) {
  return `${(100 * share).toFixed(digits)} %`;
}

function testedText(metric, tested) {
  const many = whole.format(tested.samples);
  if (tested.value === null) return ["", `Of ${many} test samples, too few to say how good such an answer is.`];
  const shown = (value) => (metric.is_share_of_right ? (100 * value).toFixed(1) : value.toFixed(metric.digits));
  const interval = tested.low === null ? "" : ` (${shown(tested.low)} to ${shown(tested.high)})`;
  const which = tested.share === 1 ? `all ${many} test samples` : `the ${many} test samples answered at least as surely`;
  if (metric.is_share_of_right) return [`Right for ${shown(tested.value)} %`, `${interval} of ${which}.`];
  const name = metric.label[0].toUpperCase() + metric.label.slice(1);
  return [`${name} ${shown(tested.value)} ${metric.unit}`.trim(), `${interval} over ${which}.`];
}

function headOf(name, answer) {
  const section = element("section", "", "head");
  section.append(element("h4", name));
  const several = answer.value !== null && typeof answer.value === "object";
  const text = several ? Object.entries(answer.value).map(([key, value]) => `${key} ${value}`).join(", ") : `${answer.value}`;
  const value = element("p", text, several ? "value many" : "value");
  if (answer.unit) value.append(" ", element("small", answer.unit));
  section.append(value);
  if (answer.low !== undefined) {
    section.append(element("p", `90 % interval: ${answer.low} to ${answer.high}`, "small"));
  }
  if (answer.probabilities) {
    const list = element("ul", "", "classes");
    const sorted = Object.entries(answer.probabilities).sort((a, b) => b[1] - a[1]);
    for (const [label, share] of sorted.slice(0, 6)) {
      const item = element("li");
      const bar = element("span", "", "bar");
      const filled = element("i");
      filled.style.width = `${100 * share}%`;
      bar.append(filled);
      item.append(element("span", label), element("span", percent(share)), bar);
      list.append(item);
    }
    section.append(list);
    const others = sorted.length - 6;
    if (others > 0) section.append(element("p", `and ${others} less probable classes`, "small soft"));
  }
  if (answer.tested) {
    const [strong, rest] = testedText(about.metrics[name], answer.tested);
    const line = element("p", "", "tested");
    line.append(element("b", strong), rest);
    section.append(line);
  }
  return section;
}

function sampleOf(answer) {
  const shown = element("div");
  if (answer.code) {
    shown.append(problemOf(answer));
    return shown;
  }
  if (answer.note) {
    const note = element("p", "", "note");
    note.append(element("b", "Unlike the training data: "), answer.note);
    shown.append(note);
  }
  const heads = element("div", "", "heads");
  for (const [name, each] of Object.entries(answer.heads)) heads.append(headOf(name, each));
  shown.append(heads);
  return shown;
}

function problemOf(problem) {
  const line = element("p", "", "problem");
  line.append(element("b", "No answer: "), problem.reason, " ", element("code", problem.code));
  return line;
}

function facesOf(answer, picture, image) {
  const people = element("div", "", "people");
  answer.faces.forEach((face, index) => {
    const box = element("span", "", "box");
    box.append(element("b", index + 1));
    const place = () => {
      box.style.left = `${(100 * face.box.left) / image.naturalWidth}%`;
      box.style.top = `${(100 * face.box.top) / image.naturalHeight}%`;
      box.style.width = `${(100 * face.box.width) / image.naturalWidth}%`;
      box.style.height = `${(100 * face.box.height) / image.naturalHeight}%`;
      picture.append(box);
    };
    if (image.complete && image.naturalWidth) place();
    else image.addEventListener("load", place);
    const person = element("section");
    const heading = element("h3", "Face ");
    heading.append(element("span", index + 1, "number-of-face"));
    person.append(heading, sampleOf(face));
    person.addEventListener("mouseenter", () => box.classList.add("seen"));
    person.addEventListener("mouseleave", () => box.classList.remove("seen"));
    people.append(person);
  });
  return people;
}

async function ask(query, options) {
  try {
    const response = await fetch(`predict${query}`, { method: "POST", ...options });
    return await response.json();
  } catch {
    return { code: "UNREACHABLE", reason: "the server does not answer" };
  }
}

function begin(kind) {
  const shown = element("article", "", kind);
  answers.prepend(shown);
  find("clear").hidden = false;
  return shown;
}

async function askPicture(file, findFaces) {
  const shown = begin(findFaces ? "answer faces" : "answer");
  const figure = element("figure");
  const picture = element("div", "", "picture");
  const image = new Image();
  image.alt = file.name || "the picture";
  image.src = URL.createObjectURL(file);
  image.addEventListener("error", () => image.remove());
  addresses.push(image.src);
  picture.append(image);
  figure.append(picture, element("figcaption", file.name));
  const working = element("p", "…", "soft");
  shown.append(figure, working);
  const answer =
    file.size > about.limit
      ? { code: "BODY_LIMIT", reason: `the file has more than ${whole.format(about.limit)} bytes` }
      : await ask(findFaces ? "?find_faces=1" : "", { body: file, headers: { "Content-Type": "application/octet-stream" } });
  working.replaceWith(answer.faces ? facesOf(answer, picture, image) : sampleOf(answer));
}

function askPictures(files) {
  const box = find("faces");
  // The last becomes the first of the page, so they stand in their order.
  for (const file of [...files].reverse()) askPicture(file, Boolean(box && box.checked));
}

const form = find("form");
if (form) {
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    const body = new FormData();
    const typed = new Map();
    for (const field of form.querySelectorAll("[name]")) {
      if (field.type === "file") body.append(field.name, field.files[0]);
      else typed.set(field.name, [...(typed.get(field.name) || []), field.value]);
    }
    for (const [name, values] of typed) body.append(name, values.join(" "));
    const shown = begin("answer plain");
    shown.append(sampleOf(await ask("", { body })));
  });
} else {
  const drop = find("drop");
  const chooser = find("files");
  chooser.addEventListener("change", () => {
    askPictures(chooser.files);
    chooser.value = "";
  });
  addEventListener("dragover", (event) => {
    event.preventDefault();
    drop.classList.add("over");
  });
  addEventListener("dragleave", (event) => {
    if (!event.relatedTarget) drop.classList.remove("over");
  });
  addEventListener("drop", (event) => {
    event.preventDefault();
    drop.classList.remove("over");
    askPictures(event.dataTransfer.files);
  });
  addEventListener("paste", (event) => askPictures(event.clipboardData.files));
}

find("clear").addEventListener("click", () => {
  answers.replaceChildren();
  addresses.forEach(URL.revokeObjectURL);
  addresses = [];
  find("clear").hidden = true;
  (form ? form.querySelector("[name]") : find("files")).focus();
});
