/** Boot of the page: builds the frame, installs the views and opens the one that the address names. */

import "./signin/signin-view.js";
import "./library/library-view.js";
import "./viewer/viewer-view.js";
import "./trash/trash-view.js";
import "./administration/administration-view.js";

import { library } from "./library/library.js";
import { installConnectionWatch } from "./shell/connection.js";
import { buildFrame } from "./shell/frame.js";
import { installShortcuts } from "./shell/keyboard.js";
import { startRouter } from "./shell/router.js";
import { installSessionWatch, isSignedIn, maySignIn, restoreSession } from "./shell/session.js";
import { toast } from "./shell/toasts.js";
import { signInByToken, takeTokenFailure } from "./signin/signin-token.js";
import { installUploads } from "./uploads/uploads.js";

/** The addresses whose views show the library. */
const LIBRARY = /^\/(photos\/.*)?$/;

async function boot() {
  buildFrame(document.body);
  installShortcuts();
  installConnectionWatch();
  installUploads();
  await signInByToken();
  if (maySignIn() && LIBRARY.test(location.pathname)) {
    library.readAhead();
  }
  await restoreSession();
  const failure = isSignedIn() && takeTokenFailure();
  if (failure) {
    toast(failure, { kind: "error" });
  }
  startRouter();
  installSessionWatch();
}

boot();
