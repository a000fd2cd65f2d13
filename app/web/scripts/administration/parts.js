/** What several cards are built from. */

import { element } from "../shell/dom.js";
import { formatMoment } from "../shell/format.js";
import { text } from "../shell/text.js";

/** @typedef {import("../shell/dom.js").Child} Child */

/**
 * A line with its value at the end.
 * @param {Child} label
 * @param {Child} value
 */
export function buildLine(label, value) {
  return element("div", { class: "line" }, element("dt", {}, label), element("dd", {}, value));
}

/** @param {HTMLElement[]} lines */
export function buildLines(lines) {
  return element("dl", { class: "lines" }, lines);
}

/**
 * @param {string} label for screen readers
 * @param {number} share from 0 to 1
 */
export function buildBar(label, share) {
  return element("progress", { class: "bar", max: 1, value: Math.min(Math.max(share, 0), 1), "aria-label": label });
}

/**
 * A state as a coloured word.
 * @param {"good" | "bad" | "busy" | "idle"} kind
 * @param {string} word
 */
export function buildChip(kind, word) {
  return element("span", { class: `chip chip-${kind}` }, word);
}

/**
 * Something with a name, a state, details and a button.
 * @param {{name: string, chip: HTMLElement, details: Child[], problem?: string | null, button?: HTMLElement | null}} options
 */
export function buildEntry({ name, chip, details, problem = null, button = null }) {
  return element(
    "li",
    { class: "entry" },
    element(
      "div",
      { class: "entry-text" },
      element("div", { class: "entry-head" }, element("bdi", { class: "entry-name" }, name), chip),
      details.map((detail) => element("p", { class: "muted" }, detail)),
      problem !== null && element("p", { class: "entry-problem" }, problem),
    ),
    button,
  );
}

/** @param {HTMLElement[]} entries */
export function buildEntries(entries) {
  return element("ul", { class: "entries" }, entries);
}

/** @param {string} message */
export function buildNothing(message) {
  return element("p", { class: "muted" }, message);
}

/** @param {string | null} moment ISO 8601 */
export function describeMoment(moment) {
  return moment === null ? text("admin.never") : formatMoment(new Date(moment));
}
