// The page: what goes where, and what follows from the address. The other modules know nothing of each other's places.
import { Failure, told } from "./api.js";
import { Bar } from "./bar.js";
import { button, fill, h, put, styled } from "./dom.js";
import { takeDrops } from "./drop.js";
import { Filters } from "./filters.js";
import { enter, keyWanted, logOutButton, mayChange, me } from "./keys.js";
import { forWhom } from "./recommend.js";
import { Results } from "./results.js";
import { format, isAsked, parse, question } from "./state.js";
import { Status } from "./status.js";
import { LANGUAGES, choose, language, speak, t } from "./strings.js";

/** @typedef {import("./state.js").State} State */

await speak();
history.scrollRestoration = "manual";
let state = parse(location.hash);

// Where one is, in the history: each entry knows what was loaded and seen of its answer.
const SAVED_AFTER_MS = 400;
/** @type {ReturnType<typeof setTimeout>} */
let saving;
const save = () => {
  clearTimeout(saving);
  if (results.answer?.begun) history.replaceState({ ...history.state, kept: results.kept }, "");
};
/** @param {Partial<State>} changes */
const href = (changes) => format({ ...state, ...changes });
/** @param {Partial<State>} changes */
const go = (changes) => goTo(href(changes));
/** @param {string} next */
function goTo(next) {
  if (next === format(state)) return;
  save();
  const same = question(parse(next)) === question(state); // a content of it is opened
  history.pushState({ from: "page", kept: same ? results.kept : null }, "", next);
  route();
}
function back() {
  if (history.state?.from === "page") return history.back();
  history.replaceState(null, "", href({ open: "" })); // a link that came from elsewhere
  route();
}
/** @param {string} id the neighbour that is looked at: Back still leads to the list */
function step(id) {
  history.replaceState(history.state, "", href({ open: id }));
  route();
}

const say = (/** @type {string} */ text) => {
  fill(notice, text);
  setTimeout(() => notice.textContent === text && fill(notice), 5000);
};
const removed = (/** @type {string} */ id) => (results.remove(id), status.look());
const status = new Status();
const bar = new Bar((parts) => go({ view: "search", parts, open: "" }));
const filters = new Filters(go, me);
/** @type {import("./add.js").Add | undefined} */
let add;
/** @param {Iterable<File>} files */
async function openAdd(files = []) {
  const [{ Add }] = await Promise.all([import("./add.js"), styled("later.css")]);
  add ??= new Add({ href: (id) => href({ open: id }), removed, closed: () => (results.outdate(), status.look()) });
  add.open(files);
}
/** @type {import("./viewer.js").Viewer | undefined} */
let viewer;
async function view() {
  if (!state.open && !viewer) return;
  const [{ Viewer }] = await Promise.all([import("./viewer.js"), styled("later.css")]);
  viewer ??= new Viewer({
    state: () => state, go, step, back, removed, mayChange, say, items: () => results.answer?.items ?? [],
  });
  viewer.show(state.open);
}
const results = new Results({
  go,
  href: (id) => href({ open: id }),
  part: (hit, less) => go({ view: "search", parts: [...(state.view === "for" ? [] : bar.parts()), { kind: "id", what: hit.id, less }] }),
  add: () => openAdd(),
  isEmpty: () => status.isEmpty,
});
results.onFacts = filters.onOpen = () => void filters.draw(results.answer?.items ?? []);
const whom = forWhom((user) => go({ view: "for", user }));
const notice = h("p", { class: "notice", role: "status" });
const addButton = button(t.add, () => openAdd(), { icon: "plus", class: "add" });
const forButton = button(t.forYou, () => go({ view: "for", user: me(), parts: [], open: "" }), { icon: "user" });
const scores = button(t.scores, () => {
  const on = document.body.classList.toggle("scored");
  scores.setAttribute("aria-pressed", String(on));
}, { "aria-pressed": "false" });
const keys = h("span", { class: "keys" });

put(document.body,
  h("a", { class: "skip", href: "#results", onclick: (/** @type {Event} */ event) => (event.preventDefault(), results.element.focus()) }, t.toResults),
  h("header", {},
    h("div", { class: "top" },
      h("a", { class: "home", href: "#", "aria-label": t.home }, h("img", { src: "page/icon.svg", alt: "", width: 28, height: 28 }), h("b", {}, t.title)),
      bar.element, h("nav", {}, forButton, addButton, keys)),
    h("div", { class: "tools" }, filters.choices, filters.toggle, filters.chips, h("span", { class: "space" }),
      scores, button(t.api, async () => {
        const [{ showCalls }] = await Promise.all([import("./calls.js"), styled("later.css")]);
        showCalls(state, results.answer);
      }, { icon: "code" })),
    filters.panel, status.banner, status.line),
  h("main", {}, whom.element, results.element),
  h("footer", {}, h("label", {}, h("span", {}, t.language), languages()), h("a", { href: "docs" }, t.calls)),
  notice, takeDrops((file) => bar.addPicture(file), openAdd, mayChange));

function languages() {
  const list = h("select", { onchange: () => choose(list.value) },
    ...Object.entries(LANGUAGES).map(([value, name]) => h("option", { value, selected: value === language, lang: value }, name)));
  return list;
}

/** Shows what the address says. */
function route() {
  state = parse(location.hash);
  document.body.classList.toggle("asked", isAsked(state));
  document.documentElement.classList.toggle("viewing", Boolean(state.open));
  results.show(state, history.state?.kept ?? null);
  bar.show(state.parts);
  filters.show(state);
  whom.tell(state);
  if (state.view === "for") styled("later.css");
  forButton.setAttribute("aria-pressed", String(state.view === "for"));
  filters.onOpen();
  view();
}

told.trouble = (kind) => status.trouble(kind);
told.fine = () => status.fine();
told.keyWanted = (/** @type {Failure} */ why) => keyWanted(why.code === "missing_key" ? "" : t.keyWrong).then(enter);
status.onHealth = () => {
  if (results.answer?.begun) results.tell();
};
addEventListener("popstate", route);
addEventListener("click", (event) => {
  const link = /** @type {Element} */ (event.target).closest("a");
  if (!link?.getAttribute("href")?.startsWith("#") || event.defaultPrevented || event.ctrlKey || event.metaKey || event.shiftKey) return;
  event.preventDefault(); // a browser's own step would not know that it came from here
  goTo(format(parse(link.hash)));
});
addEventListener("pagehide", save);
addEventListener("scroll", () => {
  clearTimeout(saving);
  saving = setTimeout(save, SAVED_AFTER_MS);
}, { passive: true });

status.look();
await enter();
addButton.hidden = !mayChange();
fill(keys, logOutButton());
route();
