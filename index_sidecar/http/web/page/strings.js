// Which language the page speaks. A translation is one more file `strings.XX.js` with the names of strings.en.js.
import english from "./strings.en.js";

/** @typedef {typeof english} Strings */
export const LANGUAGES = { en: "English", de: "Deutsch", it: "Italiano" };

/** @type {Strings} */
export let t = english;
export let language = "en";

/** Takes the language that was chosen here before, else the browser's first that there is. */
export async function speak() {
  const wished = [localStorage.getItem("language") ?? "", ...navigator.languages].map((each) => each.slice(0, 2));
  language = wished.find((each) => each in LANGUAGES) ?? "en";
  if (language !== "en") t = { ...english, ...(await import(`./strings.${language}.js`)).default };
  document.documentElement.lang = language;
  document.title = t.title;
}

/** @param {string} chosen */
export function choose(chosen) {
  localStorage.setItem("language", chosen);
  location.reload();
}

/** @param {Date} time */
export const clock = (time) => new Intl.DateTimeFormat(language, { timeStyle: "medium" }).format(time);
