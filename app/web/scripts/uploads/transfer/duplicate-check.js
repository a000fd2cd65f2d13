/** Asks the server which files it has already: many at once where many come, and without delay for the last ones. */

import { exchange } from "./exchange.js";
import { chooseDelay, decide, pauseBeforeRetry } from "./retry.js";

const BATCH_FILES = 500;
const INTERVAL_MS = 250;

/**
 * @typedef {import("../queue/entry.js").Entry} Entry
 * @typedef {{assetId: string, isTrashed: boolean}} Holder the asset that has these bytes
 */

/** Entries whose state is not `checking` any more are passed over. */
export class DuplicateCheck {
  /** @type {Entry[]} */
  #waiting = [];
  #isAsking = false;
  #nextAt = 0;
  #timer = 0;
  #onAnswer;
  #onFailure;

  /**
   * @param {(entry: Entry, holder: Holder | undefined) => void} onAnswer
   * @param {(entry: Entry, error: unknown) => void} onFailure
   */
  constructor(onAnswer, onFailure) {
    this.#onAnswer = onAnswer;
    this.#onFailure = onFailure;
  }

  /** @param {Entry} entry */
  add(entry) {
    this.#waiting.push(entry);
  }

  /**
   * Asks, unless a question is under way, or more files are about to come.
   * @param {boolean} willMoreCome
   */
  advance(willMoreCome) {
    clearTimeout(this.#timer);
    if (this.#isAsking || this.#waiting.length === 0) {
      return;
    }
    const delay = this.#nextAt - performance.now();
    if (delay > 0 && willMoreCome && this.#waiting.length < BATCH_FILES) {
      this.#timer = setTimeout(() => this.#ask(), delay);
    } else {
      void this.#ask();
    }
  }

  async #ask() {
    this.#isAsking = true;
    const batch = this.#waiting.splice(0, BATCH_FILES).filter((entry) => entry.state === "checking");
    try {
      const holders = await findHolders([...new Set(batch.map((entry) => entry.sha1 ?? ""))]);
      this.#settle(batch, (entry) => this.#onAnswer(entry, holders.get(entry.sha1 ?? "")));
    } catch (error) {
      this.#settle(batch, (entry) => this.#onFailure(entry, error));
    }
  }

  /**
   * @param {Entry[]} batch
   * @param {(entry: Entry) => void} act
   */
  #settle(batch, act) {
    this.#isAsking = false;
    this.#nextAt = performance.now() + INTERVAL_MS;
    for (const entry of batch) {
      if (entry.state === "checking") {
        act(entry);
      }
    }
  }
}

/**
 * Tries again while the server cannot be reached.
 * @param {string[]} digests SHA-1 in hex
 * @returns {Promise<Map<string, Holder>>} by digest. Rejects with `RequestRefused`.
 */
async function findHolders(digests) {
  const signal = new AbortController().signal;
  const body = new Blob([JSON.stringify({ assets: digests.map((sha1) => ({ id: sha1, checksum: sha1 })) })]);
  const headers = { "Content-Type": "application/json" };
  for (let failures = 1; ; failures++) {
    try {
      const { json } = await exchange("POST", "/api/assets/bulk-upload-check", { headers, body, signal });
      return readHolders(json.results);
    } catch (error) {
      if (decide(error, failures) !== "retry") {
        throw error;
      }
      await pauseBeforeRetry(chooseDelay(error, failures, Math.random()), { signal, untilOnline: true });
    }
  }
}

/** @param {{id: string, action: string, assetId?: string, isTrashed?: boolean}[]} results */
function readHolders(results) {
  const holders = new Map();
  for (const { id, action, assetId, isTrashed } of results) {
    if (action === "reject" && assetId !== undefined) {
      holders.set(id, { assetId, isTrashed: isTrashed === true });
    }
  }
  return holders;
}
