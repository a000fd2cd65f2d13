/** Loads the previews of neighbours before they are asked for: one on each side, and none while something else loads. */

import { getPictureAddress } from "./item.js";

export class Preloader {
  /** @type {Map<string, HTMLImageElement>} */
  #images = new Map();

  /**
   * Loads these, and ends the loads of others.
   * @param {import("./item.js").Item[]} items
   */
  load(items) {
    const addresses = items.map((item) => getPictureAddress(item, "preview")).filter(Boolean);
    for (const [address, image] of this.#images) {
      if (!addresses.includes(address)) {
        this.#end(address, image);
      }
    }
    for (const address of addresses.filter((each) => !this.#images.has(each))) {
      const image = new Image();
      image.fetchPriority = "low";
      image.decoding = "async";
      image.src = address;
      this.#images.set(address, image);
    }
  }

  /** Ends all loads. */
  close() {
    this.load([]);
  }

  /**
   * @param {string} address
   * @param {HTMLImageElement} image
   */
  #end(address, image) {
    if (!image.complete) {
      image.removeAttribute("src");
    }
    this.#images.delete(address);
  }
}
