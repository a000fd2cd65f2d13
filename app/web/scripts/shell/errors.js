/** Tells of errors that end what the user asked for. */

import { toast } from "./toasts.js";

/** @param {unknown} error */
export function describeError(error) {
  return error instanceof Error ? error.message : String(error);
}

/** @param {unknown} error */
export function showError(error) {
  toast(describeError(error), { kind: "error" });
}
