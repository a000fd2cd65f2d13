/** A list that holds elements only for the rows that can be seen. All rows have the same height. */

import { element } from "../../shell/dom.js";

const OVERSCAN_ROWS = 4;

/**
 * @template Item
 * @typedef {object} Row
 * @property {HTMLElement} node
 * @property {(item: Item) => void} update
 */

/** @template Item */
export class VirtualList {
  /** @type {readonly Item[]} */
  #items = [];
  /** @type {Map<Item, Row<Item>>} */
  #rows = new Map();
  #rowHeight;
  #createRow;
  #content = element("div", { class: "virtual-list-content", role: "list" });

  /**
   * @param {{label: string, rowHeight: number, createRow: (item: Item) => Row<Item>}} options `rowHeight` in pixels
   */
  constructor({ label, rowHeight, createRow }) {
    this.#rowHeight = rowHeight;
    this.#createRow = createRow;
    this.#content.setAttribute("aria-label", label);
    this.node = element("div", { class: "virtual-list", tabindex: "0", onscroll: () => this.#render() }, this.#content);
    new ResizeObserver(() => this.#render()).observe(this.node);
  }

  /** @param {readonly Item[]} items */
  show(items) {
    this.#items = items;
    this.#content.style.setProperty("height", `${items.length * this.#rowHeight}px`);
    this.#render();
  }

  #render() {
    const first = Math.max(Math.floor(this.node.scrollTop / this.#rowHeight) - OVERSCAN_ROWS, 0);
    const count = Math.ceil(this.node.clientHeight / this.#rowHeight) + 2 * OVERSCAN_ROWS;
    const visible = this.#items.slice(first, first + count);
    const wanted = new Set(visible);
    for (const [item, row] of this.#rows) {
      if (!wanted.has(item)) {
        row.node.remove();
        this.#rows.delete(item);
      }
    }
    visible.forEach((item, index) => this.#place(item, first + index));
  }

  /**
   * @param {Item} item
   * @param {number} index
   */
  #place(item, index) {
    let row = this.#rows.get(item);
    if (row === undefined) {
      row = this.#createRow(item);
      row.node.setAttribute("role", "listitem");
      this.#rows.set(item, row);
    }
    row.node.style.setProperty("transform", `translateY(${index * this.#rowHeight}px)`);
    row.node.setAttribute("aria-posinset", String(index + 1));
    row.node.setAttribute("aria-setsize", String(this.#items.length));
    row.update(item);
    const previous = this.#rows.get(this.#items[index - 1]);
    if (previous === undefined ? this.#content.firstElementChild !== row.node : previous.node.nextElementSibling !== row.node) {
      moveKeepingFocus(row.node, () => (previous === undefined ? this.#content.prepend(row.node) : previous.node.after(row.node)));
    }
  }
}

/**
 * An element that moves in the document loses the focus.
 * @param {HTMLElement} node
 * @param {() => void} move
 */
function moveKeepingFocus(node, move) {
  const focused = node.contains(document.activeElement) ? document.activeElement : null;
  move();
  if (focused instanceof HTMLElement) {
    focused.focus({ preventScroll: true });
  }
}
