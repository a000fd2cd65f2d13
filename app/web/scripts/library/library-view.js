/** The view of `/`: everything, newest first, as a grid with a scrubber. */

import { announce } from "../shell/announcer.js";
import { element } from "../shell/dom.js";
import { registerHeaderLink } from "../shell/header.js";
import { isOverlayOpen, registerView, setTitle } from "../shell/router.js";
import { text } from "../shell/text.js";
import { listActions } from "./library-actions.js";
import { buildEmptyState } from "./library-states.js";
import { library } from "./library.js";
import { PhotoGrid } from "./photo-grid.js";

registerHeaderLink({ path: "/", label: text("header.photos"), icon: "photos", order: 10 });

/** @typedef {import("./grid/measures.js").Anchor} Anchor */

class LibraryView {
  #timeline = library.timeline;
  #photos;
  #starting = Promise.resolve();
  /** How many places are being restored; until then, where the grid stands is not kept. */
  #restorations = 0;

  /** @param {HTMLElement} container */
  constructor(container) {
    this.#photos = new PhotoGrid(this.#timeline, {
      label: text("grid.label"),
      actions: listActions(this.#timeline),
      buildEmptyState,
      onSettle: () => this.#keepPlace(),
    });
    const title = element("h1", { class: "visually-hidden" }, text("header.photos"));
    container.classList.add("library");
    container.append(title, ...this.#photos.nodes);
  }

  /**
   * @param {Anchor | undefined} anchor where the grid was when this entry of the history was left
   * @param {boolean} isAgain whether the months were read for a view before
   */
  start(anchor, isAgain) {
    this.#starting = this.#restore(this.#photos.read(isAgain ? new Set() : null), anchor);
  }

  /**
   * The viewer has closed: what it showed last is on the screen, and has the focus. Where the page was loaded with the viewer open, that is
   * not known at once; the grid stands at `anchor` until it is, and stays where it is if it is moved meanwhile.
   * @param {Anchor | undefined} anchor
   */
  async resume(anchor) {
    setTitle("");
    if (this.#showLastViewed()) {
      return;
    }
    const { moves } = this.#photos.grid;
    await this.#restore(this.#starting, anchor);
    await library.locating;
    if (this.#photos.isOpen && !isOverlayOpen() && moves === this.#photos.grid.moves) {
      this.#showLastViewed();
    }
  }

  /** @returns {boolean} whether its place is known */
  #showLastViewed() {
    const place = library.lastViewed ? this.#timeline.find(library.lastViewed) : null;
    if (place) {
      this.#photos.input.focus(place, { center: true });
    }
    return place !== null;
  }

  /**
   * @param {Promise<void>} reading of the months
   * @param {Anchor | undefined} anchor
   */
  async #restore(reading, anchor) {
    this.#restorations += 1;
    const { moves } = this.#photos.grid;
    await reading;
    if (anchor && this.#photos.isOpen && moves === this.#photos.grid.moves) {
      await this.#photos.grid.restore(anchor).catch(() => {});
    }
    this.#restorations -= 1;
    if (this.#photos.isOpen) {
      this.#keepPlace();
      this.#photos.refresh.watchThumbnails();
    }
  }

  close() {
    this.#photos.close();
  }

  #keepPlace() {
    if (location.pathname === "/" && this.#restorations === 0) {
      history.replaceState({ ...history.state, anchor: this.#photos.grid.getAnchor() }, "");
    }
  }
}

/** @type {{view: LibraryView | null, wasOpen: boolean}} */
const current = { view: null, wasOpen: false };

registerView("/", {
  open(_, container) {
    setTitle("");
    current.view = new LibraryView(container);
    current.view.start(history.state?.anchor, current.wasOpen);
    current.wasOpen = true;
    announce(text("header.photos"));
  },
  resume() {
    current.view?.resume(history.state?.anchor);
  },
  close() {
    current.view?.close();
    current.view = null;
  },
});
