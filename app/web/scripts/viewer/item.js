/** What the viewer needs to show an asset at once, read from the grid's columns or from the asset itself. */

import { buildPictureAddress, buildVersion } from "../library/grid/tile.js";

/**
 * `hash`, `version`: of the thumbnail, null and "" while none is made; `time`: local, as if it were UTC.
 * @typedef {{
 *   id: string, isImage: boolean, isFavorite: boolean, ratio: number, time: number, duration: number,
 *   hash: Uint8Array | null, version: string, liveId: string | null,
 * }} Item
 */

/**
 * @param {import("../library/timeline/timeline.js").Place} place
 * @returns {Item | null} null if the month is not loaded
 */
export function readPlace({ month, index, id }) {
  const assets = month.assets;
  if (!assets) {
    return null;
  }
  const hash = assets.getThumbhash(index);
  return {
    id,
    isImage: assets.isImage(index),
    isFavorite: assets.isFavorite(index),
    ratio: assets.getRatio(index),
    time: assets.getTime(index),
    duration: assets.getDuration(index),
    hash,
    version: hash ? buildVersion(hash) : "",
    liveId: assets.getLiveId(index),
  };
}

/**
 * @param {any} asset as the service answers
 * @returns {Item}
 */
export function readAsset(asset) {
  const hash = asset.thumbhash ? Uint8Array.from(atob(asset.thumbhash), (character) => character.charCodeAt(0)) : null;
  return {
    id: asset.id,
    isImage: asset.type === "IMAGE",
    isFavorite: asset.isFavorite,
    ratio: asset.width && asset.height ? asset.width / asset.height : 1,
    time: Date.parse(asset.localDateTime),
    duration: asset.duration ?? 0,
    hash,
    version: hash ? buildVersion(hash) : "",
    liveId: asset.livePhotoVideoId,
  };
}

/**
 * The address of a picture of the item, "" while there is none.
 * @param {Item} item
 * @param {"thumbnail" | "preview" | "fullsize"} size
 */
export function getPictureAddress(item, size) {
  return item.version === "" ? "" : buildPictureAddress(item.id, size, item.version);
}

/**
 * @param {string} id of a video
 * @param {string} version
 */
export function getVideoAddress(id, version) {
  return `/api/assets/${id}/video/playback${version ? `?c=${version}` : ""}`;
}
