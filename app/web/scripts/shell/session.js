/** Who is signed in. The session itself is a cookie that scripts cannot read. */

import { ApiError, request } from "./api.js";
import { reportReachability, waitForConnection } from "./connection.js";
import { bus } from "./events.js";

/** @typedef {{id: string, name: string, email: string, isAdmin: boolean}} User */

const state = { /** @type {User | null} */ user: null };
/** Carries the id of who has signed in, or null, to the browser's other tabs: all of them send the same cookie. */
const channel = new BroadcastChannel("session");

/** @returns {User | null} */
export function getUser() {
  return state.user;
}

/** @returns {boolean} */
export function isSignedIn() {
  return state.user !== null;
}

/** @returns {boolean} whether there may be a session; the service's cookie for scripts tells */
export function maySignIn() {
  return document.cookie.includes("immich_is_authenticated=true");
}

/**
 * Asks the service who is signed in, without a request if nobody is. Waits for a service that is not reached or cannot tell. The session of a
 * key that may not read its user goes on without a name.
 */
export async function restoreSession() {
  while (state.user === null && maySignIn()) {
    try {
      setUser(await request("GET", "/users/me"));
    } catch (error) {
      const status = error instanceof ApiError ? error.status : 400;
      if (status === 403) {
        setUser({ id: "", name: "", email: "", isAdmin: false });
      } else if (status > 0 && status < 500) {
        return;
      }
      reportReachability(status === 403);
      await waitForConnection();
    }
  }
}

/**
 * After a sign-in: reads who it is. A session of a key that may not read its user has the few values of the sign-in's answer.
 * Throws `ApiError`.
 * @param {{userId: string, name: string, userEmail: string, isAdmin: boolean}} login
 */
export async function beginSession(login) {
  channel.postMessage(login.userId);
  try {
    setUser(await request("GET", "/users/me"));
  } catch (error) {
    if (!(error instanceof ApiError) || error.status !== 403) {
      throw error;
    }
    setUser({ id: login.userId, name: login.name, email: login.userEmail, isAdmin: login.isAdmin });
  }
}

/** Ends the session, here and at the service. Throws `ApiError` if it is not reached. */
export async function endSession() {
  await request("POST", "/auth/logout");
  channel.postMessage(null);
  setUser(null);
}

/** Follows the service when it says that the session is over, and another tab in which it has ended or somebody else has signed in. */
export function installSessionWatch() {
  channel.onmessage = ({ data }) => state.user && state.user.id !== data && dispatchEvent(new CustomEvent("signed-out"));
  addEventListener("signed-out", () => state.user && setUser(null));
}

/** @param {User | null} user */
function setUser(user) {
  state.user = user;
  bus.emit("session-changed", { user });
}
