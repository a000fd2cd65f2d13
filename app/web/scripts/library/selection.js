/** What is selected: ids, in the order of their selection. */

import { bus } from "../shell/events.js";

class Selection {
  /** @type {Set<string>} */
  #ids = new Set();

  get size() {
    return this.#ids.size;
  }

  /** @param {string} id */
  has(id) {
    return this.#ids.has(id);
  }

  /**
   * @param {string} id
   * @param {{range: boolean, index: number}} options
   */
  toggle(id, options) {
    void options;
    if (!this.#ids.delete(id)) {
      this.#ids.add(id);
    }
    this.#emit();
  }

  /**
   * Selects all of these, or none of them if all are selected.
   * @param {string[]} ids
   */
  toggleAll(ids) {
    const areSelected = ids.every((id) => this.#ids.has(id));
    ids.forEach((id) => (areSelected ? this.#ids.delete(id) : this.#ids.add(id)));
    this.#emit();
  }

  clear() {
    this.#ids.clear();
    this.#emit();
  }

  #emit() {
    bus.emit("selection-changed", { ids: new Set(this.#ids) });
  }
}

export const selection = new Selection();
