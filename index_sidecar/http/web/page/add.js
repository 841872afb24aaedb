// Adding: files or a text, each with its own progress and result, four at a time; a 503 is only a reason to wait.
import { Failure, address, ask, authorization, failure, pause, told } from "./api.js";
import { button, dialog, fill, h, put } from "./dom.js";
import { isBound, me } from "./keys.js";
import { random } from "./state.js";
import { t } from "./strings.js";

const MOST_AT_ONCE = 4;
const WAIT_S = 1;
/** @typedef {{href: (id: string) => string, removed: (id: string) => void, closed: () => void}} Ways */

export class Add {
  /** @param {Ways} ways */
  constructor(ways) {
    this.ways = ways;
    /** @type {(() => Promise<void>)[]} */
    this.waiting = [];
    this.running = 0;
    this.counts = { added: 0, failed: 0 };
    /** @type {HTMLDialogElement | null} */
    this.dialog = null;
    this.owner = h("input", { type: "text", name: "owner", maxlength: 256 });
    this.wrong = h("p", { role: "alert" });
    this.metadata = h("textarea", { rows: 2, name: "metadata", placeholder: t.metadataHint, oninput: () => fill(this.wrong) });
    this.list = h("ul", { class: "files" });
    this.summary = h("p", { role: "status" });
  }

  /** @param {Iterable<File>} [files] to begin with */
  open(files = []) {
    if (!this.dialog) this.build();
    this.take(files);
  }

  build() {
    const file = h("input", { type: "file", multiple: true, hidden: true, onchange: () => (this.take(file.files ?? []), (file.value = "")) });
    const text = h("textarea", { rows: 3, name: "text", "aria-label": t.addText });
    this.owner.value ||= me();
    this.owner.disabled = isBound();
    for (const old of [this.list, this.summary]) fill(old);
    this.dialog = dialog(t.addTitle, "adding",
      h("div", { class: "drop" }, h("p", {}, t.addHint), button(t.chooseFiles, () => file.click(), { icon: "plus" }), file),
      h("label", {}, h("span", {}, t.addText), text),
      button(t.addTextButton, () => {
        if (!text.value.trim() || !this.readMetadata()) return;
        this.queue(new File([text.value], text.value.trim().slice(0, 40), { type: "text/plain" }));
        text.value = "";
      }, { icon: "text" }),
      h("fieldset", {}, h("legend", {}, t.forAll), h("label", {}, h("span", {}, t.owner), this.owner),
        h("label", {}, h("span", {}, t.metadata), this.metadata), this.wrong),
      this.list, this.summary, h("div", { class: "actions" }, button(t.done, () => this.dialog?.close(), { class: "strong" })));
    this.dialog.addEventListener("close", () => {
      this.dialog = null;
      if (this.counts.added) this.ways.closed();
      this.counts = { added: 0, failed: 0 };
    });
  }

  /** @param {Iterable<File>} files */
  take(files) {
    const all = [...files];
    if (all.length && this.readMetadata()) for (const file of all) this.queue(file);
  }

  /** What is written for all, or nothing where a line is not understood. @returns {Record<string, any> | null} */
  readMetadata() {
    /** @type {Record<string, any>} */
    const metadata = {};
    for (const line of this.metadata.value.split("\n").filter((each) => each.trim())) {
      const [, name, value] = /^\s*([\w.-]{1,64})\s*:\s*(.*\S)\s*$/.exec(line) ?? [];
      if (!name) {
        this.wrong.textContent = t.metadataWrong(line);
        return null;
      }
      metadata[name] = name === "tags" ? value.split(/\s*,\s*/) : value;
    }
    return metadata;
  }

  /** @param {File} file */
  queue(file) {
    const bar = h("progress", { max: 1, value: 0, "aria-label": file.name });
    const said = h("span", { class: "said" }, t.waiting);
    put(this.list, h("li", {}, h("span", { class: "what" }, file.name), bar, said));
    const isText = file.type.startsWith("text/") || /\.(txt|md)$/i.test(file.name);
    const stem = file.name.replace(/\.\w{1,5}$/, "").slice(0, 200) || "content";
    const query = {
      id: `${stem}-${random()}`.replace(/[\p{C}\u2028\u2029]/gu, " "), type: isText ? "text" : "image",
      user: this.owner.disabled ? "" : this.owner.value.trim(),
      metadata: JSON.stringify({ ...(isText ? {} : { title: stem }), ...this.readMetadata() }),
    };
    this.waiting.push(async () => {
      try {
        this.tell(said, await send(file, query, bar, said));
        this.counts.added++;
      } catch (error) {
        const { code, requestId, message } = /** @type {Failure} */ (error);
        fill(said, h("span", { class: "failed", title: `${code} ${requestId}` }, t.isFailed(message)));
        this.counts.failed++;
      }
      bar.remove();
      this.summary.textContent = t.addedCount(this.counts.added, this.counts.failed);
    });
    this.work();
  }

  work() {
    while (this.running < MOST_AT_ONCE && this.waiting.length) {
      this.running++;
      const next = /** @type {() => Promise<void>} */ (this.waiting.shift());
      next().finally(() => (this.running--, this.work()));
    }
  }

  /** @param {HTMLElement} said @param {{id: string, duplicate_of: string[], truncated: boolean}} answer */
  tell(said, { id, duplicate_of: [same], truncated }) {
    const link = (/** @type {string} */ to, /** @type {string} */ text) =>
      h("a", { href: this.ways.href(to), onclick: () => this.dialog?.close() }, text);
    fill(said, link(id, t.isAdded), truncated && `, ${t.truncated}`);
    if (!same) return;
    put(said, `; ${t.duplicate} `, link(same, same), " ", button(t.removeCopy, async () => {
      await ask("DELETE", address("contents", { id }));
      this.ways.removed(id);
      fill(said, t.removed);
    }, { class: "value" }));
  }
}

/**
 * Sends a content under an id that nobody else has: so it may be sent again when nobody knows what became of it.
 * @param {File} file @param {Record<string, string>} query @param {HTMLProgressElement} bar @param {HTMLElement} said
 */
async function send(file, query, bar, said) {
  for (let tries = 0; ; tries++) {
    const got = await post(file, address("add_content", query), bar, said);
    if (got.status >= 200 && got.status < 300) return JSON.parse(got.responseText);
    const failed = failure(got.status, got.responseText, (name) => got.getResponseHeader(name));
    if (failed.code === "id_taken" && tries) return { id: query.id, duplicate_of: [], truncated: false }; // by us, before
    if (failed.status === 401) await told.keyWanted(failed);
    else if ([0, 429, 502, 503, 504].includes(failed.status)) {
      said.textContent = t.trouble.busy;
      await pause(failed.retryAfterS || Math.min(WAIT_S * 2 ** tries, 10));
    } else throw failed;
  }
}

/** @param {File} file @param {string} path @param {HTMLProgressElement} bar @param {HTMLElement} said @returns {Promise<XMLHttpRequest>} */
function post(file, path, bar, said) {
  return new Promise((resolve) => {
    const request = new XMLHttpRequest(); // fetch does not tell how far it is
    request.open("POST", path);
    const headers = { ...authorization(), "Content-Type": "application/octet-stream", "If-None-Match": "*" };
    for (const [name, value] of Object.entries(headers)) request.setRequestHeader(name, value);
    request.upload.onprogress = ({ loaded, total }) => {
      bar.value = loaded / total;
      said.textContent = loaded < total ? t.sending : t.computing;
    };
    request.onloadend = () => resolve(request);
    request.send(file);
  });
}
