/** Who is signed in. The session itself is a cookie that scripts cannot read. */

import { request } from "./api.js";
import { bus } from "./events.js";

/** @typedef {{id: string, name: string, email: string, isAdmin: boolean}} User */

const state = { /** @type {User | null} */ user: null };

/** @returns {User | null} */
export function getUser() {
  return state.user;
}

/** @returns {boolean} */
export function isSignedIn() {
  return state.user !== null;
}

/** Asks the service who is signed in, without a request if nobody is; the service's cookie for scripts tells. */
export async function restoreSession() {
  if (!document.cookie.includes("immich_is_authenticated=true")) {
    return;
  }
  try {
    setUser(await request("GET", "/users/me"));
  } catch {
    // Signed out, or not reachable: the sign-in view says which.
  }
}

/** After a sign-in: reads who it is. Throws `ApiError`. */
export async function beginSession() {
  setUser(await request("GET", "/users/me"));
}

/** Ends the session, here and at the service. Throws `ApiError` if it is not reached. */
export async function endSession() {
  await request("POST", "/auth/logout");
  setUser(null);
}

/** The service has said that the session is over. */
export function forgetSession() {
  setUser(null);
}

/** @param {User | null} user */
function setUser(user) {
  state.user = user;
  bus.emit("session-changed", { user });
}
