/** The timeline of who is signed in, which grid and viewer share. */

import { bus } from "../shell/events.js";
import { Timeline } from "./timeline/timeline.js";

class Library {
  /** @type {Timeline | null} */
  #timeline = null;
  /** The asset that the viewer showed last, which the grid shows when the viewer closes. @type {string | null} */
  lastViewed = null;
  /** Settled when the place of `lastViewed` in the timeline is known, or known to be none. @type {Promise<void>} */
  locating = Promise.resolve();

  constructor() {
    bus.on("session-changed", ({ user }) => {
      if (user === null) {
        this.#timeline?.close();
        this.#timeline = null;
        this.lastViewed = null;
      }
    });
  }

  /** Reads the list of months before a view asks for it. */
  readAhead() {
    this.timeline.readMonths().catch(() => {}); // a view reads it again
  }

  get timeline() {
    this.#timeline ??= new Timeline();
    return this.#timeline;
  }
}

export const library = new Library();
