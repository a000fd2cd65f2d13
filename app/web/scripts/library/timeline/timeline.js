/** The timeline: which months there are, and the assets of those that are loaded. */

import { request } from "../../shell/api.js";
import { bus } from "../../shell/events.js";
import { BucketLoader } from "./bucket-loader.js";

/**
 * `start`: the place of the month's first asset in the whole timeline. `assets` null: not loaded. `isStale`: it has changed at
 * the service since; `changes` counts how often it was found so, `loadedAt` is what it was when `assets` were asked for.
 * @typedef {{
 *   key: string, date: Date, count: number, start: number, isStale: boolean, changes: number, loadedAt: number, error: Error | null, usedAt: number,
 *   assets: import("./month-assets.js").MonthAssets | null,
 * }} Month
 *
 * @typedef {{month: Month, index: number, id: string}} Place
 */

/** More loaded assets than these are forgotten, month by month, the longest unused first. */
const MOST_LOADED = 150_000;
/** With more changed assets than these, each month counts as changed. */
const MOST_SOUGHT = 50;

export class Timeline {
  /** @type {Month[]} newest first */
  months = [];
  total = 0;
  #query;
  #loader = new BucketLoader();
  #uses = 0;
  /** @type {Promise<void> | null} */
  #reading = null;
  /** @type {Set<(change: {months: Month[] | null}) => void>} */
  #listeners = new Set();

  /** @param {Record<string, string>} filters as the parameters of `GET /api/timeline/buckets` */
  constructor(filters = {}) {
    this.#query = new URLSearchParams(filters).toString();
  }

  /** Ends all loads. */
  close() {
    this.#loader.close();
  }

  /**
   * Calls `listener` after a change: with the months whose assets have changed, or with null if the list of months is another.
   * @param {(change: {months: Month[] | null}) => void} listener
   * @returns {() => void}
   */
  onChange(listener) {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  /**
   * Reads the list of months. Those whose count differs, and those of `changed`, are loaded again when they are next wanted.
   * Throws `ApiError`.
   * @param {{changed?: Set<string> | "all", signal?: AbortSignal}} options
   * @returns {Promise<void>}
   */
  refresh(options = {}) {
    const reading = this.#read(options);
    this.#reading = reading;
    return reading;
  }

  /** Waits for the list of months if it is being read, reads it if it is not known, and calls the listeners. Throws `ApiError`. */
  async readMonths() {
    await this.#reading?.catch(() => {});
    if (this.months.length === 0) {
      await this.refresh({ changed: "all" });
    } else {
      this.#emit(null);
    }
  }

  /** @param {{changed?: Set<string> | "all", signal?: AbortSignal}} options */
  async #read({ changed = new Set(), signal }) {
    /** @type {{timeBucket: string, count: number}[]} */
    const buckets = await request("GET", `/timeline/buckets?${this.#query}`, { signal });
    const known = new Map(this.months.map((month) => [month.key, month]));
    let start = 0;
    this.months = buckets.map(({ timeBucket, count }) => {
      const month = known.get(timeBucket) ?? createMonth(timeBucket);
      const isChanged = changed === "all" || (month.assets ?? month).count !== count || mayHaveAny(month, changed);
      Object.assign(month, { start, count, error: null });
      if (isChanged) {
        this.markStale(month);
      }
      start += count;
      return month;
    });
    this.total = start;
    this.#emit(null);
  }

