// What each task asks for, which request that is, and how its answer is shown.

import { request } from "./api.js";
import { bar, element, score, scores, scrolling, table } from "./dom.js";
import { heatMap } from "./heat.js";

const MOST_SENTENCES = 40;
const COLOURS = 5; // of entities

/** The lines of a text that have something in them. */
function lines(text) {
  return text.split("\n").map((line) => line.trim()).filter(Boolean);
}

/** What is wanted, or an error that says that it is missing. */
function needed(value, what) {
  if (!value.length) {
    throw new Error(`There is no ${what}.`);
  }
  return value;
}

/**
 * A text with parts of it marked. The server counts characters; a string of JavaScript counts some of them twice.
 * @param {string} text
 * @param {Array<{start: number, end: number}>} spans in order, without overlaps
 * @param {(part: string, index: number) => Node} mark
 */
function marked(text, spans, mark) {
  const characters = Array.from(text);
  const parts = [];
  let place = 0;
  for (const [index, { start, end }] of spans.entries()) {
    parts.push(characters.slice(place, start).join(""), mark(characters.slice(start, end).join(""), index));
    place = end;
  }
  parts.push(characters.slice(place).join(""));
  return element("p", { class: "text", dir: "auto" }, ...parts);
}

// ---- embed ----

function similarity(vectors, { sentences }) {
  const texts = lines(sentences);
  const lengths = vectors.map((vector) => Math.hypot(...vector) || 1);
  const cosines = vectors.map((one, i) =>
    vectors.map((other, j) => one.reduce((sum, value, k) => sum + value * other[k], 0) / (lengths[i] * lengths[j])),
  );
  let best = null;
  for (let i = 0; i < texts.length; i++) {
    for (let j = i + 1; j < texts.length; j++) {
      best = best === null || cosines[i][j] > cosines[best[0]][best[1]] ? [i, j] : best;
    }
  }
  const most = best && `Most alike: ${best[0] + 1} and ${best[1] + 1}, ${score(cosines[best[0]][best[1]])}.`;
  return { summary: most ?? `A vector of ${vectors[0].length} numbers.`, parts: heatMap(texts, cosines) };
}

const EMBED = {
  title: "Embed: similarity",
  path: "embed",
  action: "Compare",
  hint: "How alike the sentences are, every one with every other, will be here.",
  fields: [
    {
      name: "sentences",
      label: "Sentences",
      note: `One on each line, up to ${MOST_SENTENCES}`,
      rows: 8,
      value: [
        "A man is playing a guitar on stage.",
        "Someone performs music in front of an audience.",
        "The stock market fell sharply on Monday.",
        "Share prices dropped at the start of the week.",
        "How do I bake bread without yeast?",
        "A recipe for soda bread",
      ].join("\n"),
    },
  ],
  body: ({ sentences }) => {
    const inputs = needed(lines(sentences), "sentence");
    if (inputs.length > MOST_SENTENCES) {
      throw new Error(`There are ${inputs.length} sentences; this page compares up to ${MOST_SENTENCES}.`);
    }
    return { inputs };
  },
  result: similarity,
};

// ---- classify ----

/** The score that fills a bar: 1 for probabilities, the largest for what a regression predicts. */
function fullScale(values) {
  return values.every((value) => value >= 0 && value <= 1) ? 1 : Math.max(...values.map(Math.abs));
}

const CLASSIFY = {
  title: "Classify",
  path: "predict",
  action: "Classify",
  hint: "The labels and their scores will be here.",
  fields: [
    { name: "text", label: "Text", rows: 4, value: "The plot is thin, but the actors are a delight to watch." },
    { name: "second", label: "Second text", rows: 2, note: "Only for models that judge pairs of texts", value: "" },
  ],
  body: ({ text, second }) => ({ inputs: second.trim() ? [text, second] : needed(text, "text") }),
  result: (labels) => {
    const scale = fullScale(labels.map((entry) => entry.score));
    const entries = labels.map((entry) => [entry.label, entry.score]);
    return {
      summary: `${labels[0].label}, ${score(labels[0].score)}.`,
      parts: [scores("Labels", "label", entries, scale)],
    };
  },
};

// ---- rerank ----

function ranking(ranks, { passages }) {
  const texts = lines(passages);
  const items = ranks.map(({ index, score: value }) =>
    element(
      "li",
      {},
      element("div", { class: "ranked" }, bar(value), element("span", { class: "score" }, score(value))),
      element("p", { class: "text", dir: "auto" }, texts[index]),
      element("p", { class: "soft small" }, `passage ${index + 1}`),
    ),
  );
  const first = ranks[0];
  return {
    summary: `Passage ${first.index + 1} is first, with ${score(first.score)}.`,
    parts: [element("ol", { class: "ranking" }, ...items)],
  };
}

