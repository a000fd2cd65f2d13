/** What is done with many assets at once. All functions throw `ApiError`. */

import { request } from "../shell/api.js";
import { askToConfirm } from "../shell/dialogs.js";
import { showError } from "../shell/errors.js";
import { bus } from "../shell/events.js";
import { text } from "../shell/text.js";
import { toast } from "../shell/toasts.js";

const BATCH_IDS = 10_000;

/**
 * Into the trash, with a way back.
 * @param {string[]} ids
 */
export async function trashAssets(ids) {
  await inBatches(ids, (some) => request("DELETE", "/assets", { json: { ids: some } }), "assets-removed");
  const undo = () => restoreAssets(ids).catch(showError);
  toast(text("assets.trashed", { count: ids.length }), { action: { label: text("assets.undo"), onClick: undo } });
}

/**
 * Out of the trash.
 * @param {string[]} ids
 */
export async function restoreAssets(ids) {
  let count = 0;
  await inBatches(
    ids,
    async (some) => {
      count += (await request("POST", "/trash/restore/assets", { json: { ids: some } })).count;
    },
    "assets-added",
  );
  toast(text("assets.restored", { count }));
}

/**
 * Deletes for good, after a question.
 * @param {string[]} ids
 * @returns {Promise<boolean>} whether they were deleted
 */
export async function deleteAssets(ids) {
  const count = ids.length;
  const question = { title: text("assets.delete.title", { count }), body: text("assets.delete.body"), action: text("assets.delete.action") };
  if (!(await askToConfirm(question))) {
    return false;
  }
  await inBatches(ids, (some) => request("DELETE", "/assets", { json: { ids: some, force: true } }), "assets-removed");
  toast(text("assets.deleted", { count }));
  return true;
}

/**
 * @param {string[]} ids
 * @param {boolean} isFavorite
 */
export async function setFavorite(ids, isFavorite) {
  await inBatches(ids, (some) => request("PUT", "/assets", { json: { ids: some, isFavorite } }), "assets-changed");
  toast(text(isFavorite ? "assets.favorite.set" : "assets.favorite.unset", { count: ids.length }));
}

/**
 * @param {string[]} ids
 * @param {(some: string[]) => Promise<unknown>} act
 * @param {"assets-added" | "assets-removed" | "assets-changed"} event what other parts of the page are told after each batch
 */
async function inBatches(ids, act, event) {
  for (let start = 0; start < ids.length; start += BATCH_IDS) {
    const some = ids.slice(start, start + BATCH_IDS);
    await act(some);
    bus.emit(event, { ids: some });
  }
}
