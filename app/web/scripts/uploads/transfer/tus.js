/** Requests of tus 1.0 to `/api/uploads` (docs/uploads.md). Does not retry. */

import { exchange } from "./exchange.js";

const COLLECTION = "/api/uploads";
const VERSION = { "Tus-Resumable": "1.0.0" };
const BODY_TYPE = "application/offset+octet-stream";

/**
 * @typedef {object} AssetResult
 * @property {string} id
 * @property {boolean} isDuplicate
 *
 * @typedef {object} UploadStatus
 * @property {string} id
 * @property {number} offset bytes that have arrived
 * @property {number} expiresAt milliseconds since 1970
 * @property {AssetResult | null} asset if the upload is complete
 *
 * @typedef {{signal: AbortSignal, onProgress?: (bytes: number) => void}} Options
 */

/**
 * Creates an upload. With `body`, the whole file goes along.
 * @param {{file: File, name: string, sha1: string, body?: Blob}} upload
 * @param {Options} options
 * @returns {Promise<UploadStatus>}
 */
export async function createUpload({ file, name, sha1, body }, { signal, onProgress }) {
  const headers = {
    ...VERSION,
    "Upload-Length": String(file.size),
    "Upload-Metadata": encodeMetadata(describeFile(file, name)),
    "x-immich-checksum": sha1,
    ...(body === undefined ? {} : { "Content-Type": BODY_TYPE }),
  };
  const answer = await exchange("POST", COLLECTION, { headers, body, signal, onProgress });
  return readStatus(readId(answer.header("location") ?? ""), answer);
}

/**
 * @param {string} id
 * @param {Options} options
 * @returns {Promise<UploadStatus>}
 */
export async function getStatus(id, { signal }) {
  return readStatus(id, await exchange("HEAD", `${COLLECTION}/${id}`, { headers: VERSION, signal }));
}

/**
 * @param {string} id
 * @param {number} offset
 * @param {Blob} body
 * @param {Options} options
 * @returns {Promise<UploadStatus>}
 */
export async function appendChunk(id, offset, body, { signal, onProgress }) {
  const headers = { ...VERSION, "Upload-Offset": String(offset), "Content-Type": BODY_TYPE };
  return readStatus(id, await exchange("PATCH", `${COLLECTION}/${id}`, { headers, body, signal, onProgress }));
}

/**
 * Ends an unfinished upload; the server deletes what has arrived.
 * @param {string} id
 * @param {Options} options
 */
export async function cancelUpload(id, { signal }) {
  await exchange("DELETE", `${COLLECTION}/${id}`, { headers: VERSION, signal });
}

/**
 * The fields of `POST /api/assets` for a file. The server prefers the dates that it finds in the file.
 * @param {File} file
 * @param {string} name
 * @returns {Record<string, string>}
 */
export function describeFile(file, name) {
  const modified = new Date(file.lastModified).toISOString();
  return { filename: name, fileCreatedAt: modified, fileModifiedAt: modified };
}

/**
 * @param {Record<string, string>} fields
 * @returns {string} the value of `Upload-Metadata`
 */
export function encodeMetadata(fields) {
  return Object.entries(fields)
    .map(([key, value]) => `${key} ${encodeBase64(value)}`)
    .join(",");
}

/** @param {string} text */
function encodeBase64(text) {
  const bytes = new TextEncoder().encode(text);
  return btoa(Array.from(bytes, (byte) => String.fromCharCode(byte)).join(""));
}

/**
 * The server may name its public address, which need not be the one that this page came from.
 * @param {string} location
 */
function readId(location) {
  const id = location.split("/").at(-1) ?? "";
  if (!/^[0-9a-f-]{36}$/i.test(id)) {
    throw new Error("The answer names no upload");
  }
  return id;
}

/**
 * @param {string} id
 * @param {import("./exchange.js").Answer} answer
 * @returns {UploadStatus}
 */
function readStatus(id, answer) {
  const assetId = answer.json?.id ?? answer.header("mediavault-asset-id");
  const asset = assetId ? { id: assetId, isDuplicate: answer.json?.status === "duplicate" } : null;
  return {
    id,
    offset: Number(answer.header("upload-offset") ?? 0),
    expiresAt: Date.parse(answer.header("upload-expires") ?? "") || 0,
    asset,
  };
}
