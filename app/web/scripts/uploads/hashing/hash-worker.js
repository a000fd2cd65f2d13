/**
 * Worker: computes the SHA-1 of one file after another. Messages in: `{id, file}` and `{cancel: id}`. Messages out: `{id, hashed}` (bytes so
 * far), `{id, sha1}` (hex) and `{id, error}` (the name of a DOMException: the file cannot be read).
 */

import { Sha1, toHex } from "./sha1.js";

const SLICE_BYTES = 4 * 1024 * 1024;
const WHOLE_FILE_BYTES = 64 * 1024 * 1024;

/** @type {Set<number>} ids of files that are not wanted any more */
const cancelled = new Set();
let last = Promise.resolve();

self.onmessage = ({ data }) => {
  if (data.cancel !== undefined) {
    cancelled.add(data.cancel);
  } else {
    last = last.then(() => report(data.id, data.file));
  }
};

/**
 * @param {number} id
 * @param {File} file
 */
async function report(id, file) {
  try {
    const sha1 = await hash(id, file);
    if (sha1 !== null) {
      self.postMessage({ id, sha1 });
    }
  } catch (error) {
    self.postMessage({ id, error: error instanceof Error ? error.name : String(error) });
  } finally {
    cancelled.delete(id);
  }
}

/**
 * @param {number} id
 * @param {File} file
 * @returns {Promise<string | null>} null if it was cancelled
 */
async function hash(id, file) {
  if (cancelled.has(id)) {
    return null;
  }
  if (file.size <= WHOLE_FILE_BYTES && self.crypto?.subtle !== undefined) {
    return toHex(await crypto.subtle.digest("SHA-1", await file.arrayBuffer()));
  }
  const sha1 = new Sha1();
  for (let at = 0; at < file.size; at += SLICE_BYTES) {
    if (cancelled.has(id)) {
      return null;
    }
    const slice = new Uint8Array(await file.slice(at, at + SLICE_BYTES).arrayBuffer());
    sha1.update(slice);
    self.postMessage({ id, hashed: at + slice.length });
  }
  return sha1.digest();
}
