// What narrows the answer: choices that are always seen, the rest in a panel, and a chip for each that is on.
import { button, fill, h, put } from "./dom.js";
import { isAsked, shown } from "./state.js";
import { t } from "./strings.js";

/** @typedef {import("./state.js").State} State */
/** @typedef {(changes: Partial<State>) => void} Go */

const VALUES_SHOWN = 40;

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
    this.facts = h("div", { class: "facts" });
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
    fill(this.choices,
      choice(t.typeName, t.types, state.type, (type) => go({ type: /** @type {State["type"]} */ (type) })),
      isAsked(state) && choice(t.cutName, t.cuts, state.cut, (cut) => go({ cut: /** @type {State["cut"]} */ (cut) })));
    fill(this.chips, ...this.chipsOf(state));
    fill(this.panel, this.form(state), this.facts);
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

  /** @param {State} state */
  form(state) {
    const { go } = this;
    const field = (/** @type {string} */ label, /** @type {HTMLElement} */ input) => h("label", {}, h("span", {}, label), input);
    const text = (/** @type {"owner" | "without"} */ name) => h("input", {
      type: "text", value: state[name], maxlength: 256, list: "owners",
      onchange: (/** @type {Event} */ event) => go({ [name]: /** @type {HTMLInputElement} */ (event.target).value.trim() }),
    });
    const day = (/** @type {"from" | "to"} */ name) => h("input", {
      type: "date", value: state[name],
      onchange: (/** @type {Event} */ event) => go({ [name]: /** @type {HTMLInputElement} */ (event.target).value }),
    });
    const when = h("select", { onchange: () => go({ when: /** @type {State["when"]} */ (when.value) }) },
      ...Object.entries(t.when).map(([value, name]) => h("option", { value, selected: value === state.when }, name)));
    return h("form", { onsubmit: (/** @type {Event} */ event) => event.preventDefault() },
      h("datalist", { id: "owners" }), field(t.owner, text("owner")), field(t.without, text("without")),
      field(t.dates, when), field(t.from, day("from")), field(t.to, day("to")));
  }

  /** Offers what is seen in an answer. @param {State} state @param {import("./answer.js").Item[]} items */
  offer(state, items) {
    if (this.panel.hidden) return;
    /** @type {Map<string, {pair: [string, any], count: number}>} */
    const seen = new Map();
    const owners = new Set(this.me() ? [this.me()] : []);
    for (const { hit } of items) {
      if (hit.user) owners.add(hit.user);
      for (const [name, value] of Object.entries(hit.metadata ?? {})) {
        if (name === "title" || name === "url") continue; // hardly two are alike
        for (const each of Array.isArray(value) ? value : [value]) {
          const pair = /** @type {[string, any]} */ ([name, each]);
          const key = JSON.stringify(pair);
          seen.set(key, { pair, count: (seen.get(key)?.count ?? 0) + 1 });
        }
      }
    }
    const list = this.panel.querySelector("datalist");
    if (list) fill(list, ...[...owners].map((value) => h("option", { value })));
    const most = [...seen.values()].sort((a, b) => b.count - a.count).slice(0, VALUES_SHOWN);
    fill(this.facts, h("h3", {}, t.seen), !most.length && h("p", {}, t.noFacts));
    put(this.facts, h("div", { class: "values" }, ...most.map(({ pair, count }) =>
      h("button", { type: "button", onclick: () => this.go({ has: withPair(state.has, pair) }) },
        `${pair[0]}: ${shown(pair[1])} `, h("small", {}, count)))));
  }
}

/** The pairs with one more, once. @param {[string, any][]} has @param {[string, any]} pair @returns {[string, any][]} */
export function withPair(has, pair) {
  const same = (/** @type {[string, any]} */ each) => JSON.stringify(each) === JSON.stringify(pair);
  return has.some(same) ? has : [...has, pair];
}

