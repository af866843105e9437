// The page: which models there are, the forms of the chosen one, and the charts of the whole server.

import { hasKey, onRefusedKey, request, setKey } from "./api.js";
import { charts, recent } from "./charts.js";
import { doctor } from "./doctor.js";
import { count, duration, element, setText } from "./dom.js";
import { panel } from "./panel.js";
import { TASKS } from "./tasks.js";

const INTERVAL = 1000;
const PATIENCE = 5000;
const find = (id) => document.getElementById(id);

const live = charts();
const cards = new Map(); // by model
const panels = new Map(); // by model and task
const doctors = new Map(); // by model
const chosen = { model: "", task: "" };
let version = "";
let stopping = false; // whether the server said that it drains
let waitsForKey = false;
let timer = 0;
let asking = false;

// ---- models ----

function card(name) {
  const radio = element("input", { type: "radio", name: "model", value: name, change: () => choose(name) });
  const parts = { state: element("span", { class: "pill" }), facts: element("span", { class: "soft small" }) };
  const title = element("span", { class: "title" }, element("span", { class: "mono" }, name), parts.state);
  const node = element("label", { class: "card" }, radio, title, parts.facts);
  return { node, radio, ...parts };
}

function facts(model) {
  if (model.state !== "ready" && !model.tasks) {
    return model.reason;
  }
  const waiting = model.waiting.requests ? `, ${count(model.waiting.requests, "request")} waiting` : "";
  const limit = `up to ${model.max_length} tokens`;
  const failed = model.reason ? `; ${model.reason}` : "";
  const tasks = model.tasks.map((task) => task.replace("_", " ")).join(", ");
  return `${tasks} · ${model.isa} · ${count(model.threads, "thread")} · ${limit}${waiting}${failed}`;
}

function showModels(models) {
  const place = find("models");
  for (const [name, { node }] of cards) {
    if (!models.some((model) => model.name === name)) {
      node.remove();
      cards.delete(name);
    }
  }
  for (const model of models) {
    let found = cards.get(model.name);
    if (!found) {
      found = card(model.name);
      cards.set(model.name, found);
      place.append(found.node);
    }
    found.state.className = `pill ${model.state}`;
    setText(found.state, model.state);
    setText(found.facts, facts(model));
  }
  if (!models.some((model) => model.name === chosen.model)) {
    chosen.model = (models.find((model) => model.tasks) ?? models[0])?.name ?? "";
  }
  const radio = cards.get(chosen.model)?.radio;
  if (radio && !radio.checked) {
    radio.checked = true;
  }
}

// ---- the chosen model ----

let models = [];

function choose(model, task = "") {
  chosen.model = model;
  chosen.task = task;
  showChosen();
}

function showChosen() {
  const model = models.find(({ name }) => name === chosen.model);
  if (!model) {
    return;
  }
  const tasks = (model.tasks ?? []).filter((task) => task in TASKS);
  if (!tasks.includes(chosen.task)) {
    chosen.task = tasks[0] ?? "";
  }
  showTasks(tasks);
  const key = `${model.name} ${chosen.task}`;
  if (tasks.length && !panels.has(key)) {
    const made = panel(model.name, TASKS[chosen.task]);
    panels.set(key, made);
    find("panels").append(made);
  }
  find("formless").hidden = tasks.length > 0;
  setText(find("formless"), tasks.length ? "" : reasonOf(model));
  for (const [other, node] of panels) {
    node.hidden = other !== key;
  }
  setText(find("inside"), model.name);
  if (!doctors.has(model.name)) {
    const made = doctor(model.name);
    doctors.set(model.name, made);
    find("doctor").append(made);
  }
  for (const [other, node] of doctors) {
    node.hidden = other !== model.name;
  }
}

function showTasks(tasks) {
  const place = find("tasks");
  const wanted = tasks.join(" ");
  if (place.dataset.tasks !== `${chosen.model} ${wanted}`) {
    place.dataset.tasks = `${chosen.model} ${wanted}`;
    const buttons = tasks.map((task) =>
      element("button", { type: "button", value: task, click: () => choose(chosen.model, task) }, TASKS[task].title),
    );
    place.replaceChildren(...buttons);
    place.hidden = tasks.length < 2;
  }
  for (const button of place.children) {
    button.setAttribute("aria-pressed", String(button.value === chosen.task));
  }
}

function reasonOf(model) {
  return `${model.name}: ${model.tasks ? "this page has no form for its task" : `${model.state}, ${model.reason}`}.`;
}

// ---- the server ----

function tell(text) {
  const banner = find("banner");
  setText(banner, text);
  banner.hidden = !text;
}

function showStatus(status, now) {
  version ||= status.version;
  stopping = status.draining;
  const updated = `The server is now version ${status.version}, this page is of ${version}: load it again.`;
  const draining = "The server is about to stop: it answers what it has begun.";
  tell(stopping ? draining : status.version === version ? "" : updated);
  const up = duration((now ?? Date.now() / 1000) - status.started);
  setText(find("about"), `version ${status.version} · up for ${up} · ${count(status.requests, "request")} running`);
  models = status.models;
  showModels(models);
  showChosen();
  const seconds = recent(status.seconds, now);
  for (const chart of live) {
    chart.show(seconds);
  }
}

async function poll() {
  clearTimeout(timer);
  if (asking || document.hidden || waitsForKey) {
    return;
  }
  asking = true;
  try {
    const { content, now } = await request("status", null, AbortSignal.timeout(PATIENCE));
    acceptKey();
    showStatus(content, now);
    document.body.classList.remove("starting", "stale");
  } catch (error) {
    document.body.classList.add("stale");
    if (error.status !== 401) {
      tell(error.status ? error.message : stopping ? "The server has stopped." : `${error.message} Trying every second.`);
    }
  } finally {
    asking = false;
    timer = setTimeout(poll, INTERVAL);
  }
}

// ---- the key ----

let tried = false; // whether a key was entered that no answer has confirmed yet

function askForKey() {
  waitsForKey = true;
  tell("");
  find("key").hidden = false;
  find("key-ask").hidden = false;
  find("key-used").hidden = true;
  find("metrics").hidden = true; // a link carries no key
  setText(find("key-error"), tried ? "The server does not know this key." : "");
  tried = false;
  setKey("");
}

function acceptKey() {
  tried = false;
  find("key").hidden = !hasKey();
  find("key-ask").hidden = hasKey();
  find("key-used").hidden = !hasKey();
  find("metrics").hidden = hasKey();
  setText(find("key-error"), "");
}

function useKey(event) {
  event.preventDefault();
  const input = find("key-value");
  const value = input.value.trim();
  if (!/^[\x21-\x7e]+$/.test(value)) {
    setText(find("key-error"), "A key consists of letters, digits and signs, without spaces.");
    return;
  }
  input.value = "";
  tried = true;
  waitsForKey = false;
  setKey(value);
  poll();
}

function forgetKey() {
  setKey("");
  poll();
}

onRefusedKey(askForKey);
find("key").addEventListener("submit", useKey);
find("key-forget").addEventListener("click", forgetKey);
find("charts").append(...live.map((chart) => chart.figure));
document.addEventListener("visibilitychange", poll);
tried = hasKey();
find("metrics").hidden = hasKey();
poll();
