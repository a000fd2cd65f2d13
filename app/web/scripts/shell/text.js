/**
 * All texts of the page. Another language is another map of this shape: `{name}` stands for a value, and an entry with
 * forms is chosen by the plural rules for the value `count`.
 * @typedef {string | {one: string, other: string}} Entry
 */

import { formatNumber } from "./format.js";

export const LANGUAGE = "en";

/** @type {Record<string, Entry>} */
const TEXTS = {
  // Everywhere
  "title.plain": "mediavault",
  "title.page": "{title} · mediavault",
  "frame.skip": "Skip to content",
  "frame.offline": "No connection. Trying again by itself.",
  "error.unreachable": "The server cannot be reached.",
  "error.status": "The server answered with an error ({status}).",
  "error.retry": "Try again",
  "toasts.label": "Messages",
  "toasts.close": "Close",
  "dialog.cancel": "Cancel",
  "dialog.close": "Close",

  // Header
  "header.home": "mediavault, to the photos",
  "header.views": "Views",
  "header.photos": "Photos",
  "account.menu": "Account",
  "account.signout": "Sign out",

  // Keyboard
  "shortcuts.title": "Keyboard shortcuts",
  "shortcuts.everywhere": "Everywhere",
  "shortcuts.help": "This list",
  "key.ArrowLeft": "←",
  "key.ArrowRight": "→",
  "key.ArrowUp": "↑",
  "key.ArrowDown": "↓",
  "key. ": "Space",
  "key.Escape": "Esc",
  "key.Delete": "Del",
  "key.PageUp": "Page ↑",
  "key.PageDown": "Page ↓",

  // Sign-in
  "signin.title": "Sign in",
};

const plurals = new Intl.PluralRules(LANGUAGE);

/**
 * The text of this key, with `values` filled in; numbers are written as the language does.
 * @param {string} key
 * @param {Record<string, string | number>} values
 * @returns {string}
 */
export function text(key, values = {}) {
  const entry = TEXTS[key];
  if (entry === undefined) {
    throw new RangeError(`there is no text ${key}`);
  }
  const pattern = typeof entry === "string" ? entry : entry[plurals.select(Number(values.count)) === "one" ? "one" : "other"];
  return pattern.replace(/\{(\w+)\}/g, (_, name) => {
    const value = values[name];
    return typeof value === "number" ? formatNumber(value) : String(value ?? "");
  });
}

/**
 * @param {string} key
 * @returns {boolean} whether there is a text of this key
 */
text.has = (key) => Object.hasOwn(TEXTS, key);
