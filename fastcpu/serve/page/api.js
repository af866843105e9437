// Requests to the server, the key they carry, and what a failed one says.

const STORED = "fastcpu-api-key";

/** What went wrong with a request. `status` is 0 if there was no answer. */
class Failure extends Error {
  constructor(message, status) {
    super(message);
    this.status = status;
  }
}

let key = stored();

function stored() {
  try {
    return sessionStorage.getItem(STORED) ?? "";
  } catch {
    return ""; // a browser may refuse to store anything
  }
}

export function hasKey() {
  return key !== "";
}

/** Tells of "change" when another key is used. */
export const keys = new EventTarget();

/** Uses a key from now on; "" forgets it. */
export function setKey(value) {
  key = value;
  store(value);
  keys.dispatchEvent(new Event("change"));
}

function store(value) {
  try {
    if (value) {
      sessionStorage.setItem(STORED, value);
    } else {
      sessionStorage.removeItem(STORED);
    }
  } catch {
    return; // it is used until the page is loaded again
  }
}

let refused = () => {};

/** Calls a function whenever the server answers 401. */
export function onRefusedKey(listener) {
  refused = listener;
}

/** The address of a path of the server, which may itself be below a path of a proxy. */
function address(path) {
  return new URL(path, document.baseURI).href;
}

/**
 * One request.
 * @param {string} path relative, as "embed"
 * @param {Object?} body sent as JSON; a GET without
 * @param {AbortSignal?} signal
 * @returns {Promise<{content: any, milliseconds: number, now: number?}>} `now`: the server's clock, in seconds
 * @throws {Failure} it failed; AbortError if the signal ended it
 */
export async function request(path, body = null, signal = null) {
  const headers = { Accept: "application/json" };
  if (body !== null) {
    headers["Content-Type"] = "application/json";
  }
  if (key) {
    headers.Authorization = `Bearer ${key}`;
  }
  const began = performance.now();
  let response;
  let text;
  try {
    response = await fetch(address(path), {
      method: body === null ? "GET" : "POST",
      headers,
      body: body === null ? null : JSON.stringify(body),
      cache: "no-store",
      credentials: "same-origin",
      signal,
    });
    text = await response.text();
  } catch (error) {
    if (signal?.aborted && signal.reason?.name !== "TimeoutError") {
      throw error;
    }
    throw new Failure("The server cannot be reached.", 0);
  }
  const taken = performance.now() - began;
  const content = parsed(text);
  if (!response.ok) {
    if (response.status === 401) {
      refused();
    }
    throw new Failure(message(response, content), response.status);
  }
  if (content === undefined) {
    throw new Failure("The answer is not JSON.", response.status);
  }
  const date = Date.parse(response.headers.get("date") ?? "");
  return { content, milliseconds: taken, now: Number.isNaN(date) ? null : date / 1000 };
}

function parsed(text) {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

/** What an error says, in the form of any protocol of the server. */
function message(response, content) {
  const told = content?.error?.message ?? content?.error ?? content?.message;
  const text = typeof told === "string" ? told : response.statusText || "no reason given";
  const later = response.headers.get("retry-after");
  return `${response.status}: ${text}${later ? ` (try again in ${later} s)` : ""}`;
}

/** A request as a command for a shell. */
export function curl(path, body) {
  const parts = [`curl ${quoted(address(path))}`];
  if (key) {
    parts.push(`-H "Authorization: Bearer $API_KEY"`);
  }
  if (body !== null) {
    parts.push(`-H 'Content-Type: application/json'`, `-d ${quoted(JSON.stringify(body))}`);
  }
  return parts.join(" \\\n  ");
}

function quoted(text) {
  return `'${text.replaceAll("'", String.raw`'\''`)}'`;
}
