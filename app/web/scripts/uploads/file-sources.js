/**
 * Finds the files of a drop, a choice or a paste, folder by folder, and pairs photos with their XMP sidecars. Gives them in batches, so that
 * thousands neither wait for each other nor block the page.
 */

const BATCH_FILES = 200;
const JUNK = /^(\.|Thumbs\.db$|desktop\.ini$|ehthumbs\.db$)/i;
const SIDECAR = /\.xmp$/i;

/**
 * @typedef {object} FoundFile
 * @property {File} file
 * @property {string} folder the path of its folder, empty at the top
 * @property {File | null} sidecar
 *
 * @typedef {object} Batch
 * @property {FoundFile[]} files
 * @property {string[]} unreadable paths of files and folders that cannot be read
 */

/**
 * Files that the browser has listed already: of an input, or of a paste.
 * @param {Iterable<File>} files
 * @returns {Generator<Batch>}
 */
export function* listChosenFiles(files) {
  /** @type {Map<string, File[]>} */
  const folders = new Map();
  for (const file of files) {
    const folder = file.webkitRelativePath.split("/").slice(0, -1).join("/");
    const siblings = folders.get(folder);
    if (siblings === undefined) {
      folders.set(folder, [file]);
    } else {
      siblings.push(file);
    }
  }
  for (const [folder, siblings] of folders) {
    yield* splitBatches(pairSidecars(siblings, folder));
  }
}

/**
 * The entries of a drop. Must be called during the event: a `DataTransfer` is empty afterwards.
 * @param {DataTransfer} transfer
 * @returns {{entries: FileSystemEntry[], files: File[]}} `files` where the browser has no entries
 */
export function takeDropped(transfer) {
  const items = [...transfer.items].filter((item) => item.kind === "file");
  const entries = items.map((item) => item.webkitGetAsEntry()).filter((entry) => entry !== null);
  return { entries, files: entries.length === 0 ? [...transfer.files] : [] };
}

/**
 * Walks through dropped files and folders, one folder at a time.
 * @param {FileSystemEntry[]} entries
 * @returns {AsyncGenerator<Batch>}
 */
export async function* walkDropped(entries) {
  /** @type {{folder: string, entries: FileSystemEntry[]}[]} */
  const waiting = [{ folder: "", entries }];
  for (let next = waiting.pop(); next !== undefined; next = waiting.pop()) {
    const { folder } = next;
    const files = [];
    const unreadable = [];
    for (const entry of next.entries) {
      if (JUNK.test(entry.name)) {
        continue;
      }
      try {
        if (entry.isDirectory) {
          const directory = /** @type {FileSystemDirectoryEntry} */ (entry);
          waiting.push({ folder: joinPath(folder, entry.name), entries: await readDirectory(directory) });
        } else {
          files.push(await readFile(/** @type {FileSystemFileEntry} */ (entry)));
        }
      } catch {
        unreadable.push(joinPath(folder, entry.name));
      }
    }
    if (unreadable.length > 0) {
      yield { files: [], unreadable };
    }
    yield* splitBatches(pairSidecars(files, folder));
  }
}

/**
 * The photos and videos among the files of one folder, each with the sidecar `x.jpg.xmp`, or else `x.xmp`. A sidecar that belongs to none
 * stays a file of its own.
 * @param {File[]} siblings
 * @param {string} folder
 * @returns {FoundFile[]}
 */
export function pairSidecars(siblings, folder) {
  const wanted = siblings.filter((file) => !JUNK.test(file.name));
  const sidecars = new Map(wanted.filter(isSidecar).map((file) => [file.name.toLowerCase().replace(SIDECAR, ""), file]));
  const used = new Set();
  const found = [];
  for (const file of wanted) {
    if (isSidecar(file)) {
      continue;
    }
    const name = file.name.toLowerCase();
    const sidecar = sidecars.get(name) ?? sidecars.get(name.replace(/\.[^.]*$/, "")) ?? null;
    used.add(sidecar);
    found.push({ file, folder, sidecar });
  }
  const lone = wanted.filter((file) => isSidecar(file) && !used.has(file));
  return [...found, ...lone.map((file) => ({ file, folder, sidecar: null }))];
}

/** @param {File} file */
function isSidecar(file) {
  return SIDECAR.test(file.name);
}

/**
 * @param {FoundFile[]} files
 * @returns {Generator<Batch>}
 */
function* splitBatches(files) {
  for (let start = 0; start < files.length; start += BATCH_FILES) {
    yield { files: files.slice(start, start + BATCH_FILES), unreadable: [] };
  }
}

/**
 * @param {string} folder
 * @param {string} name
 */
function joinPath(folder, name) {
  return folder === "" ? name : `${folder}/${name}`;
}

/**
 * A reader gives some entries at a time, and none at the end.
 * @param {FileSystemDirectoryEntry} directory
 * @returns {Promise<FileSystemEntry[]>}
 */
async function readDirectory(directory) {
  const reader = directory.createReader();
  const all = [];
  for (;;) {
    /** @type {FileSystemEntry[]} */
    const some = await new Promise((resolve, reject) => reader.readEntries(resolve, reject));
    if (some.length === 0) {
      return all;
    }
    all.push(...some);
  }
}

/**
 * @param {FileSystemFileEntry} entry
 * @returns {Promise<File>}
 */
function readFile(entry) {
  return new Promise((resolve, reject) => entry.file(resolve, reject));
}
