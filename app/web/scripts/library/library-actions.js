/** What can be done with a selection of the library. */

import { text } from "../shell/text.js";
import { setFavorite, trashAssets } from "./asset-actions.js";
import { downloadAssets } from "./downloads.js";

/**
 * @param {import("./timeline/timeline.js").Timeline} timeline
 * @returns {import("./selection-bar.js").Action[]}
 */
export function listActions(timeline) {
  return [
    { label: text("selection.download"), icon: "download", key: "s", run: downloadAssets, keepsSelection: true },
    { label: text("selection.favorite"), icon: "favorite", key: "f", run: (ids) => setFavorite(ids, !areFavorites(timeline, ids)), keepsSelection: true },
    { label: text("selection.trash"), icon: "trash", key: "Delete", run: trashAssets },
  ];
}

/**
 * Whether all are favourites, as far as their months are loaded.
 * @param {import("./timeline/timeline.js").Timeline} timeline
 * @param {string[]} ids
 */
function areFavorites(timeline, ids) {
  return ids.every((id) => {
    const place = timeline.find(id);
    return place !== null && place.month.assets?.isFavorite(place.index) === true;
  });
}
