/** One file of the upload queue: what it is, how far it has come, and what became of it. */

/**
 * - `waiting`: for its checksum to be computed
 * - `hashing`
 * - `checking`: whether the server has it already
 * - `ready`: to be sent
 * - `sending`
 * - `paused`: by the user, alone
 * - `done`, `duplicate`, `failed`, `cancelled`: ended
 * @typedef {"waiting" | "hashing" | "checking" | "ready" | "sending" | "paused" | "done" | "duplicate" | "failed" | "cancelled"} State
 */

/** @type {ReadonlySet<State>} */
export const ENDED = new Set(["done", "duplicate", "failed", "cancelled"]);

export class Entry {
  /** @type {State} */
  state = "waiting";
  /** Bytes that have been sent, or hashed while `hashing`. */
  progress = 0;
  /** @type {string | null} hex */
  sha1 = null;
  /** @type {string | null} why it failed, was left out, or waits for another attempt; for people */
  reason = null;
  /** @type {string | null} */
  assetId = null;
  /** @type {AbortController | null} of what is under way for it */
  activity = null;
  /** @type {import("../transfer/transfer.js").Transfer | null} */
  transfer = null;

  /**
   * @param {number} id
   * @param {import("../file-sources.js").FoundFile} found
   */
  constructor(id, { file, folder, sidecar }) {
    this.id = id;
    this.name = file.name;
    this.folder = folder;
    this.size = file.size;
    /** @type {File | null} null once it is not needed any more */
    this.file = file;
    /** @type {File | null} */
    this.sidecar = sidecar;
  }

  get hasEnded() {
    return ENDED.has(this.state);
  }

  /** @returns {number} bytes that count as dealt with */
  get settledBytes() {
    if (this.hasEnded) {
      return this.size;
    }
    return this.state === "hashing" ? 0 : this.progress;
  }
}
