// From what is asked to the call that asks it: the page sends what `curl` would.
import { address } from "./api.js";
import { isAsked, pictures } from "./state.js";

/** @typedef {import("./state.js").State} State */
/** @typedef {{method: string, path: string, json?: any, pictures: [string, Blob][]}} Call */
/** @typedef {{offset: number, limit: number, after: string | null}} Place */

const CUTS = { strict: 0.5, usual: 0.2, all: null };

/** What the filters of a state are in the archive's own JSON; null where there are none. @param {State} state */
export function filterOf(state) {
  const must = [];
  const match = (/** @type {string} */ key, /** @type {any} */ value) => ({ key, match: { value } });
  if (state.owner) must.push(match("user", state.owner));
  if (state.type !== "any" && !isAsked(state)) must.push(match("type", state.type));
  for (const [name, value] of state.has) must.push(match(name, value));
  const range = state.when === "created" ? instants(state) : days(state);
  if (Object.keys(range).length) must.push({ key: state.when, range });
  const mustNot = state.without ? [match("user", state.without)] : [];
  if (!must.length && !mustNot.length) return null;
  return { ...(must.length && { must }), ...(mustNot.length && { must_not: mustNot }) };
}

/** When something was added is an instant: days begin and end where this browser is. @param {State} state */
function instants({ from, to }) {
  return { ...(from && { gte: midnight(from, 0) }), ...(to && { lt: midnight(to, 1) }) };
}

/** A date in metadata is a day of its own, wherever one is. @param {State} state */
const days = ({ from, to }) => ({ ...(from && { gte: from }), ...(to && { lte: to }) });

/** @param {string} day @param {number} later */
function midnight(day, later) {
  const [year, month, date] = day.split("-").map(Number);
  return new Date(year, month - 1, date + later).toISOString();
}

/** @param {State} state @param {Place} place @returns {Call} */
export function callOf(state, place) {
  const filter = filterOf(state);
  const written = filter && JSON.stringify(filter);
  if (state.view === "for") {
    const target = state.type === "any" ? null : state.type;
    return {
      method: "POST", path: address("recommend", { user: state.user, k: 100, target, filter: written, fields: "metadata" }), pictures: [],
    };
  }
  if (!isAsked(state)) {
    const listed = { order: "newest", limit: place.limit, after: place.after, filter: written };
    return { method: "GET", path: address("contents", listed), pictures: [] };
  }
  /** @type {[string, Blob][]} */
  const sent = [];
  const query = state.parts.map(({ kind, what, less }) => {
    const weight = less ? { weight: -0.7 } : {};
    if (kind !== "picture") return { [kind]: what, ...weight };
    const blob = pictures.get(what);
    if (blob) sent.push([what, blob]);
    return { part: what, ...weight };
  });
  const cut = CUTS[state.cut];
  return {
    method: "POST",
    path: "search",
    json: {
      query, target: state.type, k: place.limit, offset: place.offset, rank: "relevance", fold: true,
      ...(cut !== null && { min_relevance: cut }), ...(filter && { filter }), fields: "metadata",
    },
    pictures: sent,
  };
}

/** @param {Call} call @returns {{body: BodyInit | null, headers: Record<string, string>}} */
export function bodyOf({ json, pictures: sent }) {
  if (!json) return { body: null, headers: {} };
  const written = JSON.stringify(json);
  if (!sent.length) return { body: written, headers: { "Content-Type": "application/json" } };
  const form = new FormData();
  form.append("search", new Blob([written], { type: "application/json" }));
  for (const [name, blob] of sent) form.append(name, blob, "picture");
  return { body: form, headers: {} };
}

/** Why a question cannot be sent yet: nothing to lead to, or a picture that this tab does not have. @param {State} state */
export function lacks(state) {
  if (state.view === "for") return state.user ? "" : "user";
  if (state.parts.some(({ kind, what }) => kind === "picture" && !pictures.has(what))) return "picture";
  return state.parts.length && state.parts.every((part) => part.less) ? "positive" : "";
}
