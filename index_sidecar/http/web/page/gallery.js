// A justified gallery of any length: rows are laid once and never move, and only those near the window are elements.
import { TEXT_RATIO } from "./previews.js";

/** @typedef {import("./answer.js").Hit} Hit */
/** @typedef {{hit: Hit, ratio: number | null}} Item width by height of what is shown; null until it is known */
/** @typedef {{element: HTMLElement, release: () => void}} Tile */
/** @typedef {{top: number, height: number, first: number, last: number, boxes: [number, number][]}} Row */
/** @typedef {{index: number, id: string, below: number}} Anchor the first item seen, and how far below the top it is */

const GAP = 12;
const FEW = 30; // that wait for their shapes, or for a row to be full: more are not asked for before
const NARROWEST = 0.5;
const WIDEST = 2.6;

export class Gallery {
  /**
   * @param {HTMLElement} list @param {(item: Item, index: number) => Tile} make
   * @param {() => void} wantsMore called when what is laid ends near the window
   */
  constructor(list, make, wantsMore) {
    this.list = list;
    this.make = make;
    this.wantsMore = wantsMore;
    /** @type {Item[]} */
    this.items = [];
    this.ended = false;
    this.width = 0;
    /** @type {Anchor | null} */
    this.goal = null; // where to go once that is laid, unless somebody scrolls first
    /** @type {Map<number, Tile>} */
    this.tiles = new Map();
    /** @type {Row[]} */
    this.rows = [];
    this.placed = 0; // items that are laid
    this.bottom = 0;
    new ResizeObserver(() => list.clientWidth !== this.width && this.relay()).observe(list);
    addEventListener("scroll", () => this.draw(), { passive: true });
    addEventListener("resize", () => this.draw());
    for (const own of ["wheel", "touchmove", "keydown"]) addEventListener(own, () => (this.goal = null), { passive: true });
    list.addEventListener("keydown", (event) => this.key(event));
  }

  clear() {
    for (const [, tile] of this.tiles) tile.element.remove(), tile.release();
    this.tiles.clear();
    this.rows = [];
    this.placed = 0;
    this.bottom = 0;
  }

  /** Shows other items, from the beginning. @param {Item[]} items @param {boolean} ended whether there are no more */
  show(items, ended) {
    this.clear();
    this.items = items;
    this.lay(ended);
  }

  /** Lays all anew, with what is seen at the place where it was. */
  relay() {
    const anchor = this.anchor();
    this.clear();
    this.lay(this.ended);
    this.go(anchor);
  }

  /** Lays the rows of which everything is known. @param {boolean} ended */
  lay(ended) {
    this.ended = ended;
    this.width = this.list.clientWidth;
    const high = this.width < 600 ? 130 : Math.min(260, 150 + this.width / 24);
    while (this.placed < this.items.length && this.layRow(high));
    this.list.style.height = `${Math.max(0, this.bottom - GAP)}px`;
    if (this.goal) this.go(this.goal);
    else this.draw();
  }

  /** @param {number} goal */
  layRow(goal) {
    const { items, placed: first, width } = this;
    /** @type {number[]} */
    const ratios = [];
    const height = () => (width - GAP * (ratios.length - 1)) / ratios.reduce((sum, each) => sum + each, 0);
    while (first + ratios.length < items.length && (!ratios.length || height() > goal)) {
      const { ratio, hit } = items[first + ratios.length];
      if (ratio === null) return false;
      ratios.push(hit.type === "text" ? TEXT_RATIO : Math.min(WIDEST, Math.max(NARROWEST, ratio)));
    }
    let high = height();
    if (high > goal) {
      if (!this.ended) return false; // the row goes on with the next page
      high = Math.min(high, goal);
    } else if (ratios.length > 1) {
      const last = ratios.pop();
      const without = height();
      if (without - goal < goal - high && without < goal * 1.3) high = without;
      else ratios.push(/** @type {number} */ (last));
    }
    /** @type {[number, number][]} */
    const boxes = [];
    let left = 0;
    for (const ratio of ratios) {
      boxes.push([left, ratio * high]);
      left += ratio * high + GAP;
    }
    this.rows.push({ top: this.bottom, height: high, first, last: first + ratios.length, boxes });
    this.placed += ratios.length;
    this.bottom += high + GAP;
    return true;
  }

