/** The view of `/`: everything, newest first, as a grid with a scrubber. */

import { announce } from "../shell/announcer.js";
import { element } from "../shell/dom.js";
import { registerHeaderLink } from "../shell/header.js";
import { registerView, setTitle } from "../shell/router.js";
import { text } from "../shell/text.js";
import { listActions } from "./library-actions.js";
import { buildEmptyState } from "./library-states.js";
import { library } from "./library.js";
import { PhotoGrid } from "./photo-grid.js";

registerHeaderLink({ path: "/", label: text("header.photos"), icon: "photos", order: 10 });

class LibraryView {
  #timeline = library.timeline;
  #photos;

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

  /** @param {import("./grid/measures.js").Anchor | undefined} anchor where the grid was when this entry of the history was left */
  async start(anchor) {
    await this.#photos.read(this.#timeline.months.length > 0 ? new Set() : "all");
    if (anchor && this.#photos.isOpen) {
      await this.#photos.grid.restore(anchor).catch(() => {});
    }
    this.#photos.refresh.watchThumbnails();
  }

  /** The viewer has closed: what it showed last is on the screen, and has the focus. */
  resume() {
    setTitle("");
    const place = library.lastViewed ? this.#timeline.find(library.lastViewed) : null;
    if (place) {
      this.#photos.input.focus(place, { center: true });
    }
  }

  close() {
    this.#photos.close();
  }

  #keepPlace() {
    if (location.pathname === "/") {
      history.replaceState({ ...history.state, anchor: this.#photos.grid.getAnchor() }, "");
    }
  }
}

/** @type {{view: LibraryView | null}} */
const current = { view: null };

registerView("/", {
  open(_, container) {
    setTitle("");
    current.view = new LibraryView(container);
    current.view.start(history.state?.anchor);
    announce(text("header.photos"));
  },
  resume() {
    current.view?.resume();
  },
  close() {
    current.view?.close();
    current.view = null;
  },
});
