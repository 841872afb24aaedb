// One way to ask the archive: with the key, patiently where time mends it, and with every digit of a number.

/** Tells others what happens: main.js says whom. */
export const told = {
  /** @param {string} kind of trouble: away, loading, model or busy */
  trouble(kind) {},
  fine() {},
  /** @param {Failure} why @returns {Promise<void>} once there is another key */
  async keyWanted(why) {},
};

/** What the archive, or something before it, refused. */
export class Failure extends Error {
  /** @param {number} status @param {string} code @param {string} message @param {string} requestId */
  constructor(status, code, message, requestId = "") {
    super(message);
    this.status = status;
    this.code = code;
    this.requestId = requestId;
  }
}

const KEY = "key";
const MENDS = [0, 429, 502, 503, 504];
const KINDS = { overloaded: "busy", too_many_requests: "busy", not_ready: "loading", embedder_unavailable: "model" };

export const hasKey = () => sessionStorage.getItem(KEY) !== null;
/** @param {string} key */
export const setKey = (key) => sessionStorage.setItem(KEY, key);

/** @returns {Record<string, string>} */
export function authorization() {
  const key = sessionStorage.getItem(KEY);
  return key === null ? {} : { Authorization: `Bearer ${key}` };
}

/** JSON whose whole numbers keep all their digits: what a double cannot hold stays as it is written. @param {string} text */
export function readJson(text) {
  return /** @type {any} */ (JSON.parse)(text, (/** @type {string} */ _, /** @type {any} */ value, /** @type {any} */ context) =>
    typeof value === "number" && Number.isInteger(value) && !Number.isSafeInteger(value) && context?.source
      ? /** @type {any} */ (JSON).rawJSON(context.source)
      : value,
  );
}

/** The path of a call with its parameters, as it stands in an address. @param {string} path @param {Record<string, any>} query */
export function address(path, query = {}) {
  const said = Object.entries(query).filter(([, value]) => value !== null && value !== undefined && value !== "");
  return path + (said.length ? "?" + new URLSearchParams(said.map(([name, value]) => [name, String(value)])) : "");
}

/**
 * Asks, and asks again while the archive is away, busy or loading, until `signal` says that nobody waits.
 * @param {string} method @param {string} path relative to the page
 * @param {{body?: BodyInit | null, headers?: Record<string, string>, signal?: AbortSignal}} [options]
 * @returns {Promise<Response>} one with a status below 300. Raises Failure, and AbortError.
 */
export async function ask(method, path, { body = null, headers = {}, signal } = {}) {
  for (let tries = 0; ; tries++) {
    const failed = await once(method, path, { body, headers, signal });
    if (failed instanceof Response) {
      told.fine();
      return failed;
    }
    if (failed.status === 401) await told.keyWanted(failed);
    else if (MENDS.includes(failed.status)) {
      told.trouble(/** @type {Record<string, string>} */ (KINDS)[failed.code] ?? "away");
      await pause(failed.retryAfterS || Math.min(2 ** tries / 2, 8), signal);
    } else throw failed;
  }
}

/** @param {string} method @param {string} path @param {{body: BodyInit | null, headers: Record<string, string>, signal?: AbortSignal}} options */
async function once(method, path, { body, headers, signal }) {
  let response;
  try {
    response = await fetch(path, { method, body, signal, headers: { ...authorization(), ...headers } });
  } catch (error) {
    if (signal?.aborted) throw error;
    return Object.assign(new Failure(0, "away", String(error)), { retryAfterS: 0 });
  }
  if (response.ok) return response;
  return failure(response.status, await response.text(), (name) => response.headers.get(name));
}

/** What an answer that is no success says, whoever gave it. @param {number} status @param {string} text @param {(name: string) => string | null} header */
export function failure(status, text, header) {
  const retryAfterS = Math.min(Number(header("Retry-After")) || 0, 60);
  let error = { code: `http_${status}`, message: `HTTP ${status}`, request_id: header("X-Request-ID") ?? "" };
  try {
    error = JSON.parse(text).error ?? error;
  } catch {
    // A proxy's page: the status has to do.
  }
  return Object.assign(new Failure(status, error.code, error.message, error.request_id), { retryAfterS });
}

/** The JSON of an answer. @param {Parameters<typeof ask>} how @returns {Promise<any>} */
export async function json(...how) {
  const response = await ask(...how);
  const text = await response.text();
  if (!text) return null;
  try {
    return readJson(text);
  } catch {
    throw new Failure(response.status, "no_json", "the answer is no JSON", response.headers.get("X-Request-ID") ?? "");
  }
}

/** @param {number} seconds @param {AbortSignal} [signal] */
export function pause(seconds, signal) {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(resolve, seconds * 1000);
    signal?.addEventListener("abort", () => (clearTimeout(timer), reject(signal.reason)), { once: true });
  });
}

/** Whether an error only says that nobody waits any more. @param {unknown} error */
export const isAbort = (error) => error instanceof DOMException && error.name === "AbortError";
