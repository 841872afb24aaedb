// What was answered to one question so far, a page at a time; each content is in it once, whatever changes meanwhile.
import { json } from "./api.js";
import { bodyOf, callOf } from "./question.js";
import { isAsked } from "./state.js";

/** @typedef {import("./state.js").State} State */
/**
 * @typedef {object} Hit
 * @property {string} id @property {"text" | "image"} type @property {string | null} user
 * @property {number} [score] @property {number | null} [relevance] @property {number} [created]
 * @property {Record<string, any>} [metadata] @property {{count: number, ids: string[]}} [duplicates]
 * @property {{id: string, kind: string}} [because]
 */
/** @typedef {import("./gallery.js").Item} Item */

const FIRST = 60;
const NEXT = 120;
const MOST_AT_ONCE = 1000;
const DEPTH = 10000; // behind which the archive does not look

export class Answer {
  /** @param {State} state */
  constructor(state) {
    this.state = state;
    /** @type {Item[]} */
    this.items = [];
    this.ids = new Set();
    this.ended = false;
    this.deepest = false;
    /** @type {import("./gallery.js").Anchor | null} */
    this.anchor = null;
    this.taken = 0; // of what the archive ranks
    /** @type {string | null} */
    this.next = null;
    /** @type {any} */
    this.raw = null; // the first page as it came
  }

  /** Whether anything was answered. */
  get begun() {
    return this.raw !== null;
  }

  /** Asks for as many more, or for a page. @param {AbortSignal} signal @param {number} [wanted] */
  async more(signal, wanted = this.begun ? NEXT : FIRST) {
    const limit = Math.min(wanted, MOST_AT_ONCE, DEPTH - this.taken);
    const call = callOf(this.state, { offset: this.taken, limit, after: this.next });
    const answer = await json(call.method, call.path, { ...bodyOf(call), signal });
    performance.mark("answered");
    this.raw ??= answer;
    /** @type {Hit[]} */
    const hits = answer.contents;
    this.taken += hits.length;
    if (isAsked(this.state)) {
      this.deepest = hits.length === limit && this.taken >= DEPTH;
      this.ended = hits.length < limit || this.deepest;
    } else {
      this.next = answer.next ?? null;
      this.ended = this.next === null;
    }
    for (const hit of hits) {
      if (this.ids.has(hit.id)) continue;
      this.ids.add(hit.id);
      this.items.push({ hit, ratio: hit.type === "text" ? 1 : null });
    }
  }

  /** A content is gone; the next of its copies takes its place. @param {string} id */
  remove(id) {
    const at = this.items.findIndex(({ hit }) => hit.id === id);
    if (at < 0) return;
    const { hit, ratio } = this.items[at];
    const [next, ...others] = hit.duplicates?.ids ?? [];
    if (next && !this.ids.has(next)) {
      const duplicates = others.length ? { count: others.length, ids: others } : undefined;
      this.items[at] = { hit: { ...hit, id: next, duplicates, score: undefined, relevance: undefined }, ratio };
      this.ids.add(next);
      return;
    }
    this.items.splice(at, 1);
    this.taken--; // what comes behind has moved up
  }
}
