/**
 * The upload queue: computes the checksum of one file after another, asks the server which of them it has, and sends three of the others at
 * a time. Knows no elements of the page.
 */

import { DuplicateCheck } from "../transfer/duplicate-check.js";
import { Entry } from "./entry.js";
import { RequestRefused } from "../transfer/exchange.js";
import { explainDuplicate, explainFailure, explainWait } from "../explanations.js";
import { Fifo } from "./fifo.js";
import { SpeedMeter } from "./meter.js";
import { Transfer } from "../transfer/transfer.js";

const PARALLEL_FILES = 3;
/** So many files may wait to be sent before no more checksums are computed: both read the same disk. */
const MOST_READY = 50;

/**
 * Why everything stands still.
 * @typedef {"user" | "sign-in"} PauseCause
 * @typedef {import("../file-sources.js").FoundFile} FoundFile
 */

/** A step was interrupted by a pause or a cancellation. */
class Interrupted extends Error {}

/** Dispatches `change` after every change, and `uploaded` (`CustomEvent`, the asset's id) for every new asset. */
export class UploadQueue extends EventTarget {
  /** @type {Entry[]} all that is listed, oldest first */
  entries = [];
  /** @type {PauseCause | null} */
  pauseCause = null;
  meter = new SpeedMeter();

