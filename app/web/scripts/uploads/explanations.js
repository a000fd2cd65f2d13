/** Says in words why a file was left out, has failed, or waits. */

import { text } from "../shell/text.js";
import { ConnectionLost, RequestRefused } from "./transfer/exchange.js";
import { UnreadableFile } from "./hashing/hasher.js";

const SIDECAR = /\.xmp$/i;

/** @typedef {{image: string[], video: string[]}} MediaTypes extensions with their dots, in lower case */

/**
 * @param {import("./file-sources.js").FoundFile} found
 * @param {MediaTypes | null} types null if they are not known: then the server decides
 * @returns {string | null} why this file is not to be sent at all
 */
export function explainRefusal({ file }, types) {
  if (SIDECAR.test(file.name)) {
    return text("uploads.refused.sidecar");
  }
  if (file.size === 0) {
    return text("uploads.refused.empty");
  }
  const extension = /\.[^.]+$/.exec(file.name.toLowerCase())?.[0] ?? "";
  if (types !== null && !types.image.includes(extension) && !types.video.includes(extension)) {
    return text("uploads.refused.type");
  }
  return null;
}

/**
 * @param {import("./queue/entry.js").Entry} entry
 * @param {boolean} isTrashed
 */
export function explainDuplicate(entry, isTrashed) {
  if (isTrashed) {
    return text("uploads.duplicate.trashed");
  }
  return text(entry.sidecar === null ? "uploads.duplicate" : "uploads.duplicate.sidecar");
}

/** @param {unknown} error */
export function explainFailure(error) {
  if (error instanceof UnreadableFile) {
    return text("uploads.failed.unreadable");
  }
  if (error instanceof RequestRefused) {
    return error.status === 413 ? text("uploads.failed.large") : explainStatus(error);
  }
  return text("uploads.failed.unknown");
}

/** @param {unknown} error */
export function explainWait(error) {
  if (error instanceof ConnectionLost) {
    return text("uploads.wait.connection");
  }
  return error instanceof RequestRefused ? text("uploads.wait.server", { reason: explainStatus(error) }) : "";
}

/** @param {RequestRefused} error */
function explainStatus(error) {
  return error.message || text("error.status", { status: error.status });
}
