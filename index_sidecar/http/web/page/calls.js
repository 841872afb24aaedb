// The present question as a call of the archive: for a shell, and what was answered.
import { hasKey } from "./api.js";
import { copier, dialog, h } from "./dom.js";
import { callOf, curlOf, lacks } from "./question.js";
import { t } from "./strings.js";

const SHOWN = 20_000;

/** @param {import("./state.js").State} state @param {import("./answer.js").Answer | null} answer */
export function showCalls(state, answer) {
  const curl = lacks(state) ? "" : curlOf(callOf(state, { offset: 0, limit: 60, after: null }), hasKey());
  const json = answer?.raw ? JSON.stringify(answer.raw, null, 2) : "";
  const block = (/** @type {string} */ name, /** @type {string} */ text) => [
    h("h3", {}, name), h("pre", { tabindex: 0, "aria-label": name }, text.slice(0, SHOWN), text.length > SHOWN && "…"),
    copier(t.copy, () => text, t.copied),
  ];
  dialog(t.api, "calls", h("p", {}, t.apiAbout), ...block(t.curl, curl), ...block("JSON", json),
    h("p", {}, h("a", { href: "docs" }, t.calls)));
}