  #hasher;
  #store;
  #lastId = 0;
  /** @type {Fifo<Entry>} */
  #toHash = new Fifo();
  /** @type {Fifo<Entry>} */
  #toSend = new Fifo();
  #isHashing = false;
  /** @type {Map<string, Entry[]>} by the checksum that is being sent: other files with the same bytes, which wait for it */
  #sending = new Map();
  #check = new DuplicateCheck(
    (entry, holder) => this.#settleCheck(entry, holder),
    (entry, error) => this.#leave(entry, "checking", error, () => this.#check.add(entry)),
  );

  /**
   * @param {import("../hashing/hasher.js").Hasher} hasher
   * @param {import("../transfer/resume-store.js").ResumeStore} store
   */
  constructor(hasher, store) {
    super();
    this.#hasher = hasher;
    this.#store = store;
  }

  /**
   * @param {FoundFile[]} files
   * @param {(found: FoundFile) => string | null} findRefusal why a file is not to be sent at all
   */
  add(files, findRefusal) {
    for (const found of files) {
      const entry = new Entry(++this.#lastId, found);
      this.entries.push(entry);
      const refusal = findRefusal(found);
      if (refusal === null) {
        this.#toHash.push(entry);
      } else {
        this.#end(entry, "failed", refusal);
        entry.file = null;
      }
    }
    this.#advance();
  }

  /** @returns {boolean} whether files are still to be sent */
  get isBusy() {
    return this.entries.some((entry) => !entry.hasEnded);
  }

  /** @param {PauseCause} cause */
  pause(cause) {
    this.pauseCause = cause;
    for (const entry of this.entries) {
      if (entry.state === "hashing" || entry.state === "sending") {
        entry.activity?.abort(new Interrupted());
      }
    }
    this.#notify();
  }

  resume() {
    this.pauseCause = null;
    this.meter.reset();
    this.#advance();
  }

  /** @param {Entry} entry */
  pauseEntry(entry) {
    if (!entry.hasEnded && entry.state !== "paused") {
      entry.state = "paused";
      entry.reason = null;
      entry.activity?.abort(new Interrupted());
      this.#advance();
    }
  }

  /**
   * Goes on with files that were paused, and tries again those that have failed.
   * @param {Entry[]} entries
   */
  resumeEntries(entries) {
    for (const entry of entries) {
      if ((entry.state === "paused" || entry.state === "failed") && entry.file !== null) {
        entry.reason = null;
        entry.progress = 0;
        entry.state = entry.sha1 === null ? "waiting" : "ready";
        (entry.sha1 === null ? this.#toHash : this.#toSend).push(entry);
      }
    }
    this.#advance();
  }

  /** @param {Entry[]} entries */
  cancel(entries) {
    for (const entry of entries) {
      if (!entry.hasEnded) {
        entry.activity?.abort(new Interrupted());
        void entry.transfer?.discard();
        this.#end(entry, "cancelled", null);
      }
    }
    if (!this.isBusy) {
      this.pauseCause = null;
    }
    this.#advance();
  }

  /** Ends everything and empties the list. What the server has stays there: its owner may go on with it. */
  abandon() {
    for (const entry of this.entries.splice(0)) {
      entry.activity?.abort(new Interrupted());
      this.#end(entry, "cancelled", null);
    }
    this.pauseCause = null;
    this.#notify();
  }

  /** Takes what has ended off the list. */
  clearEnded() {
    this.entries = this.entries.filter((entry) => !entry.hasEnded);
    this.#notify();
  }

  /**
   * @param {Entry} entry
   * @param {"done" | "duplicate" | "failed" | "cancelled"} state
   * @param {string | null} reason
   */
  #end(entry, state, reason) {
    entry.state = state;
    entry.reason = reason;
    entry.activity = null;
    if (state !== "failed") {
      entry.file = null;
      entry.sidecar = null;
      entry.transfer = null;
    }
  }

  /** Starts whatever can be started. */
  #advance() {
    if (this.pauseCause === null) {
      void this.#hashNext();
      this.#check.advance(this.#isHashing || this.#toHash.size > 0);
      while (this.#sending.size < PARALLEL_FILES) {
        const entry = takeNext(this.#toSend, "ready");
        if (entry === null) {
          break;
        }
        void this.#send(entry);
      }
    }
    this.#notify();
  }

  async #hashNext() {
    if (this.#isHashing || this.#toSend.size >= MOST_READY) {
      return;
    }
    const entry = takeNext(this.#toHash, "waiting");
    if (entry?.file == null) {
      return;
    }
    this.#isHashing = true;
    entry.state = "hashing";
    entry.activity = new AbortController();
    const onProgress = (/** @type {number} */ bytes) => {
      entry.progress = bytes;
      this.#notify();
    };
    try {
      entry.sha1 = await this.#hasher.hash(entry.file, { signal: entry.activity.signal, onProgress });
      entry.progress = 0;
      entry.state = "checking";
      this.#check.add(entry);
    } catch (error) {
      this.#leave(entry, "hashing", error, () => {
        entry.state = "waiting";
        this.#toHash.unshift(entry);
      });
    } finally {
      this.#isHashing = false;
      this.#advance();
    }
  }

  /**
   * @param {Entry} entry
   * @param {import("../transfer/duplicate-check.js").Holder | undefined} holder
   */
  #settleCheck(entry, holder) {
    if (holder === undefined) {
      entry.state = "ready";
      this.#toSend.push(entry);
    } else {
      entry.assetId = holder.assetId;
      this.#end(entry, "duplicate", explainDuplicate(entry, holder.isTrashed));
    }
    this.#advance();
  }

  /** @param {Entry} entry */
  async #send(entry) {
    const { file, sidecar, name, sha1 } = entry;
    if (file === null || sha1 === null) {
      throw new Error("an entry without its file is to be sent");
    }
    const twins = this.#sending.get(sha1);
    if (twins !== undefined) {
      twins.push(entry);
      return;
    }
    this.#sending.set(sha1, []);
    entry.state = "sending";
    entry.activity = new AbortController();
    entry.transfer ??= new Transfer({ file, sidecar, name, sha1 }, this.#store);
    try {
      const asset = await entry.transfer.run(entry.activity.signal, this.#listen(entry));
      entry.assetId = asset.id;
      this.#end(entry, asset.isDuplicate ? "duplicate" : "done", asset.isDuplicate ? explainDuplicate(entry, false) : null);
      this.dispatchEvent(new CustomEvent("uploaded", { detail: asset.id }));
    } catch (error) {
      this.#leave(entry, "sending", error, () => {
        entry.state = "ready";
        this.#toSend.unshift(entry);
      });
    } finally {
      this.#releaseTwins(sha1, entry);
      this.#advance();
    }
  }

  /**
   * @param {Entry} entry
   * @returns {import("../transfer/transfer.js").Listener}
   */
  #listen(entry) {
    let highest = entry.progress;
    return {
      onProgress: (bytes, isFromServer) => {
        if (!isFromServer && bytes > highest) {
          this.meter.add(bytes - highest, performance.now());
        }
        highest = Math.max(highest, bytes);
        entry.progress = bytes;
        entry.reason = null;
        this.#notify();
      },
      onWaiting: (error) => {
        entry.reason = explainWait(error);
        this.#notify();
      },
    };
  }

  /**
   * Files with the same bytes as one that was being sent: they are there with it, or their turn comes.
   * @param {string} sha1
   * @param {Entry} sent
   */
  #releaseTwins(sha1, sent) {
    const twins = this.#sending.get(sha1) ?? [];
    this.#sending.delete(sha1);
    for (const twin of twins) {
      if (twin.state === "ready" && sent.assetId !== null) {
        twin.assetId = sent.assetId;
        this.#end(twin, "duplicate", explainDuplicate(twin, false));
      } else if (twin.state === "ready") {
        this.#toSend.push(twin);
      }
    }
  }

  /**
   * What follows when a step was interrupted or has failed. An entry that has left `state` meanwhile was paused or cancelled.
   * @param {Entry} entry
   * @param {import("./entry.js").State} state
   * @param {unknown} error
   * @param {() => void} goBack
   */
  #leave(entry, state, error, goBack) {
    if (entry.state !== state) {
      return;
    }
    entry.activity = null;
    if (error instanceof RequestRefused && error.status === 401) {
      goBack();
      if (this.pauseCause === null) {
        this.pause("sign-in");
      }
    } else if (error instanceof Interrupted) {
      goBack();
    } else {
      this.#end(entry, "failed", explainFailure(error));
    }
  }

  #notify() {
    this.dispatchEvent(new Event("change"));
  }
}

/**
 * @param {Fifo<Entry>} fifo
 * @param {import("./entry.js").State} state entries that have left it are passed over
 * @returns {Entry | null}
 */
function takeNext(fifo, state) {
  for (let entry = fifo.shift(); entry !== undefined; entry = fifo.shift()) {
    if (entry.state === state) {
      return entry;
    }
  }
  return null;
}
