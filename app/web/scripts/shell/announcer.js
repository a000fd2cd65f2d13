/** A live region that screen readers read out. */

import { element } from "./dom.js";

const region = element("div", { class: "visually-hidden", role: "status", "aria-live": "polite" });

/** @returns {HTMLElement} the region, for the frame */
export function buildAnnouncer() {
  return region;
}

/**
 * Has screen readers say `message`, also if it is the same as before.
 * @param {string} message
 */
export function announce(message) {
  region.textContent = region.textContent === message ? `${message}\u00a0` : message;
}
