/**
 * Sends one file: by tus in chunks, or, with a sidecar, in one request, for tus carries one file only. Tries again, and goes on where the
 * server stands, until the file is there, is refused, or is not wanted any more.
 */

import { ConnectionLost, exchange } from "./exchange.js";
import { UnreadableFile } from "../hashing/hasher.js";
import { buildFingerprint } from "./resume-store.js";
import { chooseDelay, decide, pauseBeforeRetry } from "./retry.js";
import { appendChunk, cancelUpload, createUpload, describeFile, getStatus } from "./tus.js";

export const CHUNK_BYTES = 8 * 1024 * 1024;
const MOST_RESTARTS = 3;
const DISCARD_MS = 30_000;

/**
 * @typedef {object} Source
 * @property {File} file
 * @property {File | null} sidecar
 * @property {string} name
 * @property {string} sha1
 *
 * @typedef {object} Listener
 * @property {(bytes: number, isFromServer: boolean) => void} onProgress bytes of the file that have been sent, or that the server has
 * @property {(reason: unknown) => void} onWaiting a request has failed, and is tried again later
 */

/** Sends `source`. `run` may be called again after it was interrupted. */
export class Transfer {
  #source;
  #store;
  /** @type {Listener} */
  #listener = { onProgress() {}, onWaiting() {} };
  #fingerprint;
  /** @type {string | null} the upload's id at the server */
  #id = null;
  #offset = 0;
  #isOffsetKnown = false;
  #failures = 0;
  #restarts = 0;
  #hasLostAnswer = false;

  /**
   * @param {Source} source
   * @param {import("./resume-store.js").ResumeStore} store
   */
  constructor(source, store) {
    this.#source = source;
    this.#store = store;
    this.#fingerprint = buildFingerprint(source.file, source.sha1);
  }

  /**
   * @param {AbortSignal} signal
   * @param {Listener} listener
   * @returns {Promise<import("./tus.js").AssetResult>} rejects with `RequestRefused`, `UnreadableFile`, or the signal's reason
   */
  async run(signal, listener) {
    this.#listener = listener;
    this.#isOffsetKnown = false;
    this.#failures = 0;
    this.#restarts = 0;
    this.#id ??= this.#source.sidecar === null ? this.#store.find(this.#fingerprint) : null;
    for (;;) {
      try {
        const asset = await this.#step(signal);
        this.#failures = 0;
        if (asset !== null) {
          this.#store.remove(this.#fingerprint);
          return this.#hasLostAnswer ? { ...asset, isDuplicate: false } : asset;
        }
      } catch (error) {
        signal.throwIfAborted();
        await this.#recover(error, signal);
      }
    }
  }

  /** Has the server delete what has arrived, as far as it can be reached; otherwise the upload expires there. */
  async discard() {
    this.#store.remove(this.#fingerprint);
    if (this.#id !== null) {
      await cancelUpload(this.#id, { signal: AbortSignal.timeout(DISCARD_MS) }).catch(() => {});
    }
  }

  /**
   * Makes one request.
   * @param {AbortSignal} signal
   */
  async #step(signal) {
    if (this.#source.sidecar !== null) {
      return this.#sendWithSidecar(this.#source.sidecar, signal);
    }
    if (this.#id === null) {
      return this.#accept(await this.#create(signal));
    }
    if (!this.#isOffsetKnown) {
      return this.#accept(await getStatus(this.#id, { signal }));
    }
    const { file } = this.#source;
    const chunk = file.slice(this.#offset, this.#offset + CHUNK_BYTES);
    const start = this.#offset;
    const onProgress = (/** @type {number} */ bytes) => this.#listener.onProgress(start + Math.min(bytes, chunk.size), false);
    return this.#accept(await appendChunk(this.#id, start, chunk, { signal, onProgress }));
  }

  /**
   * A small file goes along with its creation. Not after a failure: a server that refuses a body early may reset the connection, and only
   * a request without a body shows the reason.
   * @param {AbortSignal} signal
   */
  #create(signal) {
    const { file, name, sha1 } = this.#source;
    const body = file.size <= CHUNK_BYTES && this.#failures === 0 ? file : undefined;
    const onProgress = (/** @type {number} */ bytes) => this.#listener.onProgress(Math.min(bytes, file.size), false);
    return createUpload({ file, name, sha1, body }, { signal, onProgress });
  }

  /** @param {import("./tus.js").UploadStatus} status */
  #accept({ id, offset, expiresAt, asset }) {
    this.#id = id;
    this.#offset = offset;
    this.#isOffsetKnown = true;
    this.#listener.onProgress(offset, true);
    if (asset === null) {
      this.#store.add({ fingerprint: this.#fingerprint, id, expiresAt });
    }
    return asset;
  }

  /**
   * @param {File} sidecar
   * @param {AbortSignal} signal
   * @returns {Promise<import("./tus.js").AssetResult>}
   */
  async #sendWithSidecar(sidecar, signal) {
    const { file, name, sha1 } = this.#source;
    const body = new FormData();
    for (const [field, value] of Object.entries(describeFile(file, name))) {
      body.append(field, value);
    }
    body.append("sidecarData", sidecar, sidecar.name);
    body.append("assetData", file, name);
    const onProgress = (/** @type {number} */ bytes) => this.#listener.onProgress(Math.min(bytes, file.size), false);
    const headers = { "x-immich-checksum": sha1 };
    const answer = await exchange("POST", "/api/assets", { headers, body, signal, onProgress });
    return { id: answer.json?.id ?? "", isDuplicate: answer.json?.status === "duplicate" };
  }

  /**
   * Waits for the next attempt, or throws what ends the transfer.
   * @param {unknown} error
   * @param {AbortSignal} signal
   */
  async #recover(error, signal) {
    this.#failures += 1;
    this.#isOffsetKnown = false;
    const decision = decide(error, this.#failures);
    if (decision === "restart" && this.#id !== null && this.#restarts < MOST_RESTARTS) {
      this.#restarts += 1;
      this.#store.remove(this.#fingerprint);
      this.#id = null;
      return;
    }
    if (decision !== "retry") {
      throw error;
    }
    this.#hasLostAnswer ||= error instanceof ConnectionLost;
    await this.#checkReadable();
    this.#listener.onWaiting(error);
    const isLost = error instanceof ConnectionLost;
    await pauseBeforeRetry(chooseDelay(error, this.#failures, Math.random()), { signal, untilOnline: isLost });
  }

  /** A request whose file cannot be read fails like one whose connection breaks. */
  async #checkReadable() {
    try {
      for (const file of [this.#source.file, this.#source.sidecar]) {
        await file?.slice(this.#offset, this.#offset + 1).arrayBuffer();
      }
    } catch (error) {
      throw new UnreadableFile(error instanceof Error ? error.name : String(error));
    }
  }
}
