// What is asked and shown, as the fragment of the address: it is never sent to a server, so it stands in no log.
import { readJson } from "./api.js";

/** A part of the question: words, a stored content, or a picture kept in this tab. */
/** @typedef {{kind: "text" | "id" | "picture", what: string, less: boolean}} Part */
/**
 * @typedef {object} State
 * @property {"search" | "for"} view
 * @property {Part[]} parts
 * @property {"any" | "image" | "text"} type
 * @property {"strict" | "usual" | "all"} cut how relevant hits have to be
 * @property {string} owner whose contents, if not everybody's
 * @property {string} without whose are left out
 * @property {"created" | "date"} when which of its dates lies between `from` and `to`
 * @property {string} from @property {string} to days as people here count them
 * @property {[string, any][]} has metadata: names and values
 * @property {string} user for whom
 * @property {string} open the content that is looked at
 */

/** @type {State} */
const NOTHING = {
  view: "search", parts: [], type: "any", cut: "usual", owner: "", without: "", when: "created", from: "", to: "",
  has: [], user: "", open: "",
};
/** @type {Record<string, Part["kind"]>} */
const KINDS = { q: "text", like: "id", picture: "picture" };
const NAMES = { text: "q", id: "like", picture: "picture" };
const PLAIN = /** @type {const} */ (["view", "type", "cut", "owner", "without", "when", "from", "to", "user", "open"]);
const CHOICES = {
  view: ["search", "for"], type: ["any", "image", "text"], cut: ["strict", "usual", "all"], when: ["created", "date"],
};

/** @param {string} fragment with or without its `#`; what it does not understand is passed over @returns {State} */
export function parse(fragment) {
  /** @type {State} */
  const state = { ...NOTHING, parts: [], has: [] };
  for (const [name, value] of new URLSearchParams(fragment.replace(/^#/, ""))) {
    const kind = KINDS[name.replace(/^-/, "")];
    if (kind && value) state.parts.push({ kind, what: value, less: name.startsWith("-") });
    else if (name === "has") readPair(value, state.has);
    else if (name in CHOICES ? CHOICES[/** @type {"view"} */ (name)].includes(value) : name in NOTHING && name !== "parts") {
      Object.assign(state, { [name]: value });
    }
  }
  return state;
}

/** @param {string} text @param {[string, any][]} has */
function readPair(text, has) {
  try {
    const [name, value] = readJson(text);
    if (typeof name === "string" && value !== undefined) has.push([name, value]);
  } catch {
    // Somebody has changed the address.
  }
}

/** @param {State} state */
export function format(state) {
  const said = new URLSearchParams();
  for (const { kind, what, less } of state.parts) said.append((less ? "-" : "") + NAMES[kind], what);
  for (const pair of state.has) said.append("has", JSON.stringify(pair));
  for (const name of PLAIN) if (state[name] !== NOTHING[name]) said.append(name, state[name]);
  return "#" + said;
}

/** The same question has the same name, whatever content of its answer is open. @param {State} state */
export const question = (state) => format({ ...state, open: "" });

/** Whether something is sought, and not only listed. @param {State} state */
export const isAsked = (state) => state.view === "search" && state.parts.length > 0;

/** Whether anything narrows the answer. @param {State} state */
export const isFiltered = (state) =>
  Boolean(state.owner || state.without || state.from || state.to || state.has.length || state.type !== "any");

/** A value of metadata as people read it. @param {any} value */
export const shown = (value) =>
  typeof value === "string" ? value : (/** @type {any} */ (value)?.rawJSON ?? JSON.stringify(value));

/** Pictures that are asked by, for as long as this tab lives. @type {Map<string, File | Blob>} */
export const pictures = new Map();

/** Keeps a picture; the name of it. @param {File | Blob} file */
export function keep(file) {
  const name = `${random()}`;
  pictures.set(name, file);
  return name;
}

/** Eight letters that nobody else has; `randomUUID` is missing where the page comes by plain HTTP. */
export const random = () => [...crypto.getRandomValues(new Uint8Array(4))].map((each) => each.toString(16).padStart(2, "0")).join("");
