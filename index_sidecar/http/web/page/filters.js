// What narrows the answer: choices that are always seen, the rest in a panel, and a chip for each that is on.
import { button, fill, h, styled } from "./dom.js";
import { isAsked, shown } from "./state.js";
import { t } from "./strings.js";

/** @typedef {import("./state.js").State} State */
/** @typedef {(changes: Partial<State>) => void} Go */

/** A row of choices of which one is on. @param {string} name @param {Record<string, string>} texts @param {string} on @param {(value: string) => void} choose */
function choice(name, texts, on, choose) {
  return h("div", { class: "choice", role: "group", "aria-label": name },
    ...Object.entries(texts).map(([value, text]) => button(text, () => choose(value), { "aria-pressed": String(value === on) })));
}

export class Filters {
  /** @param {Go} go @param {() => string} me */
  constructor(go, me) {
    this.go = go;
    this.me = me;
    this.choices = h("div", { class: "choices" });
    this.chips = h("ul", { class: "on" });
    this.panel = h("div", { class: "panel", id: "filters", hidden: true });
    this.onOpen = () => {};
    this.toggle = button(t.filters, () => this.open(Boolean(this.panel.hidden)), {
      icon: "filter", "aria-expanded": "false", "aria-controls": "filters",
    });
    this.panel.addEventListener("keydown", (event) => event.key === "Escape" && !event.isComposing && (this.open(false), this.toggle.focus()));
  }

  /** @param {boolean} open */
  open(open) {
    this.panel.hidden = !open;
    if (open) this.onOpen();
    this.toggle.setAttribute("aria-expanded", String(open));
  }

  /** @param {State} state */
  show(state) {
    const { go } = this;
    this.state = state;
    fill(this.choices,
      choice(t.typeName, t.types, state.type, (type) => go({ type: /** @type {State["type"]} */ (type) })),
      isAsked(state) && choice(t.cutName, t.cuts, state.cut, (cut) => go({ cut: /** @type {State["cut"]} */ (cut) })));
    fill(this.chips, ...this.chipsOf(state));
  }

  /** @param {State} state */
  chipsOf(state) {
    /** @type {[string, Partial<State>][]} */
    const on = [];
    if (state.owner) on.push([t.by(state.owner), { owner: "" }]);
    if (state.without) on.push([t.without1(state.without), { without: "" }]);
    if (state.from || state.to) {
      on.push([`${t.when[state.when]} ${state.from} – ${state.to}`, { from: "", to: "" }]);
    }
    for (const pair of state.has) {
      on.push([`${pair[0]}: ${shown(pair[1])}`, { has: state.has.filter((each) => each !== pair) }]);
    }
    return on.map(([text, changes]) => h("li", { class: "chip" }, h("span", { class: "what" }, text),
      button(t.remove(text), () => this.go(changes), { icon: "close", bare: true })));
  }

  /** Draws the panel, where it is open. @param {import("./answer.js").Item[]} items what is answered so far */
  async draw(items) {
    if (this.panel.hidden || !this.state) return;
    const [{ draw }] = await Promise.all([import("./panel.js"), styled("later.css")]);
    draw(this.panel, this.state, items, this.go, this.me());
  }
}

/** The pairs with one more, once. @param {[string, any][]} has @param {[string, any]} pair @returns {[string, any][]} */
export function withPair(has, pair) {
  const same = (/** @type {[string, any]} */ each) => JSON.stringify(each) === JSON.stringify(pair);
  return has.some(same) ? has : [...has, pair];
}

