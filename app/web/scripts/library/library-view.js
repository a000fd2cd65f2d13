/** The view of `/`: everything, newest first, as a grid with a scrubber. */

import { announce } from "../shell/announcer.js";
import { element } from "../shell/dom.js";
import { registerHeaderLink } from "../shell/header.js";
import { registerView, setTitle } from "../shell/router.js";
import { text } from "../shell/text.js";
import { GridInput } from "./grid/grid-input.js";
import { Grid } from "./grid/grid.js";
import { LibraryRefresh } from "./library-refresh.js";
import { LibrarySelection } from "./library-selection.js";
import { buildEmptyState, buildErrorState } from "./library-states.js";
import { library } from "./library.js";
import { Scrubber } from "./grid/scrubber.js";
import { selection } from "./selection.js";

registerHeaderLink({ path: "/", label: text("header.photos"), icon: "photos", order: 10 });

class LibraryView {
  #timeline = library.timeline;
  #state = element("div", { class: "library-state", hidden: true });
  #scroller = element("div", { class: "grid-scroller", role: "region", "aria-label": text("grid.label") });
  #scrubber;
  #grid;
  #input;
  #refresh;
  #selecting;
  #isOpen = true;

  /** @param {HTMLElement} container */
  constructor(container) {
    this.#grid = new Grid(this.#scroller, this.#timeline, { onMove: () => this.#moved(), onSettle: () => this.#settled() });
    this.#input = new GridInput(this.#grid, selection);
    this.#selecting = new LibrarySelection(this.#grid);
    this.#scrubber = new Scrubber(this.#grid);
    this.#refresh = new LibraryRefresh({
      refresh: (changed) => this.#read(changed),
      reloadWaiting: () => this.#grid.reloadWaiting(),
      remove: (ids) => this.#timeline.remove(ids),
    });
    const title = element("h1", { class: "visually-hidden" }, text("header.photos"));
    container.classList.add("library");
    container.append(title, this.#scrubber.element, this.#scroller, this.#state);
  }

  /** @param {import("./grid/measures.js").Anchor | undefined} anchor where the grid was when this entry of the history was left */
  async start(anchor) {
    await this.#read(this.#timeline.months.length > 0 ? new Set() : "all");
    if (anchor && this.#isOpen) {
      await this.#grid.restore(anchor).catch(() => {});
    }
    this.#refresh.watchThumbnails();
  }

  /** The viewer has closed: what it showed last is on the screen, and has the focus. */
  resume() {
    setTitle("");
    const place = library.lastViewed ? this.#timeline.find(library.lastViewed) : null;
    if (place) {
      this.#input.focus(place, { center: true });
    }
  }

  close() {
    this.#isOpen = false;
    this.#selecting.close();
    this.#refresh.close();
    this.#grid.close();
  }

  /** @param {Set<string> | "all"} changed */
  async #read(changed) {
    try {
      await this.#timeline.refresh({ changed });
      this.#grid.retry();
      this.#showState(this.#timeline.total === 0 ? buildEmptyState() : null);
    } catch (error) {
      const isShown = this.#timeline.months.length > 0;
      if (this.#isOpen && !isShown) {
        this.#showState(buildErrorState(/** @type {Error} */ (error).message, () => this.#read("all")));
      }
    }
  }

  /** @param {HTMLElement | null} state */
  #showState(state) {
    this.#state.replaceChildren(...(state ? [state] : []));
    this.#state.hidden = state === null;
    this.#scroller.hidden = state !== null;
    this.#scrubber.update();
  }

  #moved() {
    this.#scrubber.update();
    this.#scrubber.reveal();
  }

  #settled() {
    this.#scrubber.update();
    this.#refresh.watchThumbnails();
    if (location.pathname === "/") {
      history.replaceState({ ...history.state, anchor: this.#grid.getAnchor() }, "");
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
