// Lines over the last two minutes, drawn as SVG.

import { drawn, element, setText, short } from "./dom.js";

const SECONDS = 120;
const HEIGHT = 168;
const EDGE = { right: 12, top: 10, bottom: 26 };
const LABELS = { least: 44, digit: 7.5, gap: 7 }; // room for those of the vertical axis
const TIMES = [0, 30, 60, 90, 120];

/** At most `most` + 1 round numbers from 0 to `high`; whole ones if values are. */
function ticks(high, most, whole) {
  const power = 10 ** Math.floor(Math.log10(high / most));
  const found = power * [1, 2, 5, 10].find((factor) => high / (power * factor) <= most);
  const step = whole ? Math.max(1, found) : found;
  return Array.from({ length: Math.floor(high / step + 1e-9) + 1 }, (_, index) => index * step);
}

/** The upper end of an axis: a round number that is not below `high`. */
function rounded(high, whole) {
  const step = ticks(high, 4, whole)[1];
  return Math.ceil(high / step - 1e-9) * step;
}

/**
 * One chart: a heading with the latest numbers, and lines.
 *
 * @param {string} title
 * @param {string} unit of the vertical axis
 * @param {Array<{key: string, label: string, style: string}>} series what is drawn of every second
 * @param {boolean} whole whether values are whole numbers
 */
class Chart {
  constructor(title, unit, series, whole = false) {
    this.title = title;
    this.unit = unit;
    this.series = series;
    this.whole = whole;
    this.seconds = [];
    this.pointed = null;
    this.left = LABELS.least;
    this.when = element("span");
    this.parts = series.map(() => element("span"));
    const lines = series.length > 1 ? series.map(({ style }) => element("i", { class: style })) : [];
    const parts = this.parts.flatMap((part, index) => [...lines.slice(index, index + 1), part]);
    this.latest = element("span", { class: "latest" }, this.when, ...parts);
    this.place = element("div", { class: "plot" });
    const heading = element("figcaption", {}, element("span", { class: "name" }, title), this.latest);
    this.figure = element("figure", {}, heading, this.place);
    this.place.addEventListener("pointermove", (event) => this.point(event));
    this.place.addEventListener("pointerleave", () => this.point(null));
    new ResizeObserver(() => this.draw()).observe(this.place);
  }

  /** Shows other seconds: `SECONDS` objects, the latest last; what is null was not there. */
  show(seconds) {
    this.seconds = seconds;
    this.draw();
  }

  point(event) {
    if (event === null) {
      this.pointed = null;
    } else {
      const inside = event.clientX - this.place.getBoundingClientRect().left - this.left;
      const room = this.place.clientWidth - this.left - EDGE.right;
      this.pointed = Math.min(SECONDS - 1, Math.max(0, Math.round((inside / room) * (SECONDS - 1))));
    }
    this.draw();
  }

  values(key) {
    return this.seconds.map((second) => second[key]).filter((value) => value !== null);
  }

  /** The numbers of one second with their unit, one for each series. */
  numbers(index) {
    const second = this.seconds[index];
    return this.series.map(({ key, label }) => {
      const value = second[key] === null ? "–" : `${short(second[key])} ${this.unit}`;
      return this.series.length > 1 ? `${label} ${value}` : value;
    });
  }

