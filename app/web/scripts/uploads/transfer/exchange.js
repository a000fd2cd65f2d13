/** One HTTP request with a body whose progress is told. XMLHttpRequest, since fetch tells no progress of uploads. */

import { reportReachability } from "../../shell/connection.js";

const SEND_STALL_MS = 60_000;
const ANSWER_STALL_MS = 180_000;

/** No answer came: the connection broke, was never made, or stood still. */
export class ConnectionLost extends Error {}

/** The server answered with an error. */
export class RequestRefused extends Error {
  /**
   * @param {number} status
   * @param {string} message for people
   * @param {number | null} retryAfter seconds
   */
  constructor(status, message, retryAfter) {
    super(message);
    this.status = status;
    this.retryAfter = retryAfter;
  }
}

/**
 * @typedef {object} Answer
 * @property {number} status
 * @property {(name: string) => string | null} header
 * @property {any} json the body, or null where it is no JSON
 */

/**
 * @param {string} method
 * @param {string} path
 * @param {{headers?: Record<string, string>, body?: Blob | FormData | null, signal: AbortSignal, onProgress?: (bytes: number) => void}} options
 *   `onProgress` is told how many bytes of the body have been sent
 * @returns {Promise<Answer>} with a status below 400. Rejects with `RequestRefused`, `ConnectionLost`, or the signal's reason.
 */
export function exchange(method, path, { headers = {}, body = null, signal, onProgress = () => {} }) {
  signal.throwIfAborted();
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest();
    let stallTimer = 0;
    const abort = () => finish(() => reject(signal.reason));
    const finish = (/** @type {() => void} */ act) => {
      clearTimeout(stallTimer);
      signal.removeEventListener("abort", abort);
      act();
      request.abort();
    };
    const expectProgress = (/** @type {number} */ milliseconds) => {
      clearTimeout(stallTimer);
      stallTimer = setTimeout(() => finish(() => reject(new ConnectionLost("no progress"))), milliseconds);
    };
    request.open(method, path);
    for (const [name, value] of Object.entries(headers)) request.setRequestHeader(name, value);
    request.upload.onprogress = (event) => {
      expectProgress(SEND_STALL_MS);
      onProgress(event.loaded);
    };
    request.upload.onload = () => expectProgress(ANSWER_STALL_MS);
    request.onerror = () => {
      reportReachability(false);
      finish(() => reject(new ConnectionLost("no answer")));
    };
    request.onabort = () => finish(() => reject(new ConnectionLost("aborted")));
    request.onload = () => {
      reportReachability(true);
      finish(() => settle(request, resolve, reject));
    };
    signal.addEventListener("abort", abort, { once: true });
    expectProgress(SEND_STALL_MS);
    request.send(body);
  });
}

/**
 * @param {XMLHttpRequest} request
 * @param {(answer: Answer) => void} resolve
 * @param {(error: Error) => void} reject
 */
function settle(request, resolve, reject) {
  const json = parseJson(request.responseText);
  const header = (/** @type {string} */ name) => answered.get(name.toLowerCase()) ?? null;
  const answered = new Map(
    request.getAllResponseHeaders().split("\r\n").map((line) => {
      const colon = line.indexOf(":");
      return [line.slice(0, colon).toLowerCase(), line.slice(colon + 1).trim()];
    }),
  );
  if (request.status < 400) {
    resolve({ status: request.status, header, json });
    return;
  }
  if (request.status === 401) {
    dispatchEvent(new CustomEvent("signed-out"));
  }
  const message = typeof json?.message === "string" ? json.message : "";
  reject(new RequestRefused(request.status, message, parseSeconds(header("retry-after"))));
}

/** @param {string} text */
function parseJson(text) {
  try {
    return JSON.parse(text);
  } catch {
    return null;
  }
}

/**
 * @param {string | null} text
 * @returns {number | null}
 */
function parseSeconds(text) {
  return text !== null && /^\d{1,6}$/.test(text) ? Number(text) : null;
}
