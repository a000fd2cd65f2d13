/** Computes SHA-1 digests in a worker, one file at a time. */

/** A file that cannot be read: moved, changed or removed since it was chosen. */
export class UnreadableFile extends Error {}

/** Owns the worker. It starts at once: after an update of the service its script is not there any more. */
export class Hasher {
  /** @type {Worker | null} */
  #worker = this.#start();
  #lastId = 0;
  /** @type {Map<number, {resolve: (sha1: string) => void, reject: (error: Error) => void, onProgress: (bytes: number) => void}>} */
  #waiting = new Map();

  /**
   * @param {File} file
   * @param {{signal: AbortSignal, onProgress?: (bytes: number) => void}} options
   * @returns {Promise<string>} the digest in hex. Rejects with `UnreadableFile`, and with the signal's reason.
   */
  hash(file, { signal, onProgress = () => {} }) {
    signal.throwIfAborted();
    this.#worker ??= this.#start();
    const worker = this.#worker;
    const id = ++this.#lastId;
    return new Promise((resolve, reject) => {
      const abort = () => {
        this.#waiting.delete(id);
        worker.postMessage({ cancel: id });
        reject(signal.reason);
      };
      const settle = (/** @type {() => void} */ act) => {
        signal.removeEventListener("abort", abort);
        this.#waiting.delete(id);
        act();
      };
      signal.addEventListener("abort", abort, { once: true });
      this.#waiting.set(id, {
        resolve: (sha1) => settle(() => resolve(sha1)),
        reject: (error) => settle(() => reject(error)),
        onProgress,
      });
      worker.postMessage({ id, file });
    });
  }

  #start() {
    const worker = new Worker(new URL("./hash-worker.js", import.meta.url), { type: "module" });
    worker.onmessage = ({ data }) => {
      const waiting = this.#waiting.get(data.id);
      if (data.sha1 !== undefined) {
        waiting?.resolve(data.sha1);
      } else if (data.error !== undefined) {
        waiting?.reject(new UnreadableFile(data.error));
      } else {
        waiting?.onProgress(data.hashed);
      }
    };
    worker.onerror = () => {
      worker.terminate();
      this.#worker = null;
      for (const waiting of [...this.#waiting.values()]) waiting.reject(new Error("The hash worker has failed"));
    };
    return worker;
  }
}
