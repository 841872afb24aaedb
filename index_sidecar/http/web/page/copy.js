// Copying, also where the page does not come by HTTPS and browsers have no clipboard for it.
import { button, h } from "./dom.js";

/** Copies a text, also where the page is not served by HTTPS; false where the browser refuses. @param {string} text */
export async function copy(text) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    const field = h("textarea", { class: "away", readonly: true });
    field.value = text;
    (document.querySelector("dialog[open]") ?? document.body).append(field);
    field.select();
    const done = document.execCommand("copy");
    field.remove();
    return done;
  }
}

/** A button that copies, and says that it did. @param {string} name @param {() => string} text @param {string} done */
export function copier(name, text, done) {
  const made = button(name, async () => {
    const label = made.querySelector("span");
    if (!label) return;
    if (await copy(text())) label.textContent = done;
    else made.after(h("input", { readonly: true, value: text(), "aria-label": name }));
    setTimeout(() => (label.textContent = name), 2000);
  }, { icon: "copy" });
  return made;
}