  /**
   * Loads a month that is not loaded or stale. False if the load was aborted. Throws `ApiError`.
   * @param {Month} month
   * @param {{isPinned?: boolean}} options
   * @returns {Promise<boolean>}
   */
  async load(month, options = {}) {
    month.usedAt = this.#uses += 1;
    if (month.assets && !month.isStale) {
      return true;
    }
    const query = [`timeBucket=${month.key}`, this.#query].filter(Boolean).join("&");
    const { changes } = month;
    try {
      const assets = await this.#loader.load(nameLoad(month), `/api/timeline/bucket?${query}`, options);
      if (assets && assets !== month.assets && changes >= month.loadedAt) {
        month.loadedAt = changes;
        this.#accept(month, assets);
      }
      return assets !== null;
    } catch (error) {
      month.error = /** @type {Error} */ (error);
      this.#emit([month]);
      throw error;
    }
  }

  /**
   * Has a month be loaded again when it is next wanted.
   * @param {Month} month
   */
  markStale(month) {
    month.isStale = month.assets !== null;
    month.changes += 1;
  }

  /**
   * Aborts the loads that are not of these months.
   * @param {Month[]} wanted the most wanted first
   */
  keepLoading(wanted) {
    this.#loader.keepOnly(wanted.map(nameLoad));
  }

  /**
   * Takes assets out before the service is asked.
   * @param {Set<string>} ids
   */
  remove(ids) {
    for (const month of this.months) {
      month.assets = month.assets?.without(ids) ?? null;
      month.count = month.assets?.count ?? month.count;
    }
    this.months = this.months.filter((month) => month.count > 0);
    this.#countStarts();
    this.#emit(null);
  }

  /**
   * @param {string} id
   * @returns {Place | null} null if it is in no month that is loaded
   */
  find(id) {
    for (const month of this.months) {
      const index = month.assets?.indexOf(id) ?? -1;
      if (index >= 0) {
        return { month, index, id };
      }
    }
    return null;
  }

  /**
   * The place of an asset, whose month is loaded for it. Null if it is not in the timeline. Throws `ApiError`.
   * @param {string} id
   * @param {string} localDateTime
   * @returns {Promise<Place | null>}
   */
  async locate(id, localDateTime) {
    const key = `${localDateTime.slice(0, 7)}-01`;
    const month = this.months.find((each) => each.key === key);
    if (month) {
      await this.load(month, { isPinned: true });
    }
    return this.find(id);
  }

  /**
   * The asset at a place of the whole timeline, whose month is loaded for it. Null outside. Throws `ApiError`.
   * @param {number} position
   * @returns {Promise<Place | null>}
   */
  async at(position) {
    const month = this.months.find((each) => position >= each.start && position < each.start + each.count);
    if (!month) {
      return null;
    }
    await this.load(month, { isPinned: true });
    const index = position - month.start;
    return month.assets && index < month.assets.count ? { month, index, id: month.assets.getId(index) } : null;
  }

  /**
   * The ids at these places, both included, in their order. Throws `ApiError`.
   * @param {number} first
   * @param {number} last
   * @returns {Promise<string[]>}
   */
  async listIds(first, last) {
    const ids = [];
    for (const month of this.months.filter((each) => each.start <= last && each.start + each.count > first)) {
      await this.load(month, { isPinned: true });
      const assets = month.assets;
      const end = Math.min(last - month.start + 1, assets?.count ?? 0);
      for (let index = Math.max(0, first - month.start); assets && index < end; index += 1) {
        ids.push(assets.getId(index));
      }
    }
    return ids;
  }

  /**
   * @param {Month} month
   * @param {import("./month-assets.js").MonthAssets} assets
   */
  #accept(month, assets) {
    const isCountNew = assets.count !== month.count;
    const hadMore = (month.assets?.count ?? 0) > assets.count;
    Object.assign(month, { assets, isStale: month.changes !== month.loadedAt, error: null, count: assets.count });
    this.#forgetUnused(month);
    if (isCountNew) {
      this.#countStarts();
    }
    this.#emit([month]);
    if (hadMore) {
      bus.emit("assets-added", { ids: [] }); // to other months, perhaps: the date of a photo is known once it has been read
    }
  }

  #countStarts() {
    this.total = 0;
    for (const month of this.months) {
      month.start = this.total;
      this.total += month.count;
    }
  }

  /** @param {Month} kept */
  #forgetUnused(kept) {
    const loaded = this.months.filter((month) => month.assets && month !== kept).sort((one, other) => one.usedAt - other.usedAt);
    let count = loaded.reduce((sum, month) => sum + month.count, kept.count);
    for (const month of loaded) {
      if (count <= MOST_LOADED) {
        return;
      }
      count -= month.count;
      month.assets = null;
    }
  }

  /** @param {Month[] | null} months */
  #emit(months) {
    for (const listener of this.#listeners) {
      listener({ months });
    }
  }
}

/** @param {string} key */
function createMonth(key) {
  return { key, date: new Date(`${key}T00:00:00Z`), count: 0, start: 0, isStale: false, changes: 0, loadedAt: 0, error: null, usedAt: 0, assets: null };
}

/**
 * A name that is another one after each change, so that no load that began before is taken for one that begins now.
 * @param {Month} month
 */
function nameLoad({ key, changes }) {
  return `${key} ${changes}`;
}

/**
 * Whether any of these assets may be of the month. What a month that is not loaded has is not known.
 * @param {Month} month
 * @param {Set<string>} ids
 */
function mayHaveAny({ assets }, ids) {
  if (assets === null || ids.size > MOST_SOUGHT) {
    return ids.size > 0;
  }
  return [...ids].some((id) => assets.indexOf(id) >= 0);
}
