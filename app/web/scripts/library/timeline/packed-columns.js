/** The columns of a month as typed arrays: 60 bytes for an asset, and nothing for the garbage collector to trace. */

export const IS_IMAGE = 1;
export const IS_FAVORITE = 2;

const HOUR = 3_600_000;
const ID_BYTES = 16;
const LOWEST_RATIO = 0.05;

/**
 * `times`: local time in milliseconds, as if it were UTC; `durations`: milliseconds, 0 where there is none; `hashes`: the
 * thumbhashes one after the other, asset `i`'s from `hashStarts[i]` to before `hashEnds[i]`; `liveIds`: zeros where there is none.
 * @typedef {{
 *   count: number,
 *   ids: Uint8Array,
 *   liveIds: Uint8Array,
 *   times: Float64Array,
 *   ratios: Float32Array,
 *   flags: Uint8Array,
 *   durations: Uint32Array,
 *   hashStarts: Uint32Array,
 *   hashEnds: Uint32Array,
 *   hashes: Uint8Array,
 * }} PackedColumns
 */

/** @type {("ids" | "liveIds" | "times" | "ratios" | "flags" | "durations" | "hashStarts" | "hashEnds")[]} the columns with values of each asset */
export const PER_ASSET = ["ids", "liveIds", "times", "ratios", "flags", "durations", "hashStarts", "hashEnds"];

/**
 * Packs the answer of `GET /api/timeline/bucket`.
 * @param {any} columns
 * @returns {PackedColumns}
 */
export function packColumns(columns) {
  const count = columns.id.length;
  const hashes = columns.thumbhash.map((/** @type {string | null} */ hash) => (hash ? atob(hash) : ""));
  const packed = {
    count,
    ids: new Uint8Array(count * ID_BYTES),
    liveIds: new Uint8Array(count * ID_BYTES),
    times: new Float64Array(count),
    ratios: new Float32Array(count),
    flags: new Uint8Array(count),
    durations: new Uint32Array(count),
    hashStarts: new Uint32Array(count),
    hashEnds: new Uint32Array(count),
    hashes: Uint8Array.from(hashes.join(""), (character) => character.charCodeAt(0)),
  };
  let hashEnd = 0;
  for (let index = 0; index < count; index += 1) {
    packed.times[index] = Date.parse(columns.fileCreatedAt[index]) + columns.localOffsetHours[index] * HOUR;
    packed.ratios[index] = Math.max(columns.ratio[index] || 1, LOWEST_RATIO);
    packed.flags[index] = (columns.isImage[index] ? IS_IMAGE : 0) | (columns.isFavorite[index] ? IS_FAVORITE : 0);
    packed.durations[index] = Math.max(0, columns.duration[index] ?? 0);
    writeId(packed.ids, index, columns.id[index]);
    if (columns.livePhotoVideoId[index]) {
      writeId(packed.liveIds, index, columns.livePhotoVideoId[index]);
    }
    packed.hashStarts[index] = hashEnd;
    hashEnd += hashes[index].length;
    packed.hashEnds[index] = hashEnd;
  }
  return packed;
}

/**
 * @param {Uint8Array} target
 * @param {number} index
 * @param {string} id
 */
export function writeId(target, index, id) {
  const digits = id.replaceAll("-", "");
  for (let place = 0; place < ID_BYTES; place += 1) {
    target[index * ID_BYTES + place] = Number.parseInt(digits.substr(place * 2, 2), 16);
  }
}

/**
 * @param {Uint8Array} source
 * @param {number} index
 * @returns {string}
 */
export function readId(source, index) {
  let digits = "";
  for (let place = index * ID_BYTES; place < (index + 1) * ID_BYTES; place += 1) {
    digits += source[place].toString(16).padStart(2, "0");
  }
  return [digits.slice(0, 8), digits.slice(8, 12), digits.slice(12, 16), digits.slice(16, 20), digits.slice(20)].join("-");
}
