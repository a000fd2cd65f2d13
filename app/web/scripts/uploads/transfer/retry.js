/** Decides what follows a failed request of an upload: try again and when, begin anew, or give up. */

import { bus } from "../../shell/events.js";
import { ConnectionLost, RequestRefused } from "./exchange.js";

const FIRST_DELAY_MS = 1000;
const LONGEST_DELAY_MS = 30_000;
const LONGEST_SERVER_DELAY_MS = 300_000;
const PASSING_STATUSES = new Set([408, 409, 423, 425, 429, 502, 503, 504, 507]);
/** Of a fault of the server nobody knows whether it passes. */
const MOST_SERVER_FAULTS = 5;

/** @typedef {"retry" | "restart" | "sign-in" | "give-up"} Decision */

/**
 * @param {unknown} error
 * @param {number} attempts failures in a row so far, this one included
 * @returns {Decision}
 */
export function decide(error, attempts) {
  if (error instanceof ConnectionLost) {
    return "retry";
  }
  if (!(error instanceof RequestRefused)) {
    return "give-up";
  }
  if (error.status === 401) {
    return "sign-in";
  }
  if (error.status === 404 || error.status === 410) {
    return "restart";
  }
  if (PASSING_STATUSES.has(error.status)) {
    return "retry";
  }
  if (error.status >= 500) {
    return attempts <= MOST_SERVER_FAULTS ? "retry" : "give-up";
  }
  return "give-up";
}

/**
 * @param {unknown} error
 * @param {number} attempts failures in a row so far, this one included
 * @param {number} random from 0 up to 1
 * @returns {number} milliseconds: what the server asks for, else twice as long each time. Another offset than the server's: at once.
 */
export function chooseDelay(error, attempts, random) {
  if (error instanceof RequestRefused) {
    if (error.retryAfter !== null) {
      return Math.min(error.retryAfter * 1000, LONGEST_SERVER_DELAY_MS);
    }
    if (error.status === 409 && attempts === 1) {
      return 0;
    }
  }
  return Math.min(FIRST_DELAY_MS * 2 ** (attempts - 1), LONGEST_DELAY_MS) * (0.75 + random / 2);
}

/**
 * @param {number} milliseconds
 * @param {{signal: AbortSignal, untilOnline?: boolean}} options `untilOnline`: ends when the service is reached again
 * @returns {Promise<void>} rejects with the signal's reason
 */
export function pauseBeforeRetry(milliseconds, { signal, untilOnline = false }) {
  return new Promise((resolve, reject) => {
    const end = (/** @type {() => void} */ act) => {
      clearTimeout(timer);
      signal.removeEventListener("abort", abort);
      stopWatching();
      act();
    };
    const abort = () => end(() => reject(signal.reason));
    const wake = () => end(resolve);
    const stopWatching = bus.on("connection-changed", ({ online }) => untilOnline && online && wake());
    const timer = setTimeout(wake, milliseconds);
    signal.addEventListener("abort", abort);
    if (signal.aborted) {
      abort();
    }
  });
}
