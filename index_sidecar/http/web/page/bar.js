// The one bar: words and Enter; pictures dropped, pasted or chosen; parts of the question as chips.
import { button, fill, h, icon } from "./dom.js";
import { picture } from "./previews.js";
import { keep, pictures } from "./state.js";
import { t } from "./strings.js";
import { fillPreview } from "./tile.js";

/** @typedef {import("./state.js").Part} Part */

export class Bar {
  /** @param {(parts: Part[]) => void} ask */
  constructor(ask) {
    this.ask = ask;
    /** @type {Part[]} */
    this.chips = []; // all parts but the words in the box
    /** @type {(() => void)[]} */
    this.releases = [];
    this.box = h("input", {
      type: "text", name: "words", autocomplete: "off", enterkeyhint: "search", spellcheck: true,
      "aria-label": t.ask, placeholder: t.askHint, onkeydown: (/** @type {KeyboardEvent} */ event) => this.key(event),
      oncompositionend: () => (this.composed = performance.now()),
    });
    this.file = h("input", { type: "file", accept: "image/*,.heic,.heif,.avif,.tif,.tiff", hidden: true, onchange: () => this.chosen() });
    this.list = h("ul", { class: "parts" });
    this.element = h("form", { role: "search", class: "bar", onsubmit: (/** @type {Event} */ event) => this.submit(event) },
      this.list, this.box, this.file,
      button(t.another, () => this.another(), { icon: "plus", bare: true, class: "another" }),
      button(t.choosePicture, () => this.file.click(), { icon: "picture", bare: true }),
      h("button", { class: "strong", "aria-label": t.search, title: t.search }, icon("search")));
    this.composed = 0;
    document.addEventListener("paste", (event) => this.paste(event));
    document.addEventListener("keydown", (event) => this.slash(event));
  }

  /** Shows a question: its last words to lead to stand in the box. @param {Part[]} parts */
  show(parts) {
    const last = parts.findLast((part) => part.kind === "text" && !part.less);
    const words = last?.what ?? "";
    this.chips = parts.filter((part) => part !== last);
    if (this.box.value.trim() !== words) this.box.value = words;
    this.drawChips();
  }

  drawChips() {
    for (const release of this.releases) release();
    this.releases = [];
    fill(this.list, ...this.chips.map((part) => this.chip(part)));
  }

  /** @param {Part} part */
  chip(part) {
    const name = part.kind === "picture" ? (/** @type {File} */ (pictures.get(part.what))?.name || t.aPicture) : part.what;
    const change = (/** @type {Part[]} */ ...now) => this.ask(this.parts().flatMap((each) => (each === part ? now : [each])));
    const thumb = part.kind === "text" ? null : h("span", { class: "thumb" });
    if (thumb && part.kind === "id") this.releases.push(fillPreview(thumb, part.what));
    else if (thumb) this.draw(thumb, part.what);
    return h("li", { class: part.less ? "chip less" : "chip" },
      button(t.flip(name, part.less), () => change({ ...part, less: !part.less }), { icon: part.less ? "minus" : "plus", bare: true }),
      thumb, h("span", { class: "what" }, name),
      button(t.remove(name), () => change(), { icon: "close", bare: true }));
  }

  /** @param {HTMLElement} into @param {string} name of a picture of this tab; one that no browser can show gets a sign */
  draw(into, name) {
    const blob = pictures.get(name);
    if (!blob) return fill(into, icon("warn"));
    const { image, release } = picture(blob, "");
    this.releases.push(release);
    image.onerror = () => fill(into, icon("picture"));
    fill(into, image);
  }

  /** @returns {Part[]} what is asked now */
  parts() {
    const what = this.box.value.trim();
    return what ? [...this.chips, { kind: "text", what, less: false }] : [...this.chips];
  }

  /** @param {Event} event */
  submit(event) {
    event.preventDefault();
    this.ask(this.parts());
  }

  /** The words become a chip, and the box is free for others. */
  another() {
    this.chips = this.parts();
    this.box.value = "";
    this.drawChips();
    this.box.focus();
  }

  /** Enter and Escape that belong to an input method are its own, also the Enter that ends it. @param {KeyboardEvent} event */
  key(event) {
    const composing = event.isComposing || event.keyCode === 229 || performance.now() - this.composed < 50;
    if (event.key === "Enter" && composing) event.preventDefault();
    if (event.key !== "Escape" || composing) return;
    event.preventDefault();
    if (this.box.value) this.box.value = "";
    else this.ask([]);
  }

  /** @param {KeyboardEvent} event */
  slash(event) {
    const { target } = event;
    if (event.key !== "/" || event.ctrlKey || event.metaKey || event.altKey || document.querySelector("dialog[open]")) return;
    if (target instanceof HTMLElement && (target.isContentEditable || target.matches("input, textarea, select"))) return;
    event.preventDefault();
    this.box.focus();
    this.box.select();
  }

  /** A picture is asked by, but not the one that word processors put beside their text. @param {ClipboardEvent} event */
  paste(event) {
    const { clipboardData: data } = event;
    const file = [...(data?.files ?? [])].find(mayBePicture);
    if (!data || !file || document.querySelector("dialog[open]")) return;
    if (data.getData("text/plain").trim() && (data.types.includes("text/html") || data.types.includes("text/rtf"))) return;
    event.preventDefault();
    this.addPicture(file);
  }

  chosen() {
    const [file] = this.file.files ?? [];
    this.file.value = "";
    if (file) this.addPicture(file);
  }

  /** Asks by a picture, in the place of one before. @param {File} file */
  addPicture(file) {
    const others = this.parts().filter((part) => part.kind !== "picture");
    this.ask([{ kind: "picture", what: keep(file), less: false }, ...others]);
  }
}

/** Browsers know no type of some formats; the archive looks at what is in the file. @param {File} file */
export const mayBePicture = (file) => !file.type || file.type.startsWith("image/");
