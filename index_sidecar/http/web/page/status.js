// How the archive is: a line while it is away, loading or busy, and a banner while its weights are untrained.
import { authorization } from "./api.js";
import { fill, h, icon } from "./dom.js";
import { clock, t } from "./strings.js";

const LOOK_S = 20;
const LOOK_IN_TROUBLE_S = 2;

export class Status {
  constructor() {
    this.line = h("div", { class: "trouble", role: "status" });
    this.banner = h("div", { class: "banner", hidden: true }, icon("warn"), h("span", {}, t.untrained));
    this.kind = "";
    this.since = new Date();
    /** @type {any} */
    this.health = null;
    this.onHealth = () => {};
    document.addEventListener("visibilitychange", () => this.look());
  }

  /** @param {string} kind */
  trouble(kind) {
    if (!this.kind) {
      this.since = new Date();
      this.later(LOOK_IN_TROUBLE_S);
    }
    if (kind === this.kind) return;
    this.kind = kind;
    const text = t.trouble[/** @type {keyof typeof t.trouble} */ (kind)];
    fill(this.line, icon("warn"), h("span", {}, `${text} ${t.since(clock(this.since))}`));
  }

  /** Something was answered: it is back, unless it has just said that it is not. */
  fine() {
    if (!this.kind || this.kind === "loading" || this.kind === "model") return;
    this.over();
  }

  over() {
    this.kind = "";
    fill(this.line);
  }

  /** Asks how it is, now and from time to time, while somebody looks. */
  async look() {
    clearTimeout(this.timer);
    if (document.hidden) return;
    try {
      const response = await fetch("health", { headers: authorization() });
      if (response.ok) {
        this.health = await response.json();
        this.see(this.health);
      } else if (response.status >= 500) this.trouble("away");
    } catch {
      this.trouble("away");
    }
    this.later(this.kind ? LOOK_IN_TROUBLE_S : LOOK_S);
  }

  /** @param {any} health with a key, or where none is asked for; strangers are told nothing */
  see(health) {
    if (health.ready === false) this.trouble("loading");
    else if (health.embedder === "unavailable") this.trouble("model");
    else if (this.kind !== "busy") this.over();
    this.banner.hidden = health.weights !== "untrained";
    this.onHealth();
  }

  /** @param {number} seconds */
  later(seconds) {
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.look(), seconds * 1000);
  }

  /** Whether nothing is stored. */
  get isEmpty() {
    const contents = this.health?.contents;
    return Boolean(contents) && contents.text + contents.image === 0;
  }
}
