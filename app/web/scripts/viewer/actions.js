/** What can be done with the asset that is shown. */

import { trashAssets } from "../library/asset-actions.js";
import { announce } from "../shell/announcer.js";
import { request } from "../shell/api.js";
import { showError } from "../shell/errors.js";
import { bus } from "../shell/events.js";
import { text } from "../shell/text.js";

/**
 * @param {string} id
 * @param {boolean} isFavorite
 * @returns {Promise<boolean>} whether it was done
 */
export async function markFavorite(id, isFavorite) {
  return attempt(async () => {
    await request("PUT", `/assets/${id}`, { json: { isFavorite } });
    announce(text(isFavorite ? "viewer.favorite.added" : "viewer.favorite.removed"));
    bus.emit("assets-changed", { ids: [id] });
  });
}

/**
 * Moves an asset to the trash, and offers to undo that.
 * @param {string} id
 * @returns {Promise<boolean>} whether it was done
 */
export async function moveToTrash(id) {
  return attempt(() => trashAssets([id]));
}

/**
 * @param {() => Promise<void>} act
 * @returns {Promise<boolean>}
 */
async function attempt(act) {
  try {
    await act();
    return true;
  } catch (error) {
    showError(error);
    return false;
  }
}
