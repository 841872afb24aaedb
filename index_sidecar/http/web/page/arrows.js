// From tile to tile by arrows: along the row, or to what lies above and below.

/** @param {import("./gallery.js").Gallery} gallery @param {string} key */
export function move(gallery, key) {
  const { rows, tiles } = gallery;
  const at = [...tiles].find(([, tile]) => tile.element.contains(document.activeElement))?.[0];
  if (at === undefined) return;
  const here = rows.findIndex((row) => row.first <= at && at < row.last);
  const [left, width] = rows[here].boxes[at - rows[here].first];
  const beside = (/** @type {number} */ step) => {
    const row = rows[here + step];
    if (!row) return at;
    const found = row.boxes.findIndex((box) => box[0] + box[1] > left + width / 2);
    return found < 0 ? row.last - 1 : row.first + found;
  };
  const next = { ArrowLeft: at - 1, ArrowRight: at + 1, ArrowUp: beside(-1), ArrowDown: beside(1) }[key];
  if (next !== undefined) gallery.focus(next);
}
