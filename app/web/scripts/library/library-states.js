/** What the library shows in place of the grid: that it is empty, or that it could not be read. */

import { element, icon } from "../shell/dom.js";
import { text } from "../shell/text.js";

/** @returns {HTMLElement} */
export function buildEmptyState() {
  const chooseFiles = () => document.getElementById("header-upload")?.click();
  return element(
    "div",
    { class: "state" },
    element("div", { class: "state-art", "aria-hidden": "true" }, icon("photos")),
    element("h1", {}, text("library.empty.title")),
    element("p", {}, text("library.empty.body")),
    element("button", { class: "button button-primary", onclick: chooseFiles }, icon("upload"), text("library.empty.action")),
  );
}

/**
 * @param {string} message
 * @param {() => void} onRetry
 * @returns {HTMLElement}
 */
export function buildErrorState(message, onRetry) {
  return element(
    "div",
    { class: "state", role: "alert" },
    element("div", { class: "state-art", "aria-hidden": "true" }, icon("warning")),
    element("h1", {}, text("library.error.title")),
    element("p", {}, message),
    element("button", { class: "button", onclick: onRetry }, icon("retry"), text("error.retry")),
  );
}
