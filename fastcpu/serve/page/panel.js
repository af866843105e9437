// The form of one task of one model: its fields, the command that does the same, and the result.

import { curl, keys, request } from "./api.js";
import { element, milliseconds } from "./dom.js";

const SLOW = 300; // milliseconds after which a request is said to run

let fields = 0;

/**
 * A form.
 * @param {string} model
 * @param {Object} task an entry of `TASKS`
 * @returns {HTMLElement}
 */
export function panel(model, task) {
  const controls = new Map(task.fields.map((field) => [field.name, control(field)]));
  const command = element("pre", { tabindex: "0", "aria-label": "Command" });
  const copied = element("span", { class: "unseen", role: "status" });
  const copy = element("button", { type: "button", class: "quiet", click: () => copyText(command, copy, copied) }, "Copy");
  const state = element("p", { class: "soft state", role: "status" }, "\u00a0");
  const place = element("div", { class: "result" }, element("p", { class: "soft empty" }, task.hint));
  const form = element(
    "form",
    { class: "ask", novalidate: true },
    ...[...controls.values()].map(({ node }) => node),
    element(
      "div",
      { class: "row" },
      element("button", { type: "submit", class: "main" }, task.action),
      element("span", { class: "soft small" }, "or Ctrl+Enter"),
    ),
  );
  const shell = element(
    "div",
    { class: "shell" },
    element("div", { class: "row" }, element("span", { class: "soft small" }, "The same in a shell"), copy, copied),
    command,
  );
  const values = () => Object.fromEntries([...controls].map(([name, { input }]) => [name, input.value]));
  const body = () => ({ model, ...task.body(values()) });
  let running = null;

  function showCommand() {
    try {
      command.textContent = curl(task.path, body());
    } catch (error) {
      command.textContent = `# ${error.message}`;
    }
  }

  function tell(text) {
    state.className = "soft state";
    state.textContent = text;
  }

  function fail(text) {
    state.className = "problem state";
    state.textContent = text;
    place.replaceChildren();
  }

  async function submit() {
    running?.abort();
    const own = new AbortController();
    running = own;
    const given = values();
    const slow = setTimeout(() => tell("Waiting for the answer …"), SLOW);
    try {
      const asked = body();
      place.setAttribute("aria-busy", "true");
      const { content, milliseconds: taken } = await request(task.path, asked, own.signal);
      const { summary, parts } = task.result(content, given);
      tell(`Answered in ${milliseconds(taken)}. ${summary}`);
      place.replaceChildren(...parts);
    } catch (error) {
      if (running === own) {
        fail(error.message);
      }
    }
    clearTimeout(slow);
    if (running === own) {
      running = null;
      place.removeAttribute("aria-busy");
    }
  }

  form.addEventListener("submit", (event) => {
    event.preventDefault();
    submit();
  });
  form.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) {
      event.preventDefault();
      submit();
    }
  });
  form.addEventListener("input", showCommand);
  task.prepare?.(model, controls).then(showCommand, () => {});
  showCommand();
  keys.addEventListener("change", showCommand);
  return element("div", { class: "panel" }, form, element("div", { class: "answer" }, state, place), shell);
}

/** A field with its label and note. */
function control(field) {
  const id = `field-${++fields}`;
  const note = element("span", { class: "soft small", id: `${id}-note` }, field.note ?? "");
  const shared = { id, dir: "auto", spellcheck: "false", autocomplete: "off", "aria-describedby": note.id };
  const input = field.rows
    ? element("textarea", { ...shared, rows: field.rows })
    : element("input", { ...shared, type: "text" });
  input.value = field.value;
  return { input, note, node: element("div", { class: "field" }, element("label", { for: id }, field.label), input, note) };
}

/** Puts the text of an element on the clipboard, also where the browser allows pages without TLS only the old way. */
async function copyText(source, button, told) {
  try {
    await navigator.clipboard.writeText(source.textContent);
  } catch {
    getSelection().selectAllChildren(source);
    if (!document.execCommand("copy")) {
      told.textContent = "Not copied; the command is selected.";
      return;
    }
  }
  told.textContent = "Copied to the clipboard.";
  button.textContent = "Copied";
  setTimeout(() => {
    button.textContent = "Copy";
    told.textContent = "";
  }, 2000);
}
