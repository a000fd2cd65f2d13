/** Where the months stand in virtual pixels: laid out where they are loaded, estimated from their counts where not. */

import { chooseMetrics, estimateHeight, findFirstBelow, layoutMonth } from "./layout.js";

/**
 * @typedef {import("../timeline/timeline.js").Month} Month
 * @typedef {import("./layout.js").MonthLayout} MonthLayout
 *
 * What stays where it is while heights change: an asset, or a share of a month's height, at `offset` pixels below the upper edge.
 * @typedef {{key: string, id: string | null, share: number, offset: number}} Anchor
 */

export class Measures {
  metrics = chooseMetrics(1);
  #timeline;
  /** @type {WeakMap<import("../timeline/month-assets.js").MonthAssets, MonthLayout>} */
  #layouts = new WeakMap();
  /** @type {Map<string, {height: number, count: number}>} */
  #known = new Map();
  /** @type {number[]} of each month, and after them the height of all */
  #tops = [0];

  /** @param {import("../timeline/timeline.js").Timeline} timeline */
  constructor(timeline) {
    this.#timeline = timeline;
  }

  get height() {
    return this.#tops[this.#tops.length - 1];
  }

  /** @param {number} width of the grid in pixels */
  setWidth(width) {
    this.metrics = chooseMetrics(width);
    this.#layouts = new WeakMap();
    this.#known.clear();
    this.measure();
  }

  /** Reads the timeline anew. */
  measure() {
    let top = 0;
    this.#tops = [0];
    for (const month of this.#timeline.months) {
      top += this.#measureMonth(month);
      this.#tops.push(top);
    }
  }

  /** @param {number} number of the month */
  getTop(number) {
    return this.#tops[Math.min(number, this.#tops.length - 1)];
  }

  /** @param {number} number of the month */
  getHeight(number) {
    return this.getTop(number + 1) - this.getTop(number);
  }

  /**
   * The number of the month at a height.
   * @param {number} y
   */
  findMonth(y) {
    let [low, high] = [0, Math.max(0, this.#tops.length - 2)];
    while (low < high) {
      const middle = (low + high + 1) >> 1;
      if (this.#tops[middle] <= y) {
        low = middle;
      } else {
        high = middle - 1;
      }
    }
    return low;
  }

  /**
   * The numbers of the months that stand between two heights.
   * @param {number} from
   * @param {number} to
   */
  *listMonths(from, to) {
    for (let number = this.findMonth(from); number < this.#timeline.months.length && this.#tops[number] < to; number += 1) {
      yield number;
    }
  }

  /**
   * About how many tiles stand between two heights.
   * @param {number} from
   * @param {number} to
   */
  countTiles(from, to) {
    let count = 0;
    for (const number of this.listMonths(from, to)) {
      const layout = this.getLayout(this.#timeline.months[number]);
      const top = this.#tops[number];
      count += layout ? findFirstBelow(layout, to - top) - findFirstBelow(layout, from - top) : 0;
    }
    return count;
  }

  /**
   * @param {Month} month
   * @returns {MonthLayout | null} null if it is not loaded
   */
  getLayout(month) {
    if (!month.assets || this.metrics.width <= 1) {
      return null;
    }
    let layout = this.#layouts.get(month.assets);
    if (!layout) {
      layout = layoutMonth(month.assets, this.metrics);
      this.#layouts.set(month.assets, layout);
    }
    return layout;
  }

  /**
   * Where an asset stands; null if its month is not loaded.
   * @param {Month} month
   * @param {number} index
   */
  getBox(month, index) {
    const layout = this.getLayout(month);
    const number = this.#timeline.months.indexOf(month);
    if (!layout || number < 0) {
      return null;
    }
    const [x, y, width, height] = layout.boxes.subarray(index * 4, index * 4 + 4);
    return { x, y: this.#tops[number] + y, width, height };
  }

  /**
   * Where the upper edge must be for the anchor to be where it was.
   * @param {Anchor} anchor
   */
  locate({ key, id, share, offset }) {
    const number = this.#timeline.months.findIndex((month) => month.key <= key);
    if (number < 0) {
      return this.height;
    }
    const month = this.#timeline.months[number];
    const index = id === null ? -1 : (month.assets?.indexOf(id) ?? -1);
    const box = index < 0 ? null : this.getBox(month, index);
    if (box) {
      return box.y - offset;
    }
    return this.#tops[number] + (month.key === key ? share * this.getHeight(number) : 0);
  }

  /** @param {Month} month */
  #measureMonth(month) {
    const layout = this.getLayout(month);
    if (layout) {
      this.#known.set(month.key, { height: layout.height, count: month.count });
      return layout.height;
    }
    const known = this.#known.get(month.key);
    return known?.count === month.count ? known.height : estimateHeight(month.count, this.metrics);
  }
}
