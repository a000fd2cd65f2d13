/** Loads months through the worker: a bounded number at once, the most wanted first, what is no longer wanted aborted. */

import { ApiError } from "../../shell/api.js";
import { reportReachability } from "../../shell/connection.js";
import { text } from "../../shell/text.js";
import { MonthAssets } from "./month-assets.js";

const MOST_AT_ONCE = 3;

/**
 * @typedef {{
 *   number: number, key: string, url: string, isPinned: boolean, isStarted: boolean, promise: Promise<MonthAssets | null>,
 *   settle: (assets: MonthAssets | null) => void, fail: (error: unknown) => void,
 * }} Load
 */

export class BucketLoader {
  /** @type {Map<string, Load>} */
  #loads = new Map();
  #numbers = 0;
  /** @type {Worker | null} */
  #worker = this.#start();

  /**
   * The assets of a month; null if the load was aborted because nothing wanted it any more. A pinned load is not aborted.
   * Throws `ApiError`.
   * @param {string} key
   * @param {string} url
   * @param {{isPinned?: boolean}} options
   * @returns {Promise<MonthAssets | null>}
   */
  load(key, url, { isPinned = false } = {}) {
    const known = this.#loads.get(key);
    if (known) {
      known.isPinned ||= isPinned;
      return known.promise;
    }
    this.#numbers += 1;
    /** @type {any} */
    const load = { number: this.#numbers, key, url, isPinned, isStarted: false };
    load.promise = new Promise((settle, fail) => Object.assign(load, { settle, fail }));
    this.#loads.set(key, load);
    this.#startNext();
    return load.promise;
  }

  /**
   * Aborts all loads but the pinned and those of these keys, which start in this order.
   * @param {string[]} wanted
   */
  keepOnly(wanted) {
    const keys = new Set(wanted);
    for (const load of [...this.#loads.values()]) {
      if (!load.isPinned && !keys.has(load.key)) {
        this.#abort(load);
      }
    }
    for (const key of wanted) {
      const load = this.#loads.get(key);
      if (load && !load.isStarted) {
        this.#loads.delete(key);
        this.#loads.set(key, load);
      }
    }
  }

  /** Ends all loads, and the worker. */
  close() {
    for (const load of this.#loads.values()) {
      load.settle(null);
    }
    this.#loads.clear();
    this.#worker?.terminate();
  }

  /** A worker that has failed, as its script is not there after an update of the service, is replaced for the next load. */
  #start() {
    const worker = new Worker(new URL("./bucket-worker.js", import.meta.url), { type: "module" });
    worker.onmessage = ({ data }) => this.#finish(data);
    worker.onerror = () => {
      worker.terminate();
      this.#worker = null;
      [...this.#loads.values()].forEach(({ number }) => this.#finish({ number, status: 404, message: "" }));
    };
    return worker;
  }

  /** @param {Load} load */
  #abort(load) {
    if (load.isStarted) {
      this.#worker?.postMessage({ number: load.number, abort: true });
    }
    this.#loads.delete(load.key);
    load.settle(null);
    this.#startNext();
  }

  #startNext() {
    const loads = [...this.#loads.values()];
    let running = loads.filter((load) => load.isStarted).length;
    for (const load of loads.sort((one, other) => Number(other.isPinned) - Number(one.isPinned))) {
      if (!load.isStarted && running < MOST_AT_ONCE) {
        load.isStarted = true;
        running += 1;
        this.#worker ??= this.#start();
        this.#worker.postMessage({ number: load.number, url: load.url });
      }
    }
  }

  /** @param {{number: number, packed?: import("./packed-columns.js").PackedColumns, status: number, message: string}} answer */
  #finish({ number, packed, status, message }) {
    const load = [...this.#loads.values()].find((each) => each.number === number);
    if (!load) {
      return;
    }
    this.#loads.delete(load.key);
    this.#startNext();
    if (packed) {
      reportReachability(true);
      load.settle(new MonthAssets(packed));
      return;
    }
    reportReachability(status !== 0);
    if (status === 401) {
      dispatchEvent(new CustomEvent("signed-out"));
    }
    const fallback = status === 0 ? text("error.unreachable") : text("error.status", { status });
    load.fail(new ApiError(status, message || fallback));
  }
}
