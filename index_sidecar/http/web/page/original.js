// A content as it came, where the archive keeps that: shown in the place of its preview, and saved.
import { address, ask } from "./api.js";
import { h } from "./dom.js";
import { picture } from "./previews.js";

const WIDE = 1024; // as wide and high as a preview is drawn
const HIGH = 768;
const SAVED_MS = 60_000;

/** The bytes of a content. @param {string} id @param {AbortSignal} [signal] @returns {Promise<Blob>} */
export const original = async (id, signal) => (await ask("GET", address("contents/original", { id }), { signal })).blob();

/**
 * What is shown of an original; null where this browser cannot, as most with a TIFF or HEIC.
 * @param {Blob} blob @param {string} type of the content
 * @returns {Promise<{element: HTMLElement, release: () => void} | null>}
 */
export async function drawn(blob, type) {
  if (type === "text") return { element: h("p", { dir: "auto" }, await blob.text()), release: () => {} };
  const { image, release } = picture(blob, "");
  try {
    await image.decode();
  } catch {
    release();
    return null;
  }
  image.style.maxWidth = `${Math.max(WIDE, image.naturalWidth)}px`;
  image.style.maxHeight = `${Math.max(HIGH, image.naturalHeight)}px`;
  return { element: image, release };
}

/** Has the browser save an original: a link would not have the key. @param {string} id */
export async function save(id) {
  const link = h("a", { href: URL.createObjectURL(await original(id)), download: id });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), SAVED_MS);
}
