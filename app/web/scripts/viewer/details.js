/** What is known of an asset, as lines for the panel. No I/O, no elements. */

import { formatBytes, formatDay, formatDuration, formatNumber, formatTime } from "../shell/format.js";
import { text } from "../shell/text.js";

/**
 * One line: a heading, and further texts below it.
 * @typedef {{icon: string, title: string, lines: string[], isCode?: boolean, isWarning?: boolean}} Detail
 */

/**
 * @param {any} asset as `GET /api/assets/{id}` answers
 * @returns {Detail[]}
 */
export function listDetails(asset) {
  const exif = asset.exifInfo ?? {};
  const warnings = [asset.processingError, asset.originalDamage, asset.sidecarError].filter(Boolean);
  return [
    ...warnings.map((warning) => ({ icon: "warning", title: text("info.warning"), lines: [String(warning)], isWarning: true })),
    describeDate(asset, exif),
    ...describeCamera(exif),
    ...describePlace(exif),
    describeFile(asset, exif),
    describeStorage(asset),
    { icon: "checksum", title: text("info.checksum"), lines: [decodeChecksum(asset.checksum)], isCode: true },
  ];
}

/**
 * @param {any} asset
 * @param {any} exif
 * @returns {Detail}
 */
function describeDate(asset, exif) {
  const local = new Date(asset.localDateTime);
  const zone = exif.timeZone ? String(exif.timeZone) : text("info.zone.unknown");
  return { icon: "calendar", title: formatDay(local), lines: [`${formatTime(local)} · ${zone}`] };
}

/**
 * @param {any} exif
 * @returns {Detail[]}
 */
function describeCamera(exif) {
  const make = exif.make && !String(exif.model ?? "").startsWith(exif.make) ? exif.make : "";
  const title = [make, exif.model].filter(Boolean).join(" ");
  const exposure = [
    exif.fNumber && `ƒ/${formatNumber(exif.fNumber)}`,
    exif.exposureTime && text("info.seconds", { value: String(exif.exposureTime) }),
    exif.focalLength && text("info.millimetres", { value: exif.focalLength }),
    exif.iso && `ISO ${exif.iso}`,
  ];
  const lines = [exif.lensModel, exposure.filter(Boolean).join(" · ")].filter(Boolean);
  return title || lines.length > 0 ? [{ icon: "camera", title: title || text("info.camera"), lines }] : [];
}

/**
 * @param {any} exif
 * @returns {Detail[]}
 */
function describePlace(exif) {
  const hasPosition = typeof exif.latitude === "number" && typeof exif.longitude === "number";
  const position = hasPosition ? formatPosition(exif.latitude, exif.longitude) : "";
  const name = [exif.city, exif.state, exif.country].filter(Boolean).join(", ");
  if (!position && !name) {
    return [];
  }
  return [{ icon: "place", title: name || position, lines: name && position ? [position] : [] }];
}

/**
 * @param {number} latitude
 * @param {number} longitude
 */
function formatPosition(latitude, longitude) {
  const degrees = (/** @type {number} */ value) => Math.abs(value).toFixed(5);
  return `${degrees(latitude)}° ${latitude < 0 ? "S" : "N"}, ${degrees(longitude)}° ${longitude < 0 ? "W" : "E"}`;
}

/**
 * @param {any} asset
 * @param {any} exif
 * @returns {Detail}
 */
function describeFile(asset, exif) {
  const area = `${asset.width} × ${asset.height}`;
  const megapixels = Math.round((asset.width * asset.height) / 1e6);
  const pixels = megapixels > 0 ? text("info.pixels", { size: area, count: megapixels }) : asset.width && asset.height ? area : "";
  const size = typeof exif.fileSizeInByte === "number" ? formatBytes(exif.fileSizeInByte) : "";
  const video = [asset.duration ? formatDuration(asset.duration) : "", exif.videoCodec, exif.audioCodec, exif.fps ? text("info.fps", { value: exif.fps }) : ""];
  const lines = [[pixels, size, asset.originalMimeType], video].map((parts) => parts.filter(Boolean).join(" · "));
  return { icon: asset.type === "VIDEO" ? "video" : "file", title: asset.originalFileName, lines: lines.filter(Boolean) };
}

/**
 * @param {any} asset
 * @returns {Detail}
 */
function describeStorage(asset) {
  const path = String(asset.originalPath);
  if (asset.libraryId) {
    return { icon: "folder", title: text(asset.isOffline ? "info.library.offline" : "info.library"), lines: [path] };
  }
  return path.startsWith("s3://") ? { icon: "cloud", title: text("info.s3"), lines: [path] } : { icon: "disk", title: text("info.disk"), lines: [path] };
}

/**
 * @param {string} checksum in base64
 * @returns {string} in hex
 */
function decodeChecksum(checksum) {
  return Array.from(atob(checksum), (character) => character.charCodeAt(0).toString(16).padStart(2, "0")).join("");
}
