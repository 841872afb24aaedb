// Elements without markup: what others wrote only ever becomes a text node.

/** @typedef {Node | string | number | null | undefined | false} Child */

/**
 * An element: `on...` are listeners, all else attributes; null and false are left out.
 * @template {keyof HTMLElementTagNameMap} T
 * @param {T} tag @param {Record<string, any>} [props] @param {Child[]} children
 */
export function h(tag, props = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(props)) {
    if (value == null || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else element.setAttribute(name, value === true ? "" : String(value));
  }
  put(element, ...children);
  return element;
}

/** Adds what is there to add. @param {Element} element @param {Child[]} children */
export function put(element, ...children) {
  for (const child of children) {
    if (child != null && child !== false) element.append(child instanceof Node ? child : String(child));
  }
}

/** Replaces all that is within. @param {Element} element @param {Child[]} children */
export function fill(element, ...children) {
  element.replaceChildren();
  put(element, ...children);
}

const ICONS = {
  search: "M16 16l5 5M10.5 18a7.5 7.5 0 1 1 0-15 7.5 7.5 0 0 1 0 15z",
  picture: "M4 5h16v14H4zM4 16l5-5 4 4 3-3 4 4M15.5 9.5h.01",
  text: "M5 6h14M5 10h14M5 14h14M5 18h8",
  plus: "M12 5v14M5 12h14",
  minus: "M5 12h14",
  close: "M6 6l12 12M18 6L6 18",
  down: "M12 4v11M7 10l5 5 5-5M5 20h14",
  left: "M15 5l-7 7 7 7",
  right: "M9 5l7 7-7 7",
  filter: "M4 6h16M7 12h10M10 18h4",
  user: "M12 12a4 4 0 1 0 0-8 4 4 0 0 0 0 8zM4 21c0-4 4-6 8-6s8 2 8 6",
  trash: "M5 7h14M10 7V4h4v3M7 7l1 13h8l1-13",
  copy: "M9 9h11v11H9zM5 15H4V4h11v1",
  link: "M14 5h5v5M19 5l-9 9M17 14v5H5V7h5",
  code: "M9 7l-5 5 5 5M15 7l5 5-5 5",
  key: "M14 10a4 4 0 1 0-3.5 4L12 15h2v2h2v2h4v-3l-6.3-6z",
  warn: "M12 4l9 16H3zM12 10v4M12 17h.01",
};

/** @param {keyof typeof ICONS} name */
export function icon(name) {
  const space = "http://www.w3.org/2000/svg";
  const svg = document.createElementNS(space, "svg");
  const path = document.createElementNS(space, "path");
  for (const [key, value] of [["viewBox", "0 0 24 24"], ["class", "icon"], ["aria-hidden", "true"]]) {
    svg.setAttribute(key, value);
  }
  path.setAttribute("d", ICONS[name]);
  svg.append(path);
  return svg;
}

/**
 * A button; with an icon alone, the text is its name.
 * @param {string} text @param {(event: Event) => void} onclick
 * @param {{icon?: keyof typeof ICONS, bare?: boolean} & Record<string, any>} [props]
 */
export function button(text, onclick, { icon: drawn, bare, ...props } = {}) {
  const named = bare ? { "aria-label": text, title: text } : {};
  return h("button", { type: "button", onclick, ...named, ...props }, drawn && icon(drawn), !bare && h("span", {}, text));
}

/**
 * A dialog that goes when it is closed, and gives the focus back to where it was.
 * @param {string} title @param {string} kind its class @param {Child[]} children
 */
export function dialog(title, kind, ...children) {
  const heading = h("h2", { id: `${kind}-title` }, title);
  const made = h("dialog", { class: kind, "aria-labelledby": heading.id }, heading, ...children);
  made.addEventListener("close", () => made.remove());
  if (kind !== "key") made.addEventListener("click", (event) => event.target === made && made.close()); // beside it
  document.body.append(made);
  made.showModal();
  return made;
}

/** Loads a style sheet of what is not seen at first, once. @param {string} name */
export function styled(name) {
  const href = `page/${name}`;
  if (document.querySelector(`link[href="${href}"]`)) return Promise.resolve();
  return new Promise((resolve) => document.head.append(h("link", { rel: "stylesheet", href, onload: resolve })));
}
