/** Whether the service can be reached: told by the requests that are made, and by a ping while it cannot. */

import { bus } from "./events.js";

const FIRST_WAIT = 1000;
const LONGEST_WAIT = 15_000;

const state = { online: true, wait: FIRST_WAIT, timer: 0 };

/** @returns {boolean} whether the last request reached the service */
export function isOnline() {
  return state.online;
}

/**
 * Every request reports here whether it got an answer.
 * @param {boolean} reached
 */
export function reportReachability(reached) {
  if (reached) {
    clearTimeout(state.timer);
    state.wait = FIRST_WAIT;
  } else {
    schedulePing();
  }
  if (reached !== state.online) {
    state.online = reached;
    bus.emit("connection-changed", { online: reached });
  }
}

/** @returns {Promise<void>} when the service is reached again */
export function waitForConnection() {
  return new Promise((resolve) => {
    if (state.online) {
      resolve();
      return;
    }
    const end = bus.on("connection-changed", ({ online }) => {
      if (online) {
        end();
        resolve();
      }
    });
  });
}

/** Follows what the system says of the network, too. */
export function installConnectionWatch() {
  addEventListener("offline", () => reportReachability(false));
  addEventListener("online", ping);
}

function schedulePing() {
  clearTimeout(state.timer);
  state.timer = setTimeout(ping, state.wait);
  state.wait = Math.min(state.wait * 2, LONGEST_WAIT);
}

async function ping() {
  try {
    await fetch("/api/server/ping", { cache: "no-store", signal: AbortSignal.timeout(10_000) });
    reportReachability(true);
  } catch {
    reportReachability(false);
  }
}
