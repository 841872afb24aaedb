// One content, large: what is known of it, what can be done with it, and its neighbours in the answer.
import { Failure, address, ask, isAbort, json } from "./api.js";
import { copier } from "./copy.js";
import { button, dialog, fill, h, icon, put } from "./dom.js";
import { withPair } from "./filters.js";
import { drawn, original, save } from "./original.js";
import { preview } from "./previews.js";
import { shown } from "./state.js";
import { language, t } from "./strings.js";
import { fillPreview, rated, titleOf } from "./tile.js";

/** @typedef {import("./state.js").State} State */
/**
 * @typedef {object} Ways
 * @property {() => State} state @property {(changes: Partial<State>) => void} go @property {(id: string) => void} step
 * @property {() => void} back @property {() => import("./answer.js").Item[]} items @property {(id: string) => void} removed
 * @property {() => boolean} mayChange @property {(text: string) => void} say
 */

/** A day and a time as people here write them. @param {number} seconds since 1970 */
const moment = (seconds) =>
  new Intl.DateTimeFormat(language, { dateStyle: "medium", timeStyle: "short" }).format(seconds * 1000);

export class Viewer {
  /** @param {Ways} ways */
  constructor(ways) {
    this.ways = ways;
    /** @type {HTMLDialogElement | null} */
    this.dialog = null;
    this.id = "";
    this.release = () => {};
    this.asking = new AbortController();
    this.frame = h("div", { class: "frame" });
    this.about = h("div", { class: "about" });
  }

  /** Shows a content, or nothing any more. @param {string} id */
  show(id) {
    if (id === this.id) return;
    this.id = id;
    this.asking.abort();
    this.release();
    if (!id) return this.dialog?.close();
    this.asking = new AbortController();
    if (!this.dialog) this.open();
    fill(this.frame);
    this.release = fillPreview(this.frame, id);
    this.draw();
    this.tell(id, this.asking.signal);
  }

  open() {
    this.steps = h("nav", { class: "steps", "aria-label": t.results });
    const made = dialog("", "viewer", this.steps, h("div", { class: "content" }, this.frame, this.about));
    made.addEventListener("cancel", (event) => (event.preventDefault(), this.ways.back()));
    made.addEventListener("keydown", (event) => this.key(event));
    made.addEventListener("close", () => {
      this.dialog = null;
      if (this.id) this.ways.back();
    });
    this.dialog = made;
  }

  get at() {
    return this.ways.items().findIndex(({ hit }) => hit.id === this.id);
  }

  draw() {
    const { at } = this;
    const items = this.ways.items();
    const step = (/** @type {number} */ to, /** @type {string} */ name, /** @type {"left" | "right"} */ drawn) =>
      button(name, () => this.step(to), { icon: drawn, bare: true, class: drawn, disabled: at < 0 || !items[to] });
    fill(/** @type {HTMLElement} */ (this.steps),
      button(t.back, this.ways.back, { icon: "close", bare: true, class: "back" }),
      at >= 0 && h("span", {}, `${at + 1} / ${items.length}`), step(at - 1, t.previous, "left"), step(at + 1, t.next, "right"));
    for (const beside of [items[at + 1], items[at - 1]]) if (at >= 0 && beside) preview(beside.hit.id).catch(() => {});
  }

  /** @param {number} to */
  step(to) {
    const focused = document.activeElement?.className;
    const item = this.ways.items()[to];
    if (!item) return;
    this.ways.step(item.hit.id);
    const again = /** @type {HTMLElement | null} */ (focused && this.dialog?.querySelector(`button.${focused}:enabled`));
    (again ?? this.dialog)?.focus();
  }

  /** @param {KeyboardEvent} event */
  key(event) {
    if (event.ctrlKey || event.metaKey || event.altKey || event.shiftKey || /** @type {Element} */ (event.target).matches("input")) return;
    const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (!step || this.at < 0) return;
    event.preventDefault();
    this.step(this.at + step);
  }

  /** @param {string} id @param {AbortSignal} signal */
  async tell(id, signal) {
    const hit = this.ways.items()[this.at]?.hit;
    const heading = /** @type {HTMLElement} */ (this.dialog?.querySelector("h2"));
    heading.textContent = hit ? titleOf(hit) : id;
    fill(this.about);
    try {
      const content = await json("GET", address("contents", { id }), { signal });
      heading.textContent = titleOf(content);
      fill(this.about, ...this.facts(content, hit), this.actions(content));
      if (content.original) this.enlarge(content, signal);
    } catch (error) {
      if (signal.aborted || isAbort(error)) return;
      const { code, message } = /** @type {Failure} */ (error);
      fill(this.about, h("p", { role: "alert" }, code === "not_found" ? t.gone : `${t.failed} ${message}`));
    }
  }

