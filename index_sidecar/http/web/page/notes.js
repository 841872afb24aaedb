// Why nothing is shown: something failed, the question lacks something, or there is nothing like it.
import { copier } from "./copy.js";
import { button, h } from "./dom.js";
import { isAsked, isFiltered } from "./state.js";
import { t } from "./strings.js";

/** @typedef {import("./dom.js").Child} Child */

/** @param {unknown} error @returns {Child[]} */
export function failed(error) {
  const { requestId, message } = /** @type {import("./api.js").Failure} */ (error);
  return [
    h("p", { role: "alert" }, `${t.failed} ${message}`), button(t.retry, () => location.reload()),
    requestId && copier(t.requestId, () => requestId, t.copied),
  ];
}

/** @param {"user" | "picture" | "positive"} lack @returns {Child[]} */
export const lacking = (lack) => [lack !== "user" && h("p", {}, t.lacks[lack])];

/** @param {import("./answer.js").Answer} answer @param {import("./results.js").Ways} ways @returns {Child[]} */
export function nothing({ state, raw }, { go, add, isEmpty }) {
  if (state.view === "for") return [h("p", {}, raw.reason === "nothing_new" ? t.nothing_new : t.no_history)];
  if (isEmpty()) {
    return [
      h("h2", {}, t.empty), h("p", {}, t.emptyHint),
      h("pre", { tabindex: 0, "aria-label": t.api },
        `clip-archive import photographs --url '${new URL(".", document.baseURI)}'\n`
        + `curl --data-binary @photo.jpg '${new URL("add_content?id=photo-1&type=image", document.baseURI)}'`),
      button(t.add, add, { icon: "plus", class: "strong" }),
    ];
  }
  const none = { owner: "", without: "", from: "", to: "", has: [], type: /** @type {const} */ ("any") };
  return [
    h("p", {}, t.nothing), h("p", {}, t.nothingHint),
    isAsked(state) && state.cut !== "all" && button(t.showAll, () => go({ cut: "all" })),
    isFiltered(state) && button(t.clearFilters, () => go(none)),
  ];
}
