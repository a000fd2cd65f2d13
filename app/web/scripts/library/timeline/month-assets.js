/** The assets of one month, newest first, read from packed columns. */

import { IS_FAVORITE, IS_IMAGE, readId, writeId } from "./packed-columns.js";

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
    const [start, end] = [this.#packed.hashStarts[index], this.#packed.hashStarts[index + 1]];
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

  /** @returns {boolean} whether some asset still waits for its thumbnail */
  hasPending() {
    const starts = this.#packed.hashStarts;
    return starts.some((start, index) => index + 1 < starts.length && starts[index + 1] === start);
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
  const hashParts = rows.map((row) => packed.hashes.subarray(packed.hashStarts[row], packed.hashStarts[row + 1]));
  const hashStarts = new Uint32Array(rows.length + 1);
  hashParts.forEach((part, index) => {
    hashStarts[index + 1] = hashStarts[index] + part.length;
  });
  const hashes = new Uint8Array(hashStarts[rows.length]);
  hashParts.forEach((part, index) => hashes.set(part, hashStarts[index]));
  const ids = new Uint8Array(rows.length * 16);
  const liveIds = new Uint8Array(rows.length * 16);
  rows.forEach((row, index) => {
    ids.set(packed.ids.subarray(row * 16, row * 16 + 16), index * 16);
    liveIds.set(packed.liveIds.subarray(row * 16, row * 16 + 16), index * 16);
  });
  return {
    count: rows.length,
    ids,
    liveIds,
    times: Float64Array.from(rows, (row) => packed.times[row]),
    ratios: Float32Array.from(rows, (row) => packed.ratios[row]),
    flags: Uint8Array.from(rows, (row) => packed.flags[row]),
    durations: Uint32Array.from(rows, (row) => packed.durations[row]),
    hashStarts,
    hashes,
  };
}
