// The answer to the present question: the gallery, and a line that says how far it goes.
import { isAbort } from "./api.js";
import { Answer } from "./answer.js";
import { fill, h, styled } from "./dom.js";
import { Gallery } from "./gallery.js";
import { dropWaiting, forget, preview } from "./previews.js";
import { lacks } from "./question.js";
import { isAsked, question } from "./state.js";
import { t } from "./strings.js";
import { tile } from "./tile.js";

/** @typedef {import("./state.js").State} State */
/** @typedef {import("./tile.js").Ways & {go: (changes: Partial<State>) => void, add: () => void, isEmpty: () => boolean}} Ways */
/** @typedef {{count: number, ratios: (number | null)[], anchor: import("./gallery.js").Anchor | null}} Kept of an answer, by the history */

const ANSWERS_KEPT = 8;
const SLOW_MS = 400; // until then the answer before stays where it is
const UNKNOWN_MS = 1500; // as long a picture's shape is waited for
const USUAL_RATIO = 4 / 3;

export class Results {
  /** @param {Ways} ways */
  constructor(ways) {
    this.ways = ways;
    this.list = h("ul", { class: "gallery", "aria-label": t.results });
    this.note = h("div", { class: "note" });
    this.skeleton = h("div", { class: "skeleton", "aria-hidden": true, hidden: true }, ...Array.from({ length: 12 }, () => h("i")));
    this.line = h("p", { class: "line", role: "status" });
    this.element = h("section", { class: "results", id: "results", tabindex: -1, "aria-label": t.results },
      this.note, this.list, this.skeleton, this.line);
    this.gallery = new Gallery(this.list, (item, index) => tile(item, index, ways, () => this.seen()), () => this.more());
    /** @type {Map<string, Answer>} */
    this.answers = new Map();
    /** @type {Answer | null} */
    this.answer = null;
    this.asking = new AbortController();
    this.busy = false;
    this.onFacts = () => {};
  }

  /** Shows the answer to a question; `kept` says what was loaded and seen of it. @param {State} state @param {Kept | null} kept */
  async show(state, kept) {
    const name = question(state);
    if (this.answer && name === question(this.answer.state)) return;
    if (this.answer) this.answer.anchor = this.gallery.anchor();
    this.asking.abort();
    this.asking = new AbortController();
    dropWaiting();
    this.busy = false;
    this.unseen = true;
    const known = this.answers.get(name);
    this.answer = known ?? new Answer(state);
    this.answers.delete(name);
    this.answers.set(name, this.answer);
    if (this.answers.size > ANSWERS_KEPT) this.answers.delete(/** @type {string} */ (this.answers.keys().next().value));
    if (known?.begun) {
      this.measure(known.items);
      this.gallery.show(known.items, known.ended);
      this.tell();
      const anchor = kept ? kept.anchor : known.anchor;
      if (anchor) this.gallery.go(anchor);
      else scrollTo({ top: 0, behavior: "instant" });
      return;
    }
    if (lacks(state)) {
      this.gallery.show([], true);
      return this.tell();
    }
    this.list.classList.add("old");
    const slow = setTimeout(() => this.answer === known || this.clear(), SLOW_MS);
    if (!kept) scrollTo({ top: 0, behavior: "instant" });
    await this.more(kept?.count, () => {
      clearTimeout(slow);
      this.list.classList.remove("old");
      const { items, ended } = /** @type {Answer} */ (this.answer);
      if (kept?.ratios.length === items.length) items.forEach((item, index) => (item.ratio ??= kept.ratios[index]));
      this.measure(items);
      this.gallery.show(items, ended);
      this.gallery.go(kept?.anchor ?? null);
    });
    clearTimeout(slow);
  }

  clear() {
    this.list.classList.remove("old");
    this.gallery.show([], false);
    this.skeleton.hidden = false;
  }

