// Files dropped: anywhere to search by, on "Add" to add. An address that is dropped is never loaded.
import { h } from "./dom.js";
import { t } from "./strings.js";

/** @param {(file: File) => void} search @param {((files: File[]) => void)} add @param {() => boolean} mayAdd */
export function takeDrops(search, add, mayAdd) {
  const toAdd = h("div", { class: "to-add" }, t.dropAdd);
  const over = h("div", { class: "over", hidden: true }, h("div", {}, t.dropHere), toAdd);
  const isAdding = () => Boolean(document.querySelector("dialog.adding"));
  const hasFiles = (/** @type {DragEvent} */ event) => Boolean(event.dataTransfer?.types.includes("Files"));
  let depth = 0;
  const show = (/** @type {boolean} */ on) => {
    over.hidden = !on || isAdding() || Boolean(document.querySelector("dialog[open]"));
    toAdd.hidden = !mayAdd();
    if (!on) depth = 0;
  };
  addEventListener("dragenter", (event) => hasFiles(event) && (depth++, show(true)));
  addEventListener("dragleave", (event) => hasFiles(event) && --depth <= 0 && show(false));
  addEventListener("dragover", (event) => hasFiles(event) && event.preventDefault());
  addEventListener("drop", (event) => {
    show(false);
    const files = [...(event.dataTransfer?.files ?? [])];
    if (!files.length) return;
    event.preventDefault();
    const target = /** @type {Element} */ (event.target);
    if (isAdding() || (mayAdd() && target.closest(".to-add, .add"))) add(files);
    else if (!document.querySelector("dialog[open]")) search(files[0]);
  });
  return over;
}
