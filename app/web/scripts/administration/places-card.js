/** Where the files are: the media folders or the bucket, and the external libraries with their scans. */

import { request } from "../shell/api.js";
import { formatBytes } from "../shell/format.js";
import { text } from "../shell/text.js";
import { buildChip, buildEntries, buildEntry, buildNothing, describeMoment } from "./parts.js";

/**
 * @typedef {{name: string, kind: "media" | "library", state: string, since: string, error: string | null, freeBytes: number | null,
 *   totalBytes: number | null}} Mount
 * @typedef {{startedAt: string, seconds: number, complete: boolean, found: number, new: number, changed: number, trashed: number,
 *   unreadableCount: number, refused: string | null}} Scan
 * @typedef {{id: string, name: string, importPaths: string[], assetCount: number, state: string, stateError: string | null,
 *   lastScan: Scan | null, scanning?: boolean}} Library
 */

/** @type {import("./card.js").CardContent} */
export const mountsCard = {
  title: text("admin.mounts"),
  icon: "folder",
  paths: ["/server/mounts"],
  build: ([mounts]) => [buildEntries(mounts.filter((/** @type {Mount} */ mount) => mount.kind === "media").map(buildMount))],
};

/** @type {import("./card.js").CardContent} */
export const librariesCard = {
  title: text("admin.libraries"),
  icon: "photos",
  paths: ["/libraries"],
  build: ([libraries], card) =>
    libraries.length === 0
      ? [buildNothing(text("admin.libraries.none"))]
      : [buildEntries(libraries.map((/** @type {Library} */ library) => buildLibrary(library, card)))],
};

/** @param {Mount} mount */
function buildMount({ name, state, since, error, freeBytes, totalBytes }) {
  const space = freeBytes === null || totalBytes === null ? null : text("admin.space", { free: formatBytes(freeBytes), size: formatBytes(totalBytes) });
  return buildEntry({
    name,
    chip: buildState(state),
    details: [state === "ok" ? space : text("admin.since", { moment: describeMoment(since) })],
    problem: error,
  });
}

/**
 * @param {Library} library
 * @param {import("./card.js").Card} card
 */
function buildLibrary(library, card) {
  const { id, name, importPaths, assetCount, state, stateError, lastScan, scanning = false } = library;
  const scan = card.buildButton({
    key: `${id}-scan`,
    label: text("admin.scan"),
    name: "retry",
    act: () => request("POST", `/libraries/${id}/scan`, { json: {} }),
  });
  return buildEntry({
    name,
    chip: scanning ? buildChip("busy", text("admin.scanning")) : buildState(state),
    details: [importPaths.join(", "), text("admin.library.count", { count: assetCount }), describeScan(lastScan)],
    problem: stateError ?? lastScan?.refused ?? null,
    button: scan,
  });
}

/** @param {Scan | null} scan */
function describeScan(scan) {
  if (scan === null) {
    return text("admin.scan.none");
  }
  const values = { moment: describeMoment(scan.startedAt), found: scan.found, added: scan.new, changed: scan.changed, trashed: scan.trashed };
  return text("admin.scan.last", values);
}

/** @param {string} state */
function buildState(state) {
  const word = text.has(`admin.state.${state}`) ? text(`admin.state.${state}`) : state;
  return buildChip(state === "ok" ? "good" : "bad", word);
}