const RERANK = {
  title: "Rerank",
  path: "rerank",
  action: "Sort",
  hint: "The passages will be here, the most relevant first.",
  fields: [
    { name: "query", label: "Query", value: "How long do bees live?" },
    {
      name: "passages",
      label: "Passages",
      note: "One on each line",
      rows: 8,
      value: [
        "Honey keeps for years if its jar is closed.",
        "In summer a worker bee lives about six weeks; those of winter live for several months.",
        "Bees tell each other by a dance where flowers are.",
        "A queen bee can live for three to five years.",
      ].join("\n"),
    },
  ],
  body: ({ query, passages }) => ({
    query: needed(query.trim(), "query"),
    texts: needed(lines(passages), "passage"),
  }),
  result: ranking,
};

// ---- qa ----

function answered(answer, { passage }) {
  const { start, end } = answer;
  if (end <= start) {
    return { summary: "The passage has no answer.", parts: [marked(passage, [], null)] };
  }
  const text = Array.from(passage).slice(start, end).join("");
  return {
    summary: `The score is ${score(answer.score)}.`,
    parts: [
      element("p", { class: "found", dir: "auto" }, text),
      marked(passage, [{ start, end }], (part) => element("mark", {}, part)),
    ],
  };
}

const QA = {
  title: "Answer a question",
  path: "qa",
  action: "Find the answer",
  hint: "The passage will be here, with the answer marked.",
  fields: [
    { name: "question", label: "Question", value: "Where does the river begin?" },
    {
      name: "passage",
      label: "Passage",
      rows: 8,
      value:
        "The Elbe is one of the great rivers of Central Europe. It begins in the Giant Mountains, in the north of " +
        "the Czech Republic, and flows into the North Sea near Cuxhaven, about 1,100 kilometres further on.",
    },
  ],
  body: ({ question, passage }) => ({
    question: needed(question.trim(), "question"),
    context: needed(passage, "passage"),
  }),
  result: answered,
};

// ---- tag ----

function tagged({ words, entities }, { text }) {
  const kinds = [...new Set(entities.map(({ kind }) => kind))];
  const mark = (part, index) => {
    const { kind } = entities[index];
    const style = `entity k${kinds.indexOf(kind) % COLOURS}`;
    return element("mark", { class: style }, part, ...(kind ? [element("span", { class: "kind" }, kind)] : []));
  };
  const rows = words.map((word) => [word.text, word.label, score(word.score)]);
  const summary = `Entities: ${entities.length}, words: ${words.length}.`;
  const all = table("Words", ["word", "label", "score"], rows, "numbers words");
  return { summary, parts: [marked(text, entities, mark), scrolling("Words", all, "scroll low")] };
}

const TAG = {
  title: "Tag words",
  path: "tag",
  action: "Tag",
  hint: "The text will be here, with its entities marked, and the label of every word.",
  fields: [
    {
      name: "text",
      label: "Text",
      rows: 5,
      value: "Ada Lovelace was born in London and worked with Charles Babbage on the Analytical Engine.",
    },
  ],
  body: ({ text }) => ({ text: needed(text, "text") }),
  result: tagged,
};

// ---- fill_mask ----

const MASKS = ["[MASK]", "<mask>"];

/** Which of the usual mask tokens a model has: the one that is a single token. */
async function findMask(model) {
  const { content } = await request("tokenize", { model, inputs: MASKS });
  return MASKS[content[1].length < content[0].length ? 1 : 0];
}

function filled(gaps, { text }) {
  const parts = gaps.map((candidates, index) => {
    const entries = candidates.map(({ token, score: value }) => [element("code", {}, token), value]);
    return scores(gaps.length > 1 ? `Gap ${index + 1}` : "Candidates", "token", entries, 1);
  });
  const best = gaps.map(([first]) => `“${first.token}”, ${score(first.score)}`);
  return { summary: `Best: ${best.join("; ")}.`, parts };
}

const FILL = {
  title: "Fill a gap",
  path: "fill",
  action: "Fill",
  hint: "The tokens that fit best will be here.",
  fields: [
    {
      name: "text",
      label: "Text with gaps",
      note: `A gap is written ${MASKS[0]}`,
      rows: 4,
      value: `Paris is the ${MASKS[0]} of France.`,
    },
  ],
  body: ({ text }) => ({ text: needed(text, "text") }),
  result: filled,
  prepare: async (model, controls) => {
    const mask = await findMask(model);
    const { input, note } = controls.get("text");
    input.value = input.value.replace(MASKS[0], mask);
    note.textContent = note.textContent.replace(MASKS[0], mask);
  },
};

/** By name of the task, as GET /status has it. */
export const TASKS = { embed: EMBED, classify: CLASSIFY, rerank: RERANK, qa: QA, tag: TAG, fill_mask: FILL };
