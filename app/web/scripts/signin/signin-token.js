/** The one-time token of a printed address: `/#signin=TOKEN`. It stands in the fragment, which browsers send nowhere. */

import { ApiError, request } from "../shell/api.js";
import { beginSession } from "../shell/session.js";
import { text } from "../shell/text.js";

const PREFIX = "#signin=";

const state = { /** @type {string | null} */ failure: null };

/**
 * Takes a token out of the address at once, and exchanges it for a session. A failure is kept for `takeTokenFailure`. An address with a token
 * that is opened where the page is open already loads it anew.
 */
export async function signInByToken() {
  addEventListener("hashchange", () => location.hash.startsWith(PREFIX) && location.reload());
  if (!location.hash.startsWith(PREFIX)) {
    return;
  }
  const token = location.hash.slice(PREFIX.length);
  history.replaceState(history.state, "", location.pathname + location.search);
  try {
    await beginSession(await request("POST", "/auth/sign-in-token", { json: { token } }));
  } catch (error) {
    const isUsed = error instanceof ApiError && error.status >= 400 && error.status < 429;
    state.failure = isUsed ? text("signin.token.used") : /** @type {Error} */ (error).message;
  }
}

/** @returns {string | null} why the token did not sign in; only once */
export function takeTokenFailure() {
  const failure = state.failure;
  state.failure = null;
  return failure;
}
