/** Remembers unfinished uploads in this browser, so that the same files, chosen again after a reload, go on where they stopped. */

const KEY = "mediavault.uploads";
const MOST_ENTRIES = 2000;

/**
 * @typedef {object} StoredUpload
 * @property {string} fingerprint
 * @property {string} id of the upload
 * @property {number} expiresAt milliseconds since 1970
 */

/**
 * @param {File} file
 * @param {string} sha1
 * @returns {string}
 */
export function buildFingerprint(file, sha1) {
  return `${sha1} ${file.size} ${file.lastModified} ${file.name}`;
}

/** Reads the storage each time: other tabs write to it too. A full or forbidden storage costs the resumption after a reload only. */
export class ResumeStore {
  #getStorage;

  /** @param {() => Storage} getStorage throws where the browser's settings forbid it */
  constructor(getStorage) {
    this.#getStorage = getStorage;
  }

  /**
   * @param {string} fingerprint
   * @returns {string | null} the upload's id
   */
  find(fingerprint) {
    return this.#read().find((stored) => stored.fingerprint === fingerprint)?.id ?? null;
  }

  /** @param {StoredUpload} upload */
  add(upload) {
    const others = this.#read().filter((stored) => stored.fingerprint !== upload.fingerprint);
    this.#write([...others, upload].slice(-MOST_ENTRIES));
  }

  /** @param {string} fingerprint */
  remove(fingerprint) {
    const stored = this.#read();
    const others = stored.filter((each) => each.fingerprint !== fingerprint);
    if (others.length < stored.length) {
      this.#write(others);
    }
  }

  /** @returns {StoredUpload[]} those that have not expired, oldest first */
  #read() {
    try {
      const stored = JSON.parse(this.#getStorage().getItem(KEY) ?? "[]");
      return Array.isArray(stored) ? stored.filter(isCurrent) : [];
    } catch {
      return [];
    }
  }

  /** @param {StoredUpload[]} uploads */
  #write(uploads) {
    try {
      this.#getStorage().setItem(KEY, JSON.stringify(uploads));
    } catch {
      // full, or forbidden by the browser's settings
    }
  }
}

/** @param {any} stored */
function isCurrent(stored) {
  return (
    typeof stored?.fingerprint === "string" &&
    /^[0-9a-f-]{36}$/i.test(stored.id) &&
    stored.expiresAt > Date.now()
  );
}
