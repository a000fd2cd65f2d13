/** Where the tiles of a month stand: days with justified rows, short days side by side. Pure arithmetic. */

/**
 * Sizes in CSS pixels for one width of the grid.
 * @typedef {{width: number, rowHeight: number, gap: number, monthHead: number, dayHead: number, dayGap: number, monthGap: number}} Metrics
 *
 * Boxes are `x, y, width, height` of each asset in turn, below the top of the month; y never falls. A day is that of the
 * assets from `start` to before `end`.
 * @typedef {{start: number, end: number, x: number, y: number, width: number}} Day
 * @typedef {{height: number, boxes: Float32Array, days: Day[]}} MonthLayout
 *
 * @typedef {import("../timeline/month-assets.js").MonthAssets} MonthAssets
 * @typedef {{boxes: Float32Array, metrics: Metrics, assets: MonthAssets}} Target
 */

const DAY = 86_400_000;
const NARROWEST = 0.5;
const WIDEST = 3;
const AVERAGE_RATIO = 1.35;
/** How many times the height of a row the last one of a day may have. */
const HIGHEST_LAST_ROW = 1.15;
/** Assumed for months that are not loaded: days with assets, for a count of assets. */
const ASSETS_OF_A_DAY = 6;
const SMALLEST_DAY = 120;

/**
 * @param {number} width of the grid
 * @returns {Metrics}
 */
export function chooseMetrics(width) {
  const isNarrow = width < 600;
  const rowHeight = isNarrow ? 118 : width < 1000 ? 170 : width < 1800 ? 210 : 240;
  return { width, rowHeight, gap: isNarrow ? 3 : 4, monthHead: isNarrow ? 52 : 64, dayHead: isNarrow ? 36 : 40, dayGap: isNarrow ? 10 : 14, monthGap: 24 };
}

/**
 * The height that a month will about have.
 * @param {number} count of its assets
 * @param {Metrics} metrics
 * @returns {number}
 */
export function estimateHeight(count, { width, rowHeight, gap, monthHead, dayHead, dayGap, monthGap }) {
  const perRow = Math.max(1, width / (rowHeight * AVERAGE_RATIO + gap));
  const days = Math.min(31, Math.max(1, count / ASSETS_OF_A_DAY));
  const lines = Math.min(days, Math.max(1, count / perRow));
  const rows = Math.max(lines, count / perRow + lines / 3);
  return Math.round(monthHead + lines * (dayHead + dayGap) + rows * (rowHeight + gap) + monthGap);
}

/**
 * @param {MonthAssets} assets
 * @param {Metrics} metrics
 * @returns {MonthLayout}
 */
export function layoutMonth(assets, metrics) {
  const target = { boxes: new Float32Array(assets.count * 4), metrics, assets };
  const days = [];
  let y = metrics.monthHead;
  let line = { x: 0, height: 0 };
  for (const { start, end } of splitDays(assets)) {
    const width = measureRow(target, start, end);
    const isShort = width <= metrics.width;
    if (line.x > 0 && (!isShort || line.x + width > metrics.width)) {
      y += line.height + metrics.dayGap;
      line = { x: 0, height: 0 };
    }
    const x = line.x;
    const top = y + metrics.dayHead;
    if (isShort) {
      placeRow(target, start, end, x, top, metrics.rowHeight);
      const used = Math.max(width, SMALLEST_DAY);
      days.push({ start, end, x, y, width: Math.min(used, metrics.width - x) });
      line = { x: x + used + metrics.dayGap, height: metrics.dayHead + metrics.rowHeight };
    } else {
      days.push({ start, end, x: 0, y, width: metrics.width });
      y = placeRows(target, start, end, top) + metrics.dayGap;
    }
  }
  return { height: Math.round(y + (line.x > 0 ? line.height + metrics.dayGap : 0) + metrics.monthGap), boxes: target.boxes, days };
}

/** @param {MonthAssets} assets */
function* splitDays(assets) {
  let start = 0;
  for (let index = 1; index <= assets.count; index += 1) {
    if (index === assets.count || Math.floor(assets.getTime(index) / DAY) !== Math.floor(assets.getTime(start) / DAY)) {
      yield { start, end: index };
      start = index;
    }
  }
}

/**
 * @param {MonthAssets} assets
 * @param {number} index
 */
function limitRatio(assets, index) {
  return Math.min(Math.max(assets.getRatio(index), NARROWEST), WIDEST);
}

/**
 * The width of these assets in one row of the usual height.
 * @param {Target} target
 * @param {number} start
 * @param {number} end
 */
function measureRow({ assets, metrics }, start, end) {
  let width = -metrics.gap;
  for (let index = start; index < end && width <= metrics.width; index += 1) {
    width += limitRatio(assets, index) * metrics.rowHeight + metrics.gap;
  }
  return width;
}

/**
 * Places rows that fill the width; returns where the next thing may stand.
 * @param {Target} target
 * @param {number} start
 * @param {number} end
 * @param {number} top
 */
function placeRows(target, start, end, top) {
  const { assets, metrics } = target;
  let [first, ratios, y] = [start, 0, top];
  for (let index = start; index < end; index += 1) {
    ratios += limitRatio(assets, index);
    const gaps = (index - first) * metrics.gap;
    const height = (metrics.width - gaps) / ratios;
    if (height <= metrics.rowHeight * HIGHEST_LAST_ROW) {
      placeRow(target, first, index + 1, 0, y, height);
      y += Math.round(height) + metrics.gap;
      [first, ratios] = [index + 1, 0];
    }
  }
  if (first < end) {
    placeRow(target, first, end, 0, y, metrics.rowHeight);
    y += metrics.rowHeight + metrics.gap;
  }
  return y - metrics.gap;
}

/**
 * @param {Target} target
 * @param {number} start
 * @param {number} end
 * @param {number} left
 * @param {number} y
 * @param {number} height
 */
function placeRow({ boxes, metrics, assets }, start, end, left, y, height) {
  let x = left;
  for (let index = start; index < end; index += 1) {
    const width = Math.min(limitRatio(assets, index) * height, metrics.width);
    const [from, to] = [Math.round(x), Math.round(x + width)];
    boxes.set([from, Math.round(y), to - from, Math.round(height)], index * 4);
    x += width + metrics.gap;
  }
}

/**
 * The first asset of the layout that ends below `y`; as many as there are if none does.
 * @param {MonthLayout} layout
 * @param {number} y
 * @returns {number}
 */
export function findFirstBelow({ boxes }, y) {
  let [low, high] = [0, boxes.length / 4];
  while (low < high) {
    const middle = (low + high) >> 1;
    if (boxes[middle * 4 + 1] + boxes[middle * 4 + 3] > y) {
      high = middle;
    } else {
      low = middle + 1;
    }
  }
  return low;
}
