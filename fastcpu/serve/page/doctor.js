// Where the time of a model goes: what GET /doctor/{model} measures, in the words of `fastcpu doctor`.

import { request } from "./api.js";
import { bar, count, element, percent, scrolling, short, table } from "./dom.js";

const SLOWEST = 12;
const COLUMNS = ["ms", "share", "", "GOPS", "of peak", "least ms", "set by"];

/** The cells of a row: milliseconds on the clock if threads shared the work evenly, and how near that is to the peak. */
function cells(row, peak) {
  const clock = (seconds) => ((1e3 * seconds) / peak.threads).toFixed(3);
  const rates = row.gops === null ? ["", ""] : [row.gops.toFixed(0), percent(row.peak_share)];
  const least = row.bound_seconds > 0 ? [clock(row.bound_seconds), row.bound_by] : ["", ""];
  return [clock(row.seconds), percent(row.share), bar(row.share), ...rates, ...least];
}

const slowestFirst = (rows) => [...rows].sort((one, other) => other.seconds - one.seconds);

function kinds(found) {
  const rows = slowestFirst(found.kinds).map((row) => [row.name, String(row.ops), ...cells(row, found.peak)]);
  return table("Kinds of ops", ["kind", "ops", ...COLUMNS], rows, "numbers");
}

function slowest(found) {
  const shown = slowestFirst(found.ops).slice(0, SLOWEST);
  const sparse = shown.some((op) => op.density < 1);
  const density = (op) => (op.density < 1 ? op.density.toFixed(2) : "");
  const rows = shown.map((op) => [op.name, op.kernel, ...(sparse ? [density(op)] : []), ...cells(op, found.peak)]);
  const title = `The slowest ${shown.length} of ${count(found.ops.length, "op")}`;
  return table(title, ["op", "kernel", ...(sparse ? ["density"] : []), ...COLUMNS], rows, "numbers named");
}

/** One line for the sparse linears, and one for each reason of the others. */
function sparsity(linears) {
  const sparse = linears.filter((row) => row.sparse).map((row) => row.density);
  const lines = [];
  if (sparse.length) {
    const range = `${Math.min(...sparse).toFixed(2)} to ${Math.max(...sparse).toFixed(2)}`;
    lines.push(`sparse: ${count(sparse.length, "linear")}, density ${range}`);
  }
  const reasons = Map.groupBy(linears.filter((row) => !row.sparse), (row) => row.reason);
  for (const [reason, rows] of reasons) {
    const names = rows.slice(0, 3).map((row) => row.name).join(", ");
    lines.push(`dense: ${names}${rows.length > 3 ? ` and ${rows.length - 3} more` : ""}: ${reason}`);
  }
  return lines;
}

function facts(found) {
  const { machine, peak } = found;
  const peaks = [
    `int8 ${short(peak.int8_gops)} GOPS (${peak.int8_instruction})`,
    `f32 ${short(peak.f32_gflops)} GFLOPS (${peak.f32_instruction})`,
    `reads from L2 ${short(peak.l2_gbps)} GB/s, from memory ${short(peak.memory_gbps)} GB/s`,
  ];
  const entries = [
    ["run", `${found.milliseconds.toFixed(2)} ms for ${count(found.batch, "sequence")} of ${found.sequence} tokens`],
    ["CPU", `${machine.cpu}, ${count(machine.threads, "thread")}; the kernels use ${machine.isa_title}`],
    ["measured peak", `of ${count(peak.threads, "thread")}: ${peaks.join(", ")}`],
    ["weights", `${short(found.weight_bytes / 1e6)} MB on disk, ${short(found.packed_bytes / 1e6)} MB packed`],
  ];
  return element(
    "dl",
    { class: "facts" },
    ...entries.flatMap(([name, value]) => [element("dt", {}, name), element("dd", {}, value)]),
  );
}

function report(found) {
  const verdicts = found.verdicts.map((verdict) => element("li", {}, verdict));
  const remarks = [...sparsity(found.linears), ...found.not_fused.map((miss) => `not fused: ${miss}`)];
  return [
    element("div", { class: "notes" }, element("ul", {}, ...verdicts)),
    facts(found),
    scrolling("Kinds of ops", kinds(found)),
    scrolling("The slowest ops", slowest(found)),
    element("ul", { class: "remarks soft" }, ...remarks.map((remark) => element("li", {}, remark))),
  ];
}

/** The view of one model: a button, and what it finds. */
export function doctor(model) {
  const path = model.split("/").map(encodeURIComponent).join("/");
  const state = element("p", { class: "soft", role: "status" });
  const place = element("div", { class: "report" });
  const button = element("button", { type: "button" }, "Where does the time go?");
  let running = false;

  async function measure() {
    if (running) {
      return;
    }
    running = true;
    place.setAttribute("aria-busy", "true");
    state.className = "soft";
    state.textContent = "Measuring, for a second or two …";
    try {
      const { content, milliseconds } = await request(`doctor/${path}`);
      state.textContent = `Measured in ${short(milliseconds / 1000)} s.`;
      place.replaceChildren(...report(content));
    } catch (error) {
      state.className = "problem";
      state.textContent = error.message;
    } finally {
      running = false;
      place.removeAttribute("aria-busy");
    }
  }

  button.addEventListener("click", measure);
  const lead =
    "Random tokens run through the model, op by op, beside the peak that this CPU reaches in the same minute. " +
    "Requests are answered more slowly meanwhile.";
  return element("div", {}, element("p", { class: "soft" }, lead), element("div", { class: "row" }, button, state), place);
}
