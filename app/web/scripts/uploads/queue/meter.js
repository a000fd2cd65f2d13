/** Measures the speed of a transfer over the last seconds. */

const WINDOW_MS = 8000;
const SHORTEST_MS = 1000;

export class SpeedMeter {
  /** @type {{at: number, bytes: number}[]} */
  #samples = [];
  #bytes = 0;

  /**
   * @param {number} bytes sent since the last call
   * @param {number} at milliseconds
   */
  add(bytes, at) {
    this.#bytes += bytes;
    const last = this.#samples.at(-1);
    if (last !== undefined && at - last.at < 100) {
      last.bytes = this.#bytes;
    } else {
      this.#samples.push({ at, bytes: this.#bytes });
    }
    while (this.#samples.length > 2 && at - this.#samples[0].at > WINDOW_MS) {
      this.#samples.shift();
    }
  }

  /** Forgets what was: after a pause the old samples say nothing. */
  reset() {
    this.#samples = [];
  }

  /**
   * @param {number} at milliseconds
   * @returns {number | null} bytes per second; null while too little is known
   */
  getSpeed(at) {
    const first = this.#samples[0];
    const last = this.#samples.at(-1);
    if (first === undefined || last === undefined || at - first.at < SHORTEST_MS) {
      return null;
    }
    return ((last.bytes - first.bytes) * 1000) / (at - first.at);
  }
}
