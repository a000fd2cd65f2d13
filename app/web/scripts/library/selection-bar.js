/** The bar over the header that says how many are selected, and offers what can be done with them. */

import { announce } from "../shell/announcer.js";
import { ApiError } from "../shell/api.js";
import { element, icon, iconButton } from "../shell/dom.js";
import { showError } from "../shell/errors.js";
import { bus } from "../shell/events.js";
import { registerShortcuts } from "../shell/keyboard.js";
import { isOverlayOpen } from "../shell/router.js";
import { text } from "../shell/text.js";
import { selection } from "./selection.js";

const ANNOUNCE_DELAY_MS = 600;

/**
 * @typedef {object} Action
 * @property {string} label
 * @property {string} icon
 * @property {(ids: string[]) => Promise<unknown>} run the selection ends afterwards, unless this is false; rejects with `ApiError`
 * @property {string} [key] a shortcut, as in `KeyboardEvent.key`
 * @property {boolean} [keepsSelection]
 */

/** The bar that is shown. @type {{bar: SelectionBar | null}} */
const current = { bar: null };

registerShortcuts(text("shortcuts.selection"), [
  { keys: ["Escape"], label: text("selection.clear"), when: canClear, run: () => selection.clear() },
  { keys: ["a"], label: text("selection.all"), when: () => current.bar !== null && !isOverlayOpen(), run: selectAll },
  { keys: ["s"], label: text("selection.download"), when: () => hasAction("s"), run: () => current.bar?.press("s") },
  { keys: ["f"], label: text("selection.favorite"), when: () => hasAction("f"), run: () => current.bar?.press("f") },
  { keys: ["Delete"], label: text("selection.trash"), when: () => hasAction("Delete"), run: () => current.bar?.press("Delete") },
]);

export class SelectionBar {
  #actions;
  #count = element("strong", { class: "selection-count" });
  #buttons;
  #announcing = 0;
  #isRunning = false;
  #stopListening;

  /** @param {Action[]} actions */
  constructor(actions) {
    this.#actions = actions;
    this.#buttons = actions.map((action) => this.#buildButton(action));
    const tools = element(
      "div",
      { class: "selection-tools", role: "toolbar", "aria-label": text("selection.bar") },
      iconButton({ icon: "close", label: text("selection.clear"), onClick: () => selection.clear() }),
      this.#count,
      iconButton({ icon: "select", label: text("selection.all"), onClick: selectAll }),
      this.#buttons,
    );
    this.node = element("section", { class: "selection-bar", "aria-label": text("selection.bar"), hidden: true }, tools);
    this.#stopListening = bus.on("selection-changed", ({ ids }) => this.#show(ids.size));
    document.body.append(this.node);
    current.bar = this;
  }

  close() {
    clearTimeout(this.#announcing);
    this.#stopListening();
    this.node.remove();
    if (current.bar === this) {
      current.bar = null;
    }
  }

  /** @param {string} key */
  has(key) {
    return this.#actions.some((action) => action.key === key);
  }

  /** @param {string} key */
  press(key) {
    const action = this.#actions.find((each) => each.key === key);
    if (action !== undefined) {
      void this.#run(action);
    }
  }

  /** @param {Action} action */
  #buildButton(action) {
    return element(
      "button",
      { class: "header-item", "aria-label": action.label, title: action.label, onclick: () => this.#run(action) },
      icon(action.icon),
      element("span", { class: "header-label" }, action.label),
    );
  }

  /** @param {number} count */
  #show(count) {
    if (this.node.hidden && count === 0) {
      return;
    }
    this.node.hidden = count === 0;
    this.#count.textContent = text("selection.count", { count });
    clearTimeout(this.#announcing);
    this.#announcing = setTimeout(() => announce(text("selection.count", { count })), ANNOUNCE_DELAY_MS);
  }

  /** @param {Action} action */
  async #run(action) {
    if (this.#isRunning) {
      return;
    }
    this.#setRunning(true);
    try {
      const isDone = await action.run(selection.ids);
      if (isDone !== false && !action.keepsSelection) {
        selection.clear();
      }
    } catch (error) {
      const isStale = error instanceof ApiError && error.status === 404 && (await selection.refresh().catch(() => false));
      showError(isStale ? text("selection.stale") : error);
    } finally {
      this.#setRunning(false);
    }
  }

  /** @param {boolean} isRunning */
  #setRunning(isRunning) {
    this.#isRunning = isRunning;
    this.node.setAttribute("aria-busy", String(isRunning));
    this.#buttons.forEach((button) => {
      button.disabled = isRunning;
    });
  }
}

function selectAll() {
  selection.selectAll().catch(showError);
}

function canClear() {
  return selection.size > 0 && !isOverlayOpen();
}

/** @param {string} key */
function hasAction(key) {
  return canClear() && current.bar?.has(key) === true;
}
