/**
 * A worker that fetches one month of the timeline and packs its columns into buffers, so that neither the parsing of a month
 * of 100,000 assets nor its strings burden the page.
 */

import { packColumns } from "./packed-columns.js";

/** @type {Map<number, AbortController>} */
const running = new Map();

self.addEventListener("message", ({ data }) => {
  if (data.abort) {
    running.get(data.number)?.abort();
  } else {
    load(data.number, data.url);
  }
});

/**
 * @param {number} number
 * @param {string} url
 */
async function load(number, url) {
  const controller = new AbortController();
  running.set(number, controller);
  try {
    const response = await fetch(url, { signal: controller.signal, credentials: "same-origin" });
    if (!response.ok) {
      const problem = await response.json().catch(() => null);
      self.postMessage({ number, status: response.status, message: String(problem?.message ?? "") });
      return;
    }
    const packed = packColumns(await response.json());
    const buffers = Object.values(packed).flatMap((part) => (ArrayBuffer.isView(part) ? [part.buffer] : []));
    self.postMessage({ number, packed }, { transfer: /** @type {ArrayBuffer[]} */ (buffers) });
  } catch {
    self.postMessage({ number, status: controller.signal.aborted ? -1 : 0, message: "" });
  } finally {
    running.delete(number);
  }
}
