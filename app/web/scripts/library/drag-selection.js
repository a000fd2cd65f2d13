/** Selecting by drawing over the grid: with the mouse at once, with a finger after a long press. */

import { showError } from "../shell/errors.js";
import { isOverlayOpen } from "../shell/router.js";

const LONG_PRESS_MS = 450;
const SLOP_PIXELS = 8;
const EDGE_PIXELS = 72;
const MOST_SCROLL_PIXELS = 24;

/**
 * @typedef {import("./grid/grid.js").Grid} Grid
 * @typedef {import("./selection.js").AssetSelection} Selection
 * @typedef {import("./selection.js").Anchor} Anchor
 * @typedef {{anchor: Anchor, others: ReadonlySet<string>, last: string}} Drag
 */

export class DragSelection {
  #grid;
  #selection;
  /** @type {{x: number, y: number, anchor: Anchor, pointerId: number} | null} */
  #press = null;
  /** @type {Drag | null} */
  #drag = null;
  #pointer = { x: 0, y: 0 };
  #pressTimer = 0;
  #frame = 0;
  #ignoresClick = false;
  #listening = new AbortController();

  /**
   * @param {Grid} grid
   * @param {Selection} selection
   */
  constructor(grid, selection) {
    this.#grid = grid;
    this.#selection = selection;
    const { signal } = this.#listening;
    const node = grid.element;
    node.addEventListener("pointerdown", (event) => this.#begin(event), { signal });
    addEventListener("pointermove", (event) => this.#move(event), { signal });
    addEventListener("pointerup", () => this.#end(), { signal });
    addEventListener("pointercancel", () => this.#end(), { signal });
    node.addEventListener("contextmenu", (event) => this.#drag && event.preventDefault(), { signal });
    node.addEventListener("touchmove", (event) => this.#drag && event.preventDefault(), { signal, passive: false });
    addEventListener("click", (event) => this.#filterClick(event), { signal, capture: true });
  }

  close() {
    this.#end();
    this.#listening.abort();
  }

  /** @param {PointerEvent} event */
  #begin(event) {
    this.#ignoresClick = false;
    const anchor = this.#findTile(event.target);
    if (event.button !== 0 || !event.isPrimary || event.shiftKey || anchor === null || isOverlayOpen()) {
      return;
    }
    this.#press = { x: event.clientX, y: event.clientY, anchor, pointerId: event.pointerId };
    this.#pointer = { x: event.clientX, y: event.clientY };
    if (event.pointerType !== "mouse") {
      this.#pressTimer = setTimeout(() => this.#start(), LONG_PRESS_MS);
    }
  }

  /** @param {PointerEvent} event */
  #move(event) {
    if (this.#press === null || event.pointerId !== this.#press.pointerId) {
      return;
    }
    this.#pointer = { x: event.clientX, y: event.clientY };
    const distance = Math.hypot(event.clientX - this.#press.x, event.clientY - this.#press.y);
    if (this.#drag === null && distance > SLOP_PIXELS) {
      if (event.pointerType !== "mouse") {
        this.#end(); // the finger scrolls
        return;
      }
      this.#start();
    }
    this.#reach();
  }

  #start() {
    if (this.#press !== null) {
      const { anchor } = this.#press;
      this.#drag = { anchor, others: new Set(this.#selection.ids), last: "" };
      this.#ignoresClick = true;
      this.#reach();
      this.#scroll();
    }
  }

  /** Selects up to the tile under the pointer. */
  #reach() {
    const drag = this.#drag;
    const end = drag && this.#findTile(document.elementFromPoint(this.#pointer.x, this.#pointer.y));
    if (drag !== null && end && end.id !== drag.last) {
      drag.last = end.id;
      this.#selection.extend(drag.others, drag.anchor, end).catch(showError);
    }
  }

  /** Near the upper and lower edge of the grid the grid moves on. */
  #scroll() {
    const box = this.#grid.element.parentElement?.getBoundingClientRect();
    if (this.#drag === null || box === undefined) {
      return;
    }
    const above = box.top + EDGE_PIXELS - this.#pointer.y;
    const below = this.#pointer.y - (box.bottom - EDGE_PIXELS);
    const share = Math.min(Math.max(above, below, 0) / EDGE_PIXELS, 1);
    if (share > 0) {
      this.#grid.scrollTo(this.#grid.position.top + Math.sign(below - above) * share * MOST_SCROLL_PIXELS);
      this.#reach();
    }
    this.#frame = requestAnimationFrame(() => this.#scroll());
  }

  #end() {
    clearTimeout(this.#pressTimer);
    cancelAnimationFrame(this.#frame);
    this.#press = null;
    this.#drag = null;
  }

  /**
   * The click that ends a drag opens nothing.
   * @param {MouseEvent} event
   */
  #filterClick(event) {
    if (this.#ignoresClick && event.detail > 0) {
      this.#ignoresClick = false;
      event.preventDefault();
      event.stopPropagation();
    }
  }

  /**
   * @param {EventTarget | null} target
   * @returns {Anchor | null}
   */
  #findTile(target) {
    const id = target instanceof Element ? target.closest(".tile")?.getAttribute("data-id") : null;
    const place = id && this.#grid.element.contains(/** @type {Element} */ (target)) ? this.#grid.timeline.find(id) : null;
    return place ? { id: place.id, index: place.month.start + place.index } : null;
  }
}
