/** The grid of a timeline, with its scrubber and its selection, and what stands in its place where there is nothing to show. */

import { element } from "../shell/dom.js";
import { describeError } from "../shell/errors.js";
import { DragSelection } from "./drag-selection.js";
import { GridInput } from "./grid/grid-input.js";
import { Grid } from "./grid/grid.js";
import { Scrubber } from "./grid/scrubber.js";
import { LibraryRefresh } from "./library-refresh.js";
import { buildErrorState } from "./library-states.js";
import { SelectionBar } from "./selection-bar.js";
import { selection } from "./selection.js";

/**
 * @typedef {object} Options
 * @property {string} label
 * @property {import("./selection-bar.js").Action[]} actions what can be done with a selection
 * @property {() => HTMLElement} buildEmptyState
 * @property {boolean} [opensViewer] without the viewer a click selects
 * @property {() => void} [onSettle] the grid has stopped moving
 * @property {() => void} [onRead] the timeline has been read
 */

export class PhotoGrid {
  #timeline;
  #options;
  #scroller;
  #scrubber;
  #drag;
  #bar;
  #state = element("div", { class: "library-state", hidden: true });
  #isOpen = true;

  /**
   * @param {import("./timeline/timeline.js").Timeline} timeline
   * @param {Options} options
   */
  constructor(timeline, options) {
    this.#timeline = timeline;
    this.#options = options;
    this.#scroller = element("div", { class: "grid-scroller", role: "region", "aria-label": options.label });
    this.grid = new Grid(this.#scroller, timeline, { onMove: () => this.#moved(), onSettle: () => this.#settled() });
    this.input = new GridInput(this.grid, selection, { opensViewer: options.opensViewer });
    this.#scrubber = new Scrubber(this.grid);
    this.#drag = new DragSelection(this.grid, selection);
    this.#bar = new SelectionBar(options.actions);
    this.refresh = new LibraryRefresh({
      refresh: (changed) => this.read(changed),
      reloadWaiting: () => this.grid.reloadWaiting(),
      remove: (ids) => timeline.remove(ids),
    });
    this.nodes = [this.#scrubber.element, this.#scroller, this.#state];
    selection.setSource(timeline);
  }

  get isOpen() {
    return this.#isOpen;
  }

  close() {
    this.#isOpen = false;
    this.#drag.close();
    this.#bar.close();
    this.refresh.close();
    this.grid.close();
    selection.setSource(null);
  }

  /**
   * Reads the timeline again.
   * @param {Set<string> | "all" | null} changed null: only if it is not known
   */
  async read(changed) {
    try {
      await (changed ? this.#timeline.refresh({ changed }) : this.#timeline.readMonths());
      this.grid.retry();
      this.#showState(this.#timeline.total === 0 ? this.#options.buildEmptyState() : null);
      this.#options.onRead?.();
    } catch (error) {
      if (this.#isOpen && this.#timeline.months.length === 0) {
        this.#showState(buildErrorState(describeError(error), () => this.read("all")));
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
    this.refresh.watchThumbnails();
    this.#options.onSettle?.();
  }
}
