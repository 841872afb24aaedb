// Who is asking: a key where the archive wants one, kept for as long as this tab lives.
import { hasKey, json } from "./api.js";
import { button, styled } from "./dom.js";
import { t } from "./strings.js";

/** What the archive says of whoever asks. @type {{role: "reader" | "writer" | "admin" | null, user: string | null}} */
let caller = { role: null, user: null };
/** @type {Promise<void> | null} */
let asking = null;

export const mayChange = () => caller.role === "writer" || caller.role === "admin";
/** The user the key is bound to; an admin's may act for others. */
export const boundUser = () => caller.user;
export const isBound = () => caller.user !== null && caller.role !== "admin";

/** The name somebody goes by here: the key's, or the one that was typed in this tab. */
export const me = () => caller.user ?? sessionStorage.getItem("me") ?? "";
/** @param {string} name */
export const setMe = (name) => sessionStorage.setItem("me", name);

/** Finds out who asks, and asks for a key where it takes one. @returns {Promise<void>} */
export async function enter() {
  caller = await json("GET", "caller");
  if (caller.role === null) {
    await keyWanted("");
    return enter();
  }
}

/** Asks for another key; resolved once there is one. Whoever comes meanwhile waits for the same. @param {string} why */
export function keyWanted(why) {
  asking ??= Promise.all([import("./login.js"), styled("later.css")]).then(([{ login }]) => login(why)).finally(() => (asking = null));
  return asking;
}

/** The way out: with it goes all that this tab kept. */
export function logOutButton() {
  return hasKey() && button(t.logOut, () => {
    sessionStorage.clear();
    history.replaceState(null, "", location.pathname);
    location.reload();
  }, { icon: "key" });
}
