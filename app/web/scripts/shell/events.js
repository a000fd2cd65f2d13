/**
 * The bus on which the parts of the page tell each other what has changed.
 *
 * @typedef {{
 *   "assets-added": {ids: string[]},
 *   "assets-removed": {ids: string[]},
 *   "assets-changed": {ids: string[]},
 *   "selection-changed": {ids: Set<string>},
 *   "connection-changed": {online: boolean},
 *   "session-changed": {user: import("./session.js").User | null},
 * }} BusEvents
 */

class Bus {
  #target = new EventTarget();

  /**
   * Calls `listener` with the detail of each event of this name; returns a function that ends that.
   * @template {keyof BusEvents} Name
   * @param {Name} name
   * @param {(detail: BusEvents[Name]) => void} listener
   * @returns {() => void}
   */
  on(name, listener) {
    /** @param {Event} event */
    const handle = (event) => listener(/** @type {CustomEvent} */ (event).detail);
    this.#target.addEventListener(name, handle);
    return () => this.#target.removeEventListener(name, handle);
  }

  /**
   * @template {keyof BusEvents} Name
   * @param {Name} name
   * @param {BusEvents[Name]} detail
   */
  emit(name, detail) {
    this.#target.dispatchEvent(new CustomEvent(name, { detail }));
  }
}

export const bus = new Bus();