  draw() {
    const width = this.place.clientWidth;
    if (!this.seconds.length || !width) {
      return;
    }
    const at = this.pointed ?? SECONDS - 1;
    setText(this.when, this.pointed === null ? "" : `${SECONDS - 1 - at} s ago: `);
    for (const [index, text] of this.numbers(at).entries()) {
      setText(this.parts[index], text);
    }
    const all = this.series.flatMap(({ key }) => this.values(key));
    const highest = Math.max(0, ...all);
    const high = rounded(highest || 1, this.whole);
    const marks = ticks(high, 4, this.whole).map((value) => ({ value, label: short(value) }));
    const longest = Math.max(...marks.map(({ label }) => label.length));
    const left = Math.max(LABELS.least, Math.ceil(longest * LABELS.digit) + LABELS.gap);
    this.left = left;
    const right = width - EDGE.right;
    const bottom = HEIGHT - EDGE.bottom;
    const x = (index) => left + (index / (SECONDS - 1)) * (right - left);
    const y = (value) => bottom - (value / high) * (bottom - EDGE.top);
    const now = this.numbers(SECONDS - 1).join(", ");
    const summary = `${this.title}, the last two minutes: now ${now}, at most ${short(highest)}`;
    const parts = [
      ...marks.flatMap(({ value, label }) => [
        drawn("line", { class: "grid", x1: left, x2: right, y1: y(value), y2: y(value) }),
        drawn("text", { x: left - LABELS.gap, y: y(value) + 4, "text-anchor": "end" }, label),
      ]),
      ...TIMES.map((ago) => {
        const place = x(((SECONDS - ago) / SECONDS) * (SECONDS - 1));
        const anchor = ago === 0 ? "end" : "middle";
        return drawn("text", { x: place, y: HEIGHT - 7, "text-anchor": anchor }, ago ? `−${ago} s` : "now");
      }),
      ...this.series.flatMap(({ key, style }) => this.line(key, style, x, y)),
    ];
    if (this.pointed !== null) {
      parts.push(drawn("line", { class: "pointer", x1: x(at), x2: x(at), y1: EDGE.top, y2: bottom }));
    }
    if (!all.length) {
      const middle = { x: (left + right) / 2, y: (EDGE.top + bottom) / 2 - 8, "text-anchor": "middle" };
      parts.push(drawn("text", { class: "empty", ...middle }, "no requests"));
    }
    const attributes = { viewBox: `0 0 ${width} ${HEIGHT}`, width, height: HEIGHT, role: "img", "aria-label": summary };
    this.place.replaceChildren(drawn("svg", attributes, ...parts));
  }

  /** A line with a gap wherever there is no value; a value between two gaps is a dot. */
  line(key, style, x, y) {
    const parts = [];
    let run = [];
    const end = () => {
      if (run.length === 1) {
        parts.push(drawn("circle", { class: style, cx: run[0][0], cy: run[0][1], r: 3 }));
      } else if (run.length) {
        const points = run.map((point) => point.map((value) => value.toFixed(1)).join(",")).join(" ");
        parts.push(drawn("polyline", { class: style, points }));
      }
      run = [];
    };
    for (const [index, second] of this.seconds.entries()) {
      if (second[key] === null) {
        end();
      } else {
        run.push([x(index), y(second[key])]);
      }
    }
    end();
    return parts;
  }
}

const IDLE = { requests: 0, refused: 0, p50_ms: null, p99_ms: null, batch_tokens: null };

/**
 * The last complete seconds by the server's clock, the idle ones among them.
 * @param {Object[]} history of GET /status: seconds in which something happened
 * @param {number?} now the server's clock; null if it is not known
 */
export function recent(history, now) {
  const known = new Map(history.map((second) => [second.time, second]));
  const latest = history.length ? history[history.length - 1].time : 0;
  const end = Math.floor(now ?? Math.max(latest + 1, Date.now() / 1000)) - 1;
  return Array.from({ length: SECONDS }, (_, index) => known.get(end - SECONDS + 1 + index) ?? IDLE);
}

/** The charts of the page, and the elements that hold them. */
export function charts() {
  return [
    new Chart("Requests", "per second", [{ key: "requests", label: "answered", style: "c0" }], true),
    new Chart("Latency", "ms", [
      { key: "p50_ms", label: "p50", style: "c0" },
      { key: "p99_ms", label: "p99", style: "c1 dashed" },
    ]),
    new Chart("Tokens per batch", "tokens", [{ key: "batch_tokens", label: "mean", style: "c2" }]),
    new Chart("Refused requests", "per second", [{ key: "refused", label: "refused", style: "c4" }], true),
  ];
}
