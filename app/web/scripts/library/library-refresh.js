/** Keeps the timeline up to date: after changes in this page, after a lost connection, and while thumbnails are being made. */

import { bus } from "../shell/events.js";

const DELAY = 300;
const LEAST_INTERVAL = 2000;
const FIRST_POLL = 2000;
const LONGEST_POLL = 30_000;
const MOST_POLLS = 30;
const AWAY = 60_000;

export class LibraryRefresh {
  #refresh;
  #reloadWaiting;
  /** @type {Set<string>} */
  #changed = new Set();
  #timer = 0;
  #isWanted = false;
  #lastRun = 0;
  #poll = { timer: 0, wait: FIRST_POLL, count: 0 };
  #hiddenAt = 0;
  /** @type {(() => void)[]} */
  #endings;

  /**
   * @param {{
   *   refresh: (changed: Set<string>) => Promise<void>,
   *   reloadWaiting: () => boolean,
   *   remove: (ids: Set<string>) => void,
   * }} actions `reloadWaiting` reads again what is on the screen without a thumbnail; false if nothing is
   */
  constructor({ refresh, reloadWaiting, remove }) {
    this.#refresh = refresh;
    this.#reloadWaiting = reloadWaiting;
    const onVisible = () => this.#changeVisibility();
    document.addEventListener("visibilitychange", onVisible);
    this.#endings = [
      bus.on("assets-added", () => this.#schedule([])),
      bus.on("assets-changed", ({ ids }) => this.#schedule(ids)),
      bus.on("assets-removed", ({ ids }) => {
        remove(new Set(ids));
        this.#schedule([]);
      }),
      bus.on("connection-changed", ({ online }) => online && this.#schedule([])),
      () => document.removeEventListener("visibilitychange", onVisible),
    ];
  }

  close() {
    clearTimeout(this.#timer);
    clearTimeout(this.#poll.timer);
    this.#endings.forEach((end) => end());
  }

  /** Looks, from now on and ever less often, whether thumbnails on the screen have been made. */
  watchThumbnails() {
    clearTimeout(this.#poll.timer);
    this.#poll = { timer: 0, wait: FIRST_POLL, count: 0 };
    this.#schedulePoll();
  }

  /** @param {string[]} ids */
  #schedule(ids) {
    ids.forEach((id) => this.#changed.add(id));
    this.#isWanted = true;
    if (this.#timer === 0) {
      const wait = Math.max(DELAY, this.#lastRun + LEAST_INTERVAL - performance.now());
      this.#timer = setTimeout(() => this.#run(), wait);
    }
  }

  async #run() {
    const changed = this.#changed;
    this.#changed = new Set();
    this.#isWanted = false;
    await this.#refresh(changed);
    this.#timer = 0;
    this.#lastRun = performance.now();
    this.watchThumbnails();
    if (this.#isWanted) {
      this.#schedule([]);
    }
  }

  #schedulePoll() {
    this.#poll.timer = setTimeout(() => {
      this.#poll.count += 1;
      this.#poll.wait = Math.min(this.#poll.wait * 1.4, LONGEST_POLL);
      if (document.hidden || (this.#reloadWaiting() && this.#poll.count < MOST_POLLS)) {
        this.#schedulePoll();
      }
    }, this.#poll.wait);
  }

  #changeVisibility() {
    if (document.hidden) {
      this.#hiddenAt = performance.now();
    } else if (performance.now() - this.#hiddenAt > AWAY) {
      this.#schedule([]);
    }
  }
}