  /** Shows a content as it came; where that fails its preview stays. @param {any} content @param {AbortSignal} signal */
  async enlarge({ id, type }, signal) {
    try {
      const made = await drawn(await original(id, signal), type);
      if (!made) return;
      if (signal.aborted) return made.release();
      this.release();
      this.release = made.release;
      this.frame.classList.remove("waits");
      fill(this.frame, made.element);
      this.about.querySelector(".hint")?.remove();
    } catch {
      // It was erased just now, cut off, or nobody waits.
    }
  }

  /** @param {any} content @param {import("./answer.js").Hit} [hit] */
  facts(content, hit) {
    const narrow = (/** @type {Partial<State>} */ changes) => this.ways.go({ ...changes, open: "" });
    const value = (/** @type {string} */ text, /** @type {Partial<State>} */ changes) =>
      button(text, () => narrow(changes), { class: "value", title: t.filterBy(text) });
    const list = h("dl", {});
    const row = (/** @type {string} */ name, /** @type {import("./dom.js").Child[]} */ ...values) =>
      put(list, h("dt", {}, name), h("dd", {}, ...values));
    row(t.owner, content.user ? value(content.user, { owner: content.user }) : t.ownerNone);
    row(t.added, moment(content.created));
    if (hit?.score !== undefined) row(t.scores, rated(hit.relevance, hit.score));
    const { has } = this.ways.state();
    for (const [name, told] of Object.entries(content.metadata)) {
      if (name === "url" || name === "title") continue;
      const values = Array.isArray(told) ? told : [told];
      row(name, ...values.map((each) => value(shown(each), { has: withPair(has, [name, each]) })));
    }
    if (hit?.duplicates) {
      row(t.copies(hit.duplicates.count), ...hit.duplicates.ids.map((id) => button(id, () => this.ways.step(id), { class: "value" })));
    }
    return [list, content.type === "text" && h("p", { class: "hint" }, t.onlyStart)];
  }

  /** @param {any} content */
  actions(content) {
    const { ways } = this;
    const { id, metadata } = content;
    const url = /^https?:\/\//i.test(String(metadata.url ?? "")) ? metadata.url : null;
    const like = (/** @type {boolean} */ less) => ({ kind: /** @type {const} */ ("id"), what: id, less });
    const { parts } = ways.state();
    return h("div", { class: "actions" },
      url && h("a", { class: "button", href: url, target: "_blank", rel: "noopener noreferrer" }, icon("link"), h("span", {}, t.original)),
      button(t.more, () => ways.go({ view: "search", parts: [like(false)], open: "" }), { icon: "plus", class: "strong" }),
      parts.length > 0 && button(t.less, () => ways.go({ parts: [...parts, like(true)], open: "" }), { icon: "minus" }),
      content.original && button(t.download, (event) => this.save(id, /** @type {HTMLButtonElement} */ (event.currentTarget)), { icon: "down" }),
      copier(t.copyId, () => id, t.copied),
      ways.mayChange() && button(t.delete, () => this.askDelete(content), { icon: "trash", class: "danger" }));
  }

  /** @param {string} id @param {HTMLButtonElement} pressed */
  async save(id, pressed) {
    pressed.disabled = true;
    try {
      await save(id);
    } catch (error) {
      this.ways.say(`${t.failed} ${/** @type {Error} */ (error).message}`);
    }
    pressed.disabled = false;
  }

  /** @param {any} content */
  askDelete(content) {
    const { id } = content;
    const said = h("p", { role: "alert" });
    const asked = dialog(t.deleteAsk(titleOf(content)), "ask", h("p", {}, t.deleteHint), said, h("div", { class: "actions" },
      button(t.cancel, () => asked.close(), { autofocus: true }),
      button(t.delete, async (event) => {
        const pressed = /** @type {HTMLButtonElement} */ (event.currentTarget);
        pressed.disabled = true;
        try {
          const { status } = await ask("DELETE", address("contents", { id }));
          asked.close();
          this.goOn(id);
          this.ways.say(status === 204 ? t.deleted : t.overwriting);
        } catch (error) {
          said.textContent = `${t.failed} ${/** @type {Error} */ (error).message}`;
          pressed.disabled = false;
        }
      }, { icon: "trash", class: "danger" })));
  }

  /** After a deletion: to the next one, or back. @param {string} id */
  goOn(id) {
    const { at } = this;
    this.ways.removed(id);
    const items = this.ways.items();
    const next = at < 0 ? undefined : (items[at] ?? items[at - 1]);
    if (next) this.ways.step(next.hit.id);
    else this.ways.back();
  }
}
