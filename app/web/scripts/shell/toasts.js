/** Short messages at the bottom of the window, some with one action such as "Undo". */

import { element, iconButton } from "./dom.js";
import { text } from "./text.js";

const MOST_SHOWN = 3;
const LIFETIME = 6000;
const LIFETIME_WITH_ACTION = 10_000;

const region = element("section", { class: "toasts", role: "log", "aria-live": "polite", "aria-label": text("toasts.label") });

/** @returns {HTMLElement} the region, for the frame */
export function buildToasts() {
  return region;
}

/**
 * Shows a message for some seconds; a pointer or the focus on it keeps it. Returns a function that removes it.
 * @param {string} message
 * @param {{action?: {label: string, onClick: () => void}, kind?: "info" | "success" | "error"}} options
 * @returns {() => void}
 */
export function toast(message, { action, kind = "info" } = {}) {
  let timer = 0;
  const remove = () => {
    clearTimeout(timer);
    node.remove();
  };
  const start = () => {
    clearTimeout(timer);
    timer = setTimeout(remove, action ? LIFETIME_WITH_ACTION : LIFETIME);
  };
  const run = () => {
    remove();
    action?.onClick();
  };
  const hold = () => clearTimeout(timer);
  const node = element(
    "div",
    { class: `toast toast-${kind}`, onpointerenter: hold, onfocusin: hold, onpointerleave: start, onfocusout: start },
    element("span", { class: "toast-message" }, message),
    action && element("button", { class: "toast-action", onclick: run }, action.label),
    iconButton({ icon: "close", label: text("toasts.close"), onClick: remove }),
  );
  region.append(node);
  while (region.children.length > MOST_SHOWN) {
    region.firstElementChild?.remove();
  }
  start();
  return remove;
}
