// The question for a key. It stays until it is answered.
import { setKey } from "./api.js";
import { dialog, h } from "./dom.js";
import { t } from "./strings.js";

/** Resolved once there is another key. @param {string} why the one before is not taken @returns {Promise<void>} */
export function login(why) {
  return new Promise((resolve) => {
    const box = h("input", {
      type: "password", name: "key", required: true, autocomplete: "off", autofocus: true, "aria-label": t.key,
    });
    const onsubmit = () => {
      setKey(box.value.trim());
      resolve();
    };
    const made = dialog(t.keyTitle, "key", why && h("p", { role: "alert" }, why),
      h("form", { method: "dialog", onsubmit }, h("label", {}, h("span", {}, t.key), box),
        h("p", { class: "hint" }, t.keyHint), h("div", { class: "actions" }, h("button", { class: "strong" }, t.logIn))));
    made.addEventListener("cancel", (event) => event.preventDefault());
  });
}
