/** Sums over the upload queue, for the panel. */

/**
 * @typedef {object} Totals
 * @property {number} count files that are listed and not cancelled
 * @property {number} ended
 * @property {number} uploaded
 * @property {number} duplicates
 * @property {number} failed
 * @property {number} retriable failed, and can be tried again
 * @property {number} bytes
 * @property {number} settledBytes that are dealt with
 */

/**
 * @param {readonly import("./entry.js").Entry[]} entries
 * @returns {Totals}
 */
export function sumUp(entries) {
  const totals = { count: 0, ended: 0, uploaded: 0, duplicates: 0, failed: 0, retriable: 0, bytes: 0, settledBytes: 0 };
  for (const entry of entries) {
    if (entry.state === "cancelled") {
      continue;
    }
    totals.count += 1;
    totals.bytes += entry.size;
    totals.settledBytes += entry.settledBytes;
    totals.ended += Number(entry.hasEnded);
    totals.uploaded += Number(entry.state === "done");
    totals.duplicates += Number(entry.state === "duplicate");
    totals.failed += Number(entry.state === "failed");
    totals.retriable += Number(entry.state === "failed" && entry.file !== null);
  }
  return totals;
}

/**
 * @param {Totals} totals
 * @param {number | null} speed bytes per second
 * @returns {number | null} seconds; null if they cannot be told
 */
export function estimateSeconds(totals, speed) {
  return speed === null || speed < 1 ? null : (totals.bytes - totals.settledBytes) / speed;
}
