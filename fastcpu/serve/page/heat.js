// Similarities as a table of numbers on colours.

import { element, scrolling } from "./dom.js";

const STEPS = 10;

/** The class with the colour of a cosine: h0 for 0 and below, to h10 for 1. */
function step(cosine) {
  return `h${Math.round(STEPS * Math.min(1, Math.max(0, cosine)))}`;
}

function legend() {
  const steps = Array.from({ length: STEPS + 1 }, (_, index) => element("span", { class: `h${index}` }));
  return element(
    "p",
    { class: "legend soft small" },
    "0 or less ",
    element("span", { class: "steps", "aria-hidden": "true" }, ...steps),
    " 1, the same direction",
  );
}

/**
 * A table with every text against every other, and what its colours mean.
 * @param {string[]} texts
 * @param {number[][]} cosines
 */
export function heatMap(texts, cosines) {
  const head = texts.map((text, index) => element("th", { scope: "col", title: text }, String(index + 1)));
  const rows = cosines.map((row, index) =>
    element(
      "tr",
      {},
      element(
        "th",
        { scope: "row", title: texts[index] },
        element("span", { class: "number" }, String(index + 1)),
        element("span", { class: "sentence", dir: "auto" }, texts[index]),
      ),
      ...row.map((cosine) => element("td", { class: step(cosine) }, cosine.toFixed(2).replace("-", "−"))),
    ),
  );
  const table = element(
    "table",
    { class: "heat" },
    element("caption", {}, "Cosine similarity"),
    element("thead", {}, element("tr", {}, element("td"), ...head)),
    element("tbody", {}, ...rows),
  );
  return [scrolling("Cosine similarity", table), legend()];
}