  /** Loads what comes next. @param {number} [count] @param {() => void} [first] what to do with a first page */
  async more(count, first) {
    const answer = this.answer;
    if (!answer || this.busy || answer.ended || lacks(answer.state) || (!first && !answer.begun)) return;
    const { signal } = this.asking;
    this.busy = true;
    try {
      const before = answer.items.length;
      do await answer.more(signal, count && count - answer.items.length);
      while (count && answer.items.length < count && !answer.ended);
      if (signal.aborted) return;
      this.busy = false;
      if (first) first();
      else {
        this.measure(answer.items.slice(before));
        this.gallery.lay(answer.ended);
      }
      this.tell();
    } catch (error) {
      if (signal.aborted || isAbort(error)) return;
      this.busy = false;
      this.clear();
      answer.ended = true;
      this.gallery.show(answer.items, true);
      this.tell(error);
      this.answers.delete(question(answer.state));
    }
  }

  /** Finds out the shapes of pictures; rows are laid as theirs are known. @param {import("./gallery.js").Item[]} items */
  measure(items) {
    const { answer } = this;
    const lay = () => answer && answer === this.answer && (this.gallery.lay(answer.ended), this.wait());
    const unknown = items.filter((item) => item.ratio === null);
    for (const item of unknown) {
      preview(item.hit.id).then(({ ratio }) => ((item.ratio ??= ratio), lay())).catch(() => {});
    }
    if (unknown.length) {
      setTimeout(() => {
        if (answer !== this.answer) return;
        for (const item of unknown) item.ratio ??= USUAL_RATIO;
        lay();
      }, UNKNOWN_MS);
    }
  }

  /** Says how far it goes, or why there is nothing. @param {unknown} [error] */
  tell(error) {
    const { answer } = this;
    if (!answer) return;
    const { state, items, ended } = answer;
    const lack = lacks(state);
    this.wait();
    this.note.className = "note";
    const count = items.length;
    this.line.textContent = !count ? "" : answer.deepest ? t.deepest(count) : ended ? t.end(count) : t.soFar(count);
    fill(this.note);
    if (error || lack || (ended && !count)) this.explain(answer, lack, error);
    this.onFacts();
  }

  /** Shows a placeholder for what is not here, or not laid yet. */
  wait() {
    const { answer, gallery } = this;
    this.skeleton.hidden = !answer || Boolean(lacks(answer.state)) || (answer.ended && gallery.placed === answer.items.length);
  }

  /** Why nothing is shown. @param {Answer} answer @param {ReturnType<typeof lacks>} lack @param {unknown} error */
  async explain(answer, lack, error) {
    const [{ failed, lacking, nothing }] = await Promise.all([import("./notes.js"), styled("later.css")]);
    if (answer !== this.answer) return;
    fill(this.note, ...(error ? failed(error) : lack ? lacking(lack) : nothing(answer, this.ways)));
  }

  /** A content is gone for good. @param {string} id */
  remove(id) {
    forget(id);
    for (const each of this.answers.values()) each.remove(id);
    if (!this.answer) return;
    this.gallery.relay();
    this.measure(this.answer.items);
    this.tell();
  }

  /** Something was added: lists of the newest are out of date. */
  outdate() {
    for (const [name, { state }] of this.answers) if (!isAsked(state)) this.answers.delete(name);
    const state = this.answer?.state;
    if (!state || isAsked(state)) return;
    this.answer = null;
    this.show(state, null);
  }

  /** What the history has to keep of it. @returns {Kept} */
  get kept() {
    const items = this.answer?.items ?? [];
    const ratios = items.map(({ ratio }) => ratio && Math.round(ratio * 1e4) / 1e4);
    return { count: items.length, ratios, anchor: this.gallery.anchor() };
  }

  /** The first preview of an answer is on the screen. */
  seen() {
    if (this.unseen) requestAnimationFrame(() => performance.mark("seen"));
    this.unseen = false;
  }
}
