/** Pointer and keyboard on the grid: opening, selecting, and moving the focus from tile to tile. */

import { isShortcutEvent, registerShortcuts } from "../../shell/keyboard.js";
import { navigate } from "../../shell/router.js";
import { text } from "../../shell/text.js";

/**
 * @typedef {import("./grid.js").Grid} Grid
 * @typedef {import("../timeline/timeline.js").Place} Place
 *
 * What the grid needs of the selection. `index` is the place in the whole timeline, `range`: up to the last one that was toggled.
 * @typedef {{
 *   size: number,
 *   toggle: (id: string, options: {range: boolean, index: number}) => void,
 *   toggleAll: (ids: string[]) => void,
 * }} Selection
 */

registerShortcuts(text("shortcuts.grid"), [
  { keys: ["ArrowLeft", "ArrowRight"], label: text("shortcuts.grid.step") },
  { keys: ["ArrowUp", "ArrowDown"], label: text("shortcuts.grid.row") },
  { keys: ["PageUp", "PageDown"], label: text("shortcuts.grid.page") },
  { keys: ["Home", "End"], label: text("shortcuts.grid.ends") },
  { keys: ["Enter"], label: text("shortcuts.grid.open") },
  { keys: [" "], label: text("shortcuts.grid.select") },
  { keys: ["Shift", " "], label: text("shortcuts.grid.range") },
  { keys: ["d"], label: text("shortcuts.grid.day") },
]);

export class GridInput {
  #grid;
  #selection;
  #opensViewer;
  #moves = 0;

  /**
   * @param {Grid} grid
   * @param {Selection} selection
   * @param {{opensViewer?: boolean}} options without the viewer a click selects
   */
  constructor(grid, selection, { opensViewer = true } = {}) {
    this.#grid = grid;
    this.#selection = selection;
    this.#opensViewer = opensViewer;
    grid.element.addEventListener("click", (event) => this.#click(event));
    grid.element.addEventListener("keydown", (event) => this.#press(event));
    grid.element.addEventListener("dragstart", (event) => event.preventDefault());
  }

  /**
   * Moves the focus to an asset whose month is loaded.
   * @param {Place} place
   * @param {{center?: boolean}} options
   */
  focus(place, options = {}) {
    this.#grid.reveal(place, options);
    this.#grid.getLink(place)?.focus({ preventScroll: true });
  }

  /** @param {MouseEvent} event */
  #click(event) {
    const target = /** @type {Element} */ (event.target);
    const day = target.closest(".day-check")?.parentElement;
    if (day) {
      this.#toggleDay(target, Number(day.dataset.start));
      return;
    }
    const place = this.#findPlace(target);
    const opensTab = event.button !== 0 || event.ctrlKey || event.metaKey;
    if (!place || opensTab) {
      return;
    }
    event.preventDefault();
    if (target.closest(".tile-check") || !this.#opensViewer || this.#selection.size > 0 || event.shiftKey) {
      this.#toggle(place, event.shiftKey);
    } else {
      navigate(`/photos/${place.id}`);
    }
  }

  /** @param {KeyboardEvent} event */
  async #press(event) {
    const place = this.#findPlace(/** @type {Element} */ (event.target));
    if (!place || !isShortcutEvent(event)) {
      return;
    }
    if (event.key === " ") {
      event.preventDefault();
      this.#toggle(place, event.shiftKey);
    } else if (event.key === "d") {
      event.preventDefault();
      this.#toggleDay(/** @type {Element} */ (event.target), place.index);
    } else if (event.key in STEPS) {
      event.preventDefault();
      await this.#move(place, event.key);
    }
  }

  /**
   * @param {Place} place
   * @param {string} key
   */
  async #move(place, key) {
    this.#moves += 1;
    const move = this.#moves;
    const { timeline } = this.#grid;
    const position = place.month.start + place.index;
    const step = STEPS[key];
    try {
      const target =
        step.rows === 0
          ? await timeline.at(Math.min(Math.max(step.target(position, timeline.total), 0), timeline.total - 1))
          : await this.#findRow(place, step.rows);
      if (target && move === this.#moves) {
        this.focus(target);
      }
    } catch {
      // The month could not be loaded; the grid says so where it stands.
    }
  }

  /**
   * The asset in the next row in a direction (1 or -1), or, with 2 or -2, a screen further or at the end; nearest to the one at `place`.
   * @param {Place} place
   * @param {number} rows
   */
  async #findRow(place, rows) {
    const { measures, timeline } = this.#grid;
    const start = measures.getBox(place.month, place.index);
    if (!start) {
      return null;
    }
    const direction = Math.sign(rows);
    const isPage = Math.abs(rows) > 1;
    const pages = isPage ? this.#grid.position.viewport - start.height : 0;
    const center = start.x + start.width / 2;
    let position = place.month.start + place.index;
    /** @type {{place: Place, y: number, distance: number} | null} */
    let best = null;
    for (;;) {
      position += direction;
      const next = await timeline.at(position);
      const box = next && measures.getBox(next.month, next.index);
      if (!next || !box) {
        return best?.place ?? (isPage ? timeline.at(position - direction) : null);
      }
      const isBeyond = direction > 0 ? box.y >= start.y + pages && box.y > start.y : box.y <= start.y - pages && box.y < start.y;
      if (best && box.y !== best.y) {
        return best.place;
      }
      const distance = Math.max(box.x - center, center - box.x - box.width, 0);
      if (isBeyond && (!best || distance < best.distance)) {
        best = { place: next, y: box.y, distance };
      }
    }
  }

  /**
   * @param {Place} place
   * @param {boolean} range
   */
  #toggle({ month, index, id }, range) {
    this.#selection.toggle(id, { range, index: month.start + index });
  }

  /**
   * @param {Element} target
   * @param {number} index of an asset of the day
   */
  #toggleDay(target, index) {
    const key = target.closest("section")?.dataset.month;
    const month = this.#grid.timeline.months.find((each) => each.key === key);
    const layout = month && this.#grid.measures.getLayout(month);
    const day = layout?.days.find((each) => each.start <= index && index < each.end);
    const assets = month?.assets;
    if (day && assets) {
      this.#selection.toggleAll(Array.from({ length: day.end - day.start }, (_, place) => assets.getId(day.start + place)));
    }
  }

  /**
   * @param {Element} target
   * @returns {Place | null}
   */
  #findPlace(target) {
    const id = target.closest(".tile")?.getAttribute("data-id");
    return id ? this.#grid.timeline.find(id) : null;
  }
}

/** @type {Record<string, {rows: number, target: (position: number, total: number) => number}>} */
const STEPS = {
  ArrowLeft: { rows: 0, target: (position) => position - 1 },
  ArrowRight: { rows: 0, target: (position) => position + 1 },
  Home: { rows: 0, target: () => 0 },
  End: { rows: 0, target: (_, total) => total - 1 },
  ArrowUp: { rows: -1, target: (position) => position },
  ArrowDown: { rows: 1, target: (position) => position },
  PageUp: { rows: -2, target: (position) => position },
  PageDown: { rows: 2, target: (position) => position },
};
