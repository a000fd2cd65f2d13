/** What is selected: ids, in the order of their selection. */

import { showError } from "../shell/errors.js";
import { bus } from "../shell/events.js";

/**
 * What a selection is made from: the timeline that is shown.
 * @typedef {{
 *   total: number,
 *   find: (id: string) => {month: {start: number}, index: number} | null,
 *   listIds: (first: number, last: number) => Promise<string[]>,
 *   refresh: (options: {changed: Set<string>}) => Promise<void>,
 * }} Source
 *
 * @typedef {{id: string, index: number}} Anchor where a range begins; `index` is its place in the whole timeline
 */

export class AssetSelection {
  /** @type {Set<string>} */
  #ids = new Set();
  /** @type {Source | null} */
  #source = null;
  /** @type {Anchor | null} */
  #anchor = null;
  #changes = 0;

  get size() {
    return this.#ids.size;
  }

  /** @returns {string[]} */
  get ids() {
    return [...this.#ids];
  }

  /** @param {string} id */
  has(id) {
    return this.#ids.has(id);
  }

  /**
   * Begins anew with another timeline.
   * @param {Source | null} source
   */
  setSource(source) {
    this.#source = source;
    this.clear();
  }

  /**
   * Selects one that is not selected, and the other way round. With `range`: selects all from the one before up to this one.
   * @param {string} id
   * @param {{range: boolean, index: number}} options
   */
  toggle(id, { range, index }) {
    if (range && this.#anchor !== null) {
      this.extend(new Set(this.#ids), this.#anchor, { id, index }).catch(showError);
      return;
    }
    this.#anchor = { id, index };
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

  /**
   * Selects `others` and all from `anchor` to `end`; of several calls the latest counts. Throws `ApiError`.
   * @param {ReadonlySet<string>} others
   * @param {Anchor} anchor
   * @param {Anchor} end
   */
  async extend(others, anchor, end) {
    const change = (this.#changes += 1);
    const places = [this.#locate(anchor), this.#locate(end)];
    const ids = (await this.#source?.listIds(Math.min(...places), Math.max(...places))) ?? [];
    if (change === this.#changes) {
      this.#anchor = anchor;
      this.#ids = new Set([...others, ...ids]);
      this.#emit();
    }
  }

  /** Selects everything. Throws `ApiError`. */
  async selectAll() {
    const change = (this.#changes += 1);
    const ids = (await this.#source?.listIds(0, this.#source.total - 1)) ?? [];
    if (change === this.#changes) {
      this.#ids = new Set(ids);
      this.#emit();
    }
  }

  /** @param {string[]} ids are not there any more */
  remove(ids) {
    const before = this.#ids.size;
    ids.forEach((id) => this.#ids.delete(id));
    if (this.#ids.size < before) {
      this.#emit();
    }
  }

  /**
   * Reads the timeline again, and takes out what is not there any more. Throws `ApiError`.
   * @returns {Promise<boolean>} whether there was any
   */
  async refresh() {
    const before = this.size;
    await this.#source?.refresh({ changed: this.#ids });
    const found = new Set(await this.#source?.listIds(0, this.#source.total - 1));
    this.remove(this.ids.filter((id) => !found.has(id)));
    return this.size < before;
  }

  clear() {
    this.#anchor = null;
    this.#ids.clear();
    this.#emit();
  }

  /**
   * The place of an asset now: what was added or removed since has moved it.
   * @param {Anchor} anchor
   */
  #locate({ id, index }) {
    const place = this.#source?.find(id);
    return place ? place.month.start + place.index : index;
  }

  #emit() {
    this.#changes += 1;
    bus.emit("selection-changed", { ids: new Set(this.#ids) });
  }
}

export const selection = new AssetSelection();
bus.on("assets-removed", ({ ids }) => selection.remove(ids));
