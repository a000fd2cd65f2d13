/** What can be done with the asset that is shown. */

import { request } from "../shell/api.js";
import { announce } from "../shell/announcer.js";
import { bus } from "../shell/events.js";
import { text } from "../shell/text.js";
import { toast } from "../shell/toasts.js";

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
  return attempt(async () => {
    await request("DELETE", "/assets", { json: { ids: [id] } });
    bus.emit("assets-removed", { ids: [id] });
    toast(text("viewer.trashed"), { action: { label: text("viewer.undo"), onClick: () => restore(id) } });
  });
}

/** @param {string} id */
function restore(id) {
  return attempt(async () => {
    await request("POST", "/trash/restore/assets", { json: { ids: [id] } });
    bus.emit("assets-added", { ids: [id] });
    announce(text("viewer.restored"));
  });
}

/**
 * Downloads the original by the browser's own download manager.
 * @param {string} id
 */
export function downloadOriginal(id) {
  const link = document.createElement("a");
  link.href = `/api/assets/${id}/original?download=true`;
  link.download = "";
  document.body.append(link);
  link.click();
  link.remove();
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
    toast(/** @type {Error} */ (error).message, { kind: "error" });
    return false;
  }
}
