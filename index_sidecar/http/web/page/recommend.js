// For you: whose recommendations are shown, where the key does not say it.
import { h } from "./dom.js";
import { boundUser, setMe } from "./keys.js";
import { t } from "./strings.js";

/** The question for whom, above the recommendations. @param {(user: string) => void} show */
export function forWhom(show) {
  const box = h("input", { type: "text", name: "user", maxlength: 256, required: true, autocomplete: "username" });
  const form = h("form", {
    class: "whom", hidden: true,
    onsubmit: (/** @type {Event} */ event) => {
      event.preventDefault();
      setMe(box.value.trim());
      show(box.value.trim());
    },
  }, h("h1", {}, t.forYou), h("label", {}, h("span", {}, t.forWhom), box), h("button", { class: "strong" }, t.show));
  return {
    element: form,
    /** @param {import("./state.js").State} state */
    tell(state) {
      form.hidden = state.view !== "for";
      if (document.activeElement !== box) box.value = state.user || boundUser() || "";
    },
  };
}
