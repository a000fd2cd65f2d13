/** Shortcuts of single keys, and the list of them under `?`. */

import { openDialog } from "./dialogs.js";
import { element } from "./dom.js";
import { text } from "./text.js";

/**
 * One line of the list. Without `run` a view handles the keys itself. `when` says whether the shortcut applies now.
 * @typedef {{keys: string[], label: string, run?: (event: KeyboardEvent) => void, when?: () => boolean}} Shortcut
 */

/** The keys that go on acting while they are held. */
const REPEATED = /^Arrow|^[+-]$/;

/** @type {{title: string, shortcuts: Shortcut[]}[]} */
const groups = [];

/**
 * Adds a group to the list. `keys` are names as in `KeyboardEvent.key`.
 * @param {string} title
 * @param {Shortcut[]} shortcuts
 */
export function registerShortcuts(title, shortcuts) {
  groups.push({ title, shortcuts });
}

/** Listens for the keys of all groups. */
export function installShortcuts() {
  registerShortcuts(text("shortcuts.everywhere"), [{ keys: ["?"], label: text("shortcuts.help"), run: showShortcuts }]);
  document.addEventListener("keydown", (event) => {
    if (!isShortcutEvent(event) || isForControl(event)) {
      return;
    }
    const pressed = groups
      .flatMap((group) => group.shortcuts)
      .find((shortcut) => shortcut.run && shortcut.keys.includes(event.key) && (shortcut.when?.() ?? true));
    if (pressed) {
      event.preventDefault();
      if (!event.repeat || REPEATED.test(event.key)) {
        pressed.run?.(event);
      }
    }
  });
}

/**
 * Whether a key may be a shortcut: not one that is typed into a field, sent with Ctrl, or pressed while a dialog is open.
 * @param {KeyboardEvent} event
 * @returns {boolean}
 */
export function isShortcutEvent(event) {
  if (event.defaultPrevented || event.ctrlKey || event.metaKey || event.altKey || document.querySelector("dialog[open]")) {
    return false;
  }
  const target = event.target;
  return !(target instanceof HTMLElement && target.closest("input, textarea, select, [contenteditable]"));
}

/**
 * Whether the key means something to the control that has the focus.
 * @param {KeyboardEvent} event
 */
function isForControl({ key, target }) {
  const control = target instanceof Element ? target.closest("button, a[href], video, [role=slider]") : null;
  const isArrow = key.startsWith("Arrow") || key === "Home" || key === "End";
  return control !== null && (key === " " || key === "Enter" || (isArrow && !control.matches("button, a")));
}

export function showShortcuts() {
  const lists = groups.map(({ title, shortcuts }) =>
    element(
      "section",
      { class: "shortcuts" },
      element("h3", {}, title),
      element("dl", {}, ...shortcuts.map(buildRow)),
    ),
  );
  openDialog({ title: text("shortcuts.title"), content: element("div", { class: "shortcuts-lists" }, ...lists) });
}

/** @param {Shortcut} shortcut */
function buildRow({ keys, label }) {
  const names = keys.map((key) => element("kbd", {}, text.has(`key.${key}`) ? text(`key.${key}`) : key));
  return element("div", {}, element("dt", {}, label), element("dd", {}, ...names));
}
