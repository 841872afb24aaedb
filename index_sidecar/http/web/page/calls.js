// The present question as a call of the archive: for a shell, and what was answered.
import { hasKey } from "./api.js";
import { copier } from "./copy.js";
import { dialog, h } from "./dom.js";
import { callOf, lacks } from "./question.js";
import { t } from "./strings.js";

const SHOWN = 20_000;

/** The same as a line for a shell. @param {import("./question.js").Call} call @param {boolean} withKey */
function curlOf(call, withKey) {
  const quote = (/** @type {string} */ text) => `'${text.replaceAll("'", "'\\''")}'`;
  const words = ["curl"];
  if (withKey) words.push('--header "Authorization: Bearer $KEY"');
  if (call.method === "POST" && !call.json) words.push("--request POST");
  if (call.json && call.pictures.length) {
    words.push(`--form-string ${quote(`search=${JSON.stringify(call.json)}`)}`);
    for (const [name, blob] of call.pictures) {
      words.push(`--form ${quote(`${name}=@${blob instanceof File ? blob.name : "picture"}`)}`);
    }
  } else if (call.json) {
    words.push("--header 'Content-Type: application/json'", `--data ${quote(JSON.stringify(call.json))}`);
  }
  words.push(quote(new URL(call.path, document.baseURI).href));
  return words.join(" \\\n  ");
}

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