  /** Where the window begins, in the list. */
  get top() {
    return -this.list.getBoundingClientRect().top;
  }

  /** The row that holds or comes behind a place. @param {number} place */
  rowAt(place) {
    let low = 0;
    let high = this.rows.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      const { top, height } = this.rows[middle];
      if (top + height < place) low = middle + 1;
      else high = middle;
    }
    return low;
  }

  /** Makes elements of what is near the window, and of nothing else but what has the focus. */
  draw() {
    const { top, rows, tiles } = this;
    if (!this.list.isConnected || this.list.hidden) return;
    const wanted = new Set();
    for (let at = this.rowAt(top - innerHeight); at < rows.length && rows[at].top < top + 2 * innerHeight; at++) {
      const row = rows[at];
      for (let index = row.first; index < row.last; index++) {
        wanted.add(index);
        if (!tiles.has(index)) this.draw1(index, row);
      }
    }
    for (const [index, tile] of tiles) {
      if (wanted.has(index) || tile.element.contains(document.activeElement)) continue;
      tile.element.remove();
      tile.release();
      tiles.delete(index);
    }
    const isShort = this.bottom < top + 2.5 * innerHeight;
    if (!this.ended && isShort && this.items.length - this.placed < FEW) this.wantsMore();
  }

  /** @param {number} index @param {Row} row */
  draw1(index, row) {
    const tile = this.make(this.items[index], index);
    const [left, width] = row.boxes[index - row.first];
    Object.assign(tile.element.style, {
      left: `${left}px`, top: `${row.top}px`, width: `${width}px`, height: `${row.height}px`,
    });
    // In the order of the list, so that the keyboard and screen readers go through it.
    const after = [...this.tiles.keys()].filter((each) => each > index).sort((a, b) => a - b)[0];
    this.list.insertBefore(tile.element, after === undefined ? null : (this.tiles.get(after)?.element ?? null));
    this.tiles.set(index, tile);
  }

  /** @returns {Anchor | null} */
  anchor() {
    const row = this.rows[this.rowAt(this.top)];
    if (!row || this.top <= 0) return null;
    return { index: row.first, id: this.items[row.first].hit.id, below: row.top - this.top };
  }

  /** Scrolls to where an anchor was taken, now or when that is laid. @param {Anchor | null} anchor */
  go(anchor) {
    this.goal = anchor;
    if (!anchor) return;
    const found = this.items.findIndex(({ hit }) => hit.id === anchor.id);
    const row = this.rowOf(found < 0 ? anchor.index : found);
    if (!row) return this.draw();
    this.goal = null;
    scrollTo({ top: scrollY - this.top + row.top - anchor.below, behavior: "instant" });
    this.draw();
  }

  /** @param {number} index */
  rowOf(index) {
    return this.rows.find((row) => row.first <= index && index < row.last);
  }

  /** Gives the focus to a content, if there is such a tile. @param {number} index */
  focus(index) {
    const row = this.rowOf(index);
    if (!row) return;
    if (!this.tiles.has(index)) this.draw1(index, row);
    this.tiles.get(index)?.element.querySelector("a")?.focus();
  }

  /** Arrows go from tile to tile. @param {KeyboardEvent} event */
  async key(event) {
    if (!event.key.startsWith("Arrow") || event.ctrlKey || event.metaKey || event.altKey || event.shiftKey) return;
    event.preventDefault();
    (await import("./arrows.js")).move(this, event.key);
  }
}
