/** The assets of one month, newest first, read from packed columns. */

import { IS_FAVORITE, IS_IMAGE, PER_ASSET, readId, writeId } from "./packed-columns.js";

/** @typedef {import("./packed-columns.js").PackedColumns} PackedColumns */

export class MonthAssets {
  #packed;

  /** @param {PackedColumns} packed */
  constructor(packed) {
    this.#packed = packed;
  }

  get count() {
    return this.#packed.count;
  }

  /** @param {number} index */
  getId(index) {
    return readId(this.#packed.ids, index);
  }

  /**
   * @param {number} index
   * @returns {number} width by height
   */
  getRatio(index) {
    return this.#packed.ratios[index];
  }

  /**
   * @param {number} index
   * @returns {number} local time in milliseconds, as if it were UTC
   */
  getTime(index) {
    return this.#packed.times[index];
  }

  /** @param {number} index */
  isImage(index) {
    return (this.#packed.flags[index] & IS_IMAGE) !== 0;
  }

  /** @param {number} index */
  isFavorite(index) {
    return (this.#packed.flags[index] & IS_FAVORITE) !== 0;
  }

  /**
   * @param {number} index
   * @returns {number} milliseconds, 0 if it is no video
   */
  getDuration(index) {
    return this.#packed.durations[index];
  }

  /**
   * @param {number} index
   * @returns {string | null} the id of the video of a live photo
   */
  getLiveId(index) {
    const start = index * 16;
    const isNone = this.#packed.liveIds.subarray(start, start + 16).every((value) => value === 0);
    return isNone ? null : readId(this.#packed.liveIds, index);
  }

  /**
   * @param {number} index
   * @returns {Uint8Array | null} null while no thumbnail has been made
   */
  getThumbhash(index) {
    const [start, end] = [this.#packed.hashStarts[index], this.#packed.hashEnds[index]];
    return end > start ? this.#packed.hashes.subarray(start, end) : null;
  }

  /**
   * @param {string} id
   * @returns {number} -1 if it is not of this month
   */
  indexOf(id) {
    const wanted = new Uint8Array(16);
    writeId(wanted, 0, id);
    const ids = this.#packed.ids;
    for (let start = 0; start < ids.length; start += 16) {
      let place = 0;
      while (place < 16 && ids[start + place] === wanted[place]) {
        place += 1;
      }
      if (place === 16) {
        return start / 16;
      }
    }
    return -1;
  }

  /**
   * The month without these assets.
   * @param {Set<string>} ids
   * @returns {MonthAssets}
   */
  without(ids) {
    const gone = new Set([...ids].map((id) => this.indexOf(id)));
    const kept = [...Array(this.count).keys()].filter((index) => !gone.has(index));
    return kept.length === this.count ? this : new MonthAssets(selectRows(this.#packed, kept));
  }
}

/**
 * @param {PackedColumns} packed
 * @param {number[]} rows
 * @returns {PackedColumns}
 */
function selectRows(packed, rows) {
  const selected = { ...packed, count: rows.length };
  for (const name of PER_ASSET) {
    const column = packed[name];
    const size = column.length / packed.count;
    const kept = new (/** @type {any} */ (column).constructor)(rows.length * size);
    rows.forEach((row, index) => kept.set(column.subarray(row * size, (row + 1) * size), index * size));
    Object.assign(selected, { [name]: kept });
  }
  return selected;
}
