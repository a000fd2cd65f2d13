/** One month in the grid: its headings, and those of its tiles that are near the screen. */

import { element, icon } from "../../shell/dom.js";
import { formatDay, formatMonth } from "../../shell/format.js";
import { text } from "../../shell/text.js";
import { findFirstBelow } from "./layout.js";
import { Tile } from "./tile.js";

/**
 * @typedef {import("../timeline/timeline.js").Month} Month
 * @typedef {import("./layout.js").MonthLayout} MonthLayout
 * @typedef {import("./layout.js").Day} Day
 */

export class MonthSection {
  /** @type {Map<string, Tile>} */
  tiles = new Map();
  top = 0;
  /** @type {Map<number, HTMLElement>} */
  #days = new Map();
  /** @type {MonthLayout | null} */
  #layout = null;
  #failure;

  /**
   * @param {Month} month
   * @param {{onRetry: (month: Month) => void}} options
   */
  constructor(month, { onRetry }) {
    this.month = month;
    const name = formatMonth(month.date);
    this.#failure = element(
      "div",
      { class: "month-failure", hidden: true },
      element("span", {}, text("grid.month.failed")),
      element("button", { class: "button", onclick: () => onRetry(this.month) }, icon("retry"), text("error.retry")),
    );
    this.element = element(
      "section",
      { class: "month", "aria-label": name, dataset: { month: month.key } },
      element("h2", { class: "month-title" }, name),
      this.#failure,
    );
  }

  /**
   * @param {number} top on the scroller
   * @param {number} height
   */
  place(top, height) {
    this.top = top;
    this.element.style.transform = `translateY(${top}px)`;
    this.element.style.height = `${height}px`;
  }

  /** Shows that the month is not there yet, or could not be loaded. */
  showMissing() {
    this.#clear();
    this.element.classList.toggle("is-loading", !this.month.error);
    this.#failure.hidden = !this.month.error;
  }

  /**
   * Shows the tiles between two heights below the month's top.
   * @param {MonthLayout} layout
   * @param {number} from
   * @param {number} to
   * @param {Tile | null} kept a tile that stays wherever it is
   */
  show(layout, from, to, kept) {
    const assets = /** @type {import("../timeline/month-assets.js").MonthAssets} */ (this.month.assets);
    if (layout !== this.#layout) {
      this.element.classList.remove("is-loading");
      this.#failure.hidden = true;
      this.#removeDays();
      this.#layout = layout;
    }
    const [start, end] = [findFirstBelow(layout, from), findEnd(layout, to)];
    const wanted = new Map();
    for (let index = start; index < end; index += 1) {
      wanted.set(assets.getId(index), index);
    }
    const keptIndex = kept && !wanted.has(kept.id) ? assets.indexOf(kept.id) : -1;
    if (kept && keptIndex >= 0) {
      wanted.set(kept.id, keptIndex);
    }
    this.#removeTiles((id) => !wanted.has(id));
    const entries = this.#showDays(layout, from, to);
    for (const [id, index] of wanted) {
      const tile = this.tiles.get(id) ?? new Tile(id);
      this.tiles.set(id, tile);
      tile.update(assets, index, layout.boxes);
      entries.push({ index, element: tile.element });
    }
    this.#arrange(entries);
  }

  remove() {
    this.#clear();
    this.element.remove();
  }

  #clear() {
    this.#removeTiles(() => true);
    this.#removeDays();
    this.#layout = null;
  }

  #removeDays() {
    for (const heading of this.#days.values()) {
      heading.remove();
    }
    this.#days.clear();
  }

  /** @param {(id: string) => boolean} isUnwanted */
  #removeTiles(isUnwanted) {
    for (const [id, tile] of this.tiles) {
      if (isUnwanted(id)) {
        tile.remove();
        this.tiles.delete(id);
      }
    }
  }

  /**
   * @param {MonthLayout} layout
   * @param {number} from
   * @param {number} to
   * @returns {{index: number, element: HTMLElement}[]} the headings, each with its place just before its first asset
   */
  #showDays({ days }, from, to) {
    const near = days.filter(({ y }, number) => y < to && (days[number + 1] ? Math.max(days[number + 1].y, y + 1) : Infinity) > from);
    const starts = new Set(near.map((day) => day.start));
    for (const [start, heading] of this.#days) {
      if (!starts.has(start)) {
        heading.remove();
        this.#days.delete(start);
      }
    }
    return near.map((day) => {
      const heading = this.#days.get(day.start) ?? this.#buildDay(day);
      this.#days.set(day.start, heading);
      return { index: day.start - 0.5, element: heading };
    });
  }

  /**
   * Brings elements into their order; those that stand right are not touched, so that the focus stays.
   * @param {{index: number, element: HTMLElement}[]} entries
   */
  #arrange(entries) {
    /** @type {Element} */
    let before = this.#failure;
    for (const { element: node } of entries.sort((one, other) => one.index - other.index)) {
      if (node.previousElementSibling !== before) {
        before.after(node);
      }
      before = node;
    }
  }

  /** @param {Day} day */
  #buildDay(day) {
    const name = formatDay(new Date(this.month.assets?.getTime(day.start) ?? 0));
    return element(
      "div",
      { class: "day", style: { transform: `translate(${day.x}px, ${day.y}px)`, width: `${day.width}px` }, dataset: { start: day.start, end: day.end } },
      element("h3", { class: "day-title" }, name),
      element("button", { class: "day-check", tabindex: "-1", "aria-label": text("grid.day.select", { day: name }), title: text("grid.day.select", { day: name }) }, icon("check")),
    );
  }
}

/**
 * The first asset of the layout that begins at or below `y`.
 * @param {MonthLayout} layout
 * @param {number} y
 */
function findEnd({ boxes }, y) {
  let [low, high] = [0, boxes.length / 4];
  while (low < high) {
    const middle = (low + high) >> 1;
    if (boxes[middle * 4 + 1] >= y) {
      high = middle;
    } else {
      low = middle + 1;
    }
  }
  return low;
}
