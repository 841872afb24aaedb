// Previews: a few at a time, first those whose shapes rows wait for; the last ones are kept, as bytes.
import { address, ask, isAbort } from "./api.js";

/** @typedef {{blob: Blob | null, text: string, ratio: number}} Preview */

const MOST_AT_ONCE = 6;
const MOST_KEPT = 300;
/** Width by height of a text's card, and of a picture that cannot be shown. */
export const TEXT_RATIO = 1.4;
const NO_RATIO = 1;

/** @type {Map<string, Promise<Preview>>} */
const kept = new Map();
/** @type {(() => Promise<void>)[]} */
const first = [];
/** @type {typeof first} */
const waiting = [];
let running = 0;
let asked = new AbortController();

/**
 * What is shown of a content. Raises AbortError when all was dropped, or it is not wanted any more when its turn comes.
 * @param {string} id @param {() => boolean} [wanted] by what shows it; who asks for its shape waits less and says nothing
 */
export function preview(id, wanted) {
  let found = kept.get(id);
  if (!found) {
    found = new Promise((resolve, reject) => {
      const { signal } = asked;
      const job = () => (wanted?.() === false ? Promise.reject(new DOMException("", "AbortError")) : fetched(id, signal));
      (wanted ? waiting : first).push(() => job().then(resolve, reject));
    });
    found.catch(() => kept.get(id) === found && kept.delete(id));
    work();
  }
  kept.delete(id); // and again as the last
  kept.set(id, found);
  if (kept.size > MOST_KEPT) kept.delete(/** @type {string} */ (kept.keys().next().value));
  return found;
}

/** Nobody waits for what was asked so far. */
export function dropWaiting() {
  asked.abort();
  asked = new AbortController();
}

/** It is gone. @param {string} id */
export const forget = (id) => kept.delete(id);

function work() {
  for (let next; running < MOST_AT_ONCE && (next = first.shift() ?? waiting.shift()); ) {
    running++;
    next().finally(() => (running--, work()));
  }
}

/** @param {string} id @param {AbortSignal} signal @returns {Promise<Preview>} */
async function fetched(id, signal) {
  signal.throwIfAborted();
  try {
    const response = await ask("GET", address("contents/preview", { id }), { signal });
    if (response.headers.get("Content-Type")?.startsWith("text/")) {
      return { blob: null, text: await response.text(), ratio: TEXT_RATIO };
    }
    const blob = await response.blob();
    const size = await createImageBitmap(blob);
    const ratio = size.width / size.height;
    size.close();
    return { blob, text: "", ratio };
  } catch (error) {
    if (isAbort(error)) throw error;
    return { blob: null, text: "", ratio: NO_RATIO }; // a placeholder: it has no preview, or is gone
  }
}

/** A picture of a blob, whose address is given back by `release`. @param {Blob} blob @param {string} alt */
export function picture(blob, alt) {
  const image = new Image();
  image.alt = alt;
  image.src = URL.createObjectURL(blob);
  return { image, release: () => URL.revokeObjectURL(image.src) };
}
