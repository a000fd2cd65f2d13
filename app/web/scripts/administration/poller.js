/** Repeats a load: often while the page is seen, seldom while it is hidden or the load fails. */

import { bus } from "../shell/events.js";

const EVERY_MS = 5000;
const LONGEST_MS = 60_000;

export class Poller {
  #load;
  #timer = 0;
  #failures = 0;
  #ending = new AbortController();
  #stopWatching = bus.on("connection-changed", ({ online }) => online && this.hurry());

  /**
   * @param {(signal: AbortSignal) => Promise<boolean>} load whether everything could be loaded
   */
  constructor(load) {
    this.#load = load;
    document.addEventListener("visibilitychange", () => !document.hidden && this.hurry(), { signal: this.#ending.signal });
    void this.#run();
  }

  close() {
    this.#ending.abort();
    this.#stopWatching();
    clearTimeout(this.#timer);
  }

  /** Loads now. */
  hurry() {
    if (this.#timer !== 0) {
      clearTimeout(this.#timer);
      void this.#run();
    }
  }

  async #run() {
    this.#timer = 0;
    const isComplete = await this.#load(this.#ending.signal);
    this.#failures = isComplete ? 0 : this.#failures + 1;
    if (!this.#ending.signal.aborted) {
      const delay = document.hidden ? LONGEST_MS : Math.min(EVERY_MS * 2 ** this.#failures, LONGEST_MS);
      this.#timer = setTimeout(() => this.#run(), delay);
    }
  }
}
