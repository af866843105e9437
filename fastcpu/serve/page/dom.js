// Elements, numbers and small parts that views share. Text becomes text nodes only, wherever it comes from.

const SVG = "http://www.w3.org/2000/svg";

/**
 * An element.
 * @param {string} name of the tag
 * @param {Object} attributes a function is a listener; null and false leave an attribute out, true gives an empty one
 * @param {...(Node|string|number)} children
 */
export function element(name, attributes = {}, ...children) {
  return filled(document.createElement(name), attributes, children);
}

/** As `element`, for drawings. */
export function drawn(name, attributes = {}, ...children) {
  return filled(document.createElementNS(SVG, name), attributes, children);
}

function filled(node, attributes, children) {
  for (const [key, value] of Object.entries(attributes)) {
    if (typeof value === "function") {
      node.addEventListener(key, value);
    } else if (value !== null && value !== false && value !== undefined) {
      node.setAttribute(key, value === true ? "" : value);
    }
  }
  node.append(...children);
  return node;
}

/** Sets the text of an element, unless it has it: screen readers read again what is set again. */
export function setText(node, text) {
  if (node.textContent !== text) {
    node.textContent = text;
  }
}

const THREE = new Intl.NumberFormat("en", { maximumSignificantDigits: 3 });
const WHOLE = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });

/** A number for people, with three digits or all that are before its point. */
export function short(value) {
  return Math.abs(value) >= 1000 ? WHOLE.format(value) : THREE.format(value);
}

/** A score, with three decimals. */
export function score(value) {
  return value.toFixed(3).replace("-", "−");
}

export function percent(share) {
  return `${(100 * share).toFixed(share < 0.1 ? 1 : 0)} %`;
}

/** A number of things: "1 layer", "2 layers". */
export function count(number, noun) {
  return `${WHOLE.format(number)} ${noun}${number === 1 ? "" : "s"}`;
}

/** Milliseconds for people. */
export function milliseconds(value) {
  return value < 1000 ? `${short(value)} ms` : `${short(value / 1000)} s`;
}

/** How long ago, or for how long. */
export function duration(seconds) {
  for (const [size, noun] of [[86400, "day"], [3600, "hour"], [60, "minute"]]) {
    if (seconds >= size) {
      return count(Math.floor(seconds / size), noun);
    }
  }
  return count(Math.max(0, Math.floor(seconds)), "second");
}

/** A bar that takes a share of its track, 0 to 1; numbers beside it say the same. */
export function bar(share) {
  const inner = element("span", { class: "fill" });
  inner.style.setProperty("--share", String(Math.min(1, Math.max(0, share))));
  return element("span", { class: "track", "aria-hidden": "true" }, inner);
}

/** What may be wider or higher than its place: it scrolls, by keyboard, too. */
export function scrolling(label, child, style = "scroll") {
  return element("div", { class: style, role: "region", "aria-label": label, tabindex: "0" }, child);
}

/**
 * A table; the first cell of a row names it.
 * @param {string} caption
 * @param {string[]} head
 * @param {Array<Array<Node|string>>} rows
 */
export function table(caption, head, rows, style = "") {
  const cells = (row) =>
    row.map((cell, index) => element(index ? "td" : "th", index ? {} : { scope: "row" }, cell));
  return element(
    "table",
    { class: style || null },
    element("caption", {}, caption),
    element("thead", {}, element("tr", {}, ...head.map(heading))),
    element("tbody", {}, ...rows.map((row) => element("tr", {}, ...cells(row)))),
  );
}

function heading(name) {
  return name ? element("th", { scope: "col" }, name) : element("td");
}

/**
 * Things with their scores and bars.
 * @param {string} caption
 * @param {string} what the things are
 * @param {Array<[Node|string, number]>} entries
 * @param {number} scale the score that fills the bar
 */
export function scores(caption, what, entries, scale = 1) {
  const rows = entries.map(([label, value]) => [label, bar(value / scale), score(value)]);
  return table(caption, [what, "", "score"], rows, "bars");
}
