/** The selection in the grid of everything: bar, drag, and what can be done with it. */

import { text } from "../shell/text.js";
import { setFavorite, trashAssets } from "./asset-actions.js";
import { downloadAssets } from "./downloads.js";
import { DragSelection } from "./drag-selection.js";
import { selection } from "./selection.js";
import { SelectionBar } from "./selection-bar.js";

export class LibrarySelection {
  #timeline;
  #drag;
  #bar;

  /** @param {import("./grid/grid.js").Grid} grid */
  constructor(grid) {
    this.#timeline = grid.timeline;
    this.#drag = new DragSelection(grid, selection);
    this.#bar = new SelectionBar([
      { label: text("selection.download"), icon: "download", key: "s", run: downloadAssets, keepsSelection: true },
      { label: text("selection.favorite"), icon: "favorite", key: "f", run: (ids) => setFavorite(ids, !this.#areFavorites(ids)), keepsSelection: true },
      { label: text("selection.trash"), icon: "trash", key: "Delete", run: trashAssets },
    ]);
    selection.setSource(grid.timeline);
  }

  close() {
    this.#drag.close();
    this.#bar.close();
    selection.setSource(null);
  }

  /**
   * Whether all are favourites, as far as their months are loaded.
   * @param {string[]} ids
   */
  #areFavorites(ids) {
    return ids.every((id) => {
      const place = this.#timeline.find(id);
      return place !== null && place.month.assets?.isFavorite(place.index) === true;
    });
  }
}
