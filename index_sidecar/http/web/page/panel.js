// The panel of filters: what can be said of any content, and what is seen in the present answer.
import { h, put } from "./dom.js";
import { withPair } from "./filters.js";
import { shown } from "./state.js";
import { t } from "./strings.js";

/** @typedef {import("./state.js").State} State */
/** @typedef {import("./filters.js").Go} Go */

const VALUES_SHOWN = 40;

/** @param {HTMLElement} into @param {State} state @param {import("./answer.js").Item[]} items @param {Go} go @param {string} me */
export function draw(into, state, items, go, me) {
  const owners = new Set([me, ...items.map(({ hit }) => hit.user)].filter(Boolean));
  const used = into.querySelector("form:focus-within"); // it stays, with what is being written
  for (const old of [...into.children]) if (old !== used) old.remove();
  put(into, !used && form(state, go),
    h("datalist", { id: "owners" }, ...[...owners].map((value) => h("option", { value }))), facts(state, items, go));
}

/** @param {State} state @param {Go} go */
function form(state, go) {
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
    field(t.owner, text("owner")), field(t.without, text("without")),
    field(t.dates, when), field(t.from, day("from")), field(t.to, day("to")));
}

/** What is seen in an answer, and may be chosen. @param {State} state @param {import("./answer.js").Item[]} items @param {Go} go */
function facts(state, items, go) {
  /** @type {Map<string, {pair: [string, any], count: number}>} */
  const seen = new Map();
  for (const { hit } of items) {
    for (const [name, value] of Object.entries(hit.metadata ?? {})) {
      if (name === "title" || name === "url") continue; // hardly two are alike
      for (const each of Array.isArray(value) ? value : [value]) {
        const pair = /** @type {[string, any]} */ ([name, each]);
        const key = JSON.stringify(pair);
        seen.set(key, { pair, count: (seen.get(key)?.count ?? 0) + 1 });
      }
    }
  }
  const most = [...seen.values()].sort((a, b) => b.count - a.count).slice(0, VALUES_SHOWN);
  return h("div", { class: "facts" }, h("h3", {}, t.seen), !most.length && h("p", {}, t.noFacts),
    h("div", { class: "values" }, ...most.map(({ pair, count }) =>
      h("button", { type: "button", onclick: () => go({ has: withPair(state.has, pair) }) },
        `${pair[0]}: ${shown(pair[1])} `, h("small", {}, count)))));
}
