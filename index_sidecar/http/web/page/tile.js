// One content in the gallery: its picture, or the beginning of its text, and what can be done from here.
import { isAbort } from "./api.js";
import { button, h, icon, put } from "./dom.js";
import { picture, preview } from "./previews.js";
import { shown } from "./state.js";
import { t } from "./strings.js";

/** @typedef {import("./answer.js").Hit} Hit */
/** @typedef {{href: (id: string) => string, part: (hit: Hit, less: boolean) => void}} Ways */

const SHORT = 90;

/** What a content is called. @param {{id: string, metadata?: Record<string, any>}} of */
export const titleOf = ({ id, metadata }) => (metadata?.title === undefined ? id : shown(metadata.title));

/** @param {number | null | undefined} relevance @param {number | undefined} score */
export function rated(relevance, score) {
  if (score === undefined) return "";
  return relevance == null ? score.toFixed(3) : `${Math.round(relevance * 100)} % · ${score.toFixed(3)}`;
}

/**
 * @param {import("./gallery.js").Item} item @param {number} index @param {Ways} ways
 * @param {() => void} [onShown] called when its preview is there
 */
export function tile({ hit }, index, ways, onShown = () => {}) {
  const title = titleOf(hit);
  const link = h("a", { href: ways.href(hit.id), "aria-label": `${t.types[hit.type]}: ${title}` });
  const element = h("li", { class: `tile ${hit.type}`, "aria-posinset": index + 1, "aria-setsize": -1 }, link);
  const release = fillPreview(link, hit.id, onShown);
  const told = rated(hit.relevance, hit.score);
  put(
    element,
    h("div", { class: "caption", "aria-hidden": true }, h("span", {}, title), told && h("small", { class: "score" }, told)),
    hit.duplicates && h("span", { class: "badge", title: t.copies(hit.duplicates.count) }, `+${hit.duplicates.count}`),
    h("div", { class: "actions" },
      button(t.moreOf(title), () => ways.part(hit, false), { icon: "plus", bare: true }),
      button(t.lessOf(title), () => ways.part(hit, true), { icon: "minus", bare: true })),
  );
  const reason = hit.because && because(hit.because, ways);
  if (reason) put(element, reason.element);
  return { element, release: () => (release(), reason?.release()) };
}

/**
 * Puts a preview into an element, once it is there. What gives its memory back is returned.
 * @param {HTMLElement} into @param {string} id @param {() => void} [onShown]
 */
export function fillPreview(into, id, onShown = () => {}) {
  let gone = false;
  let release = () => {};
  into.classList.add("waits");
  const load = () => preview(id, () => !gone).then(({ blob, text }) => {
    if (gone) return;
    into.classList.remove("waits");
    if (blob) {
      const made = picture(blob, "");
      release = made.release;
      put(into, made.image);
    } else if (text) put(into, h("p", { dir: "auto", class: text.length < SHORT && "short" }, text));
    else put(into, h("span", { class: "none", title: t.noPreview }, icon("picture")));
    onShown();
  }).catch((error) => {
    if (!isAbort(error)) throw error;
    if (!gone && into.isConnected) setTimeout(load, 50); // one that was gone had asked for it before
  });
  load();
  return () => ((gone = true), release());
}

/** @param {{id: string, kind: string}} reason @param {Ways} ways */
function because({ id, kind }, ways) {
  const thumb = h("span", { class: "thumb" });
  const link = h("a", { class: "because", href: ways.href(id), title: id }, thumb, h("span", {}, t.because(id, kind)));
  return { element: link, release: fillPreview(thumb, id) };
}
