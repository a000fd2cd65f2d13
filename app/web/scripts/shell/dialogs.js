/** Modal dialogs, on the element that browsers have for them: it keeps the focus inside and closes by Escape. */

import { element, iconButton } from "./dom.js";
import { text } from "./text.js";

/**
 * Asks before something that cannot be undone. True if the action was chosen.
 * @param {{title: string, body: string, action: string, danger?: boolean}} question
 * @returns {Promise<boolean>}
 */
export function askToConfirm({ title, body, action, danger = true }) {
  return new Promise((resolve) => {
    const heading = element("h2", { id: "confirm-title" }, title);
    const close = (/** @type {string} */ value) => () => dialog.close(value);
    const dialog = element(
      "dialog",
      { class: "dialog", "aria-labelledby": "confirm-title" },
      heading,
      element("p", {}, body),
      element(
        "div",
        { class: "dialog-actions" },
        element("button", { class: "button", onclick: close("") }, text("dialog.cancel")),
        element("button", { class: danger ? "button button-danger" : "button button-primary", onclick: close("yes") }, action),
      ),
    );
    show(dialog, () => resolve(dialog.returnValue === "yes"));
  });
}

/**
 * Opens a dialog with a title and a close button; returns a function that closes it.
 * @param {{title: string, content: Node, onClose?: () => void}} options
 * @returns {() => void}
 */
export function openDialog({ title, content, onClose }) {
  const dialog = element(
    "dialog",
    { class: "dialog", "aria-label": title },
    element(
      "div",
      { class: "dialog-head" },
      element("h2", {}, title),
      iconButton({ icon: "close", label: text("dialog.close"), onClick: () => dialog.close() }),
    ),
    content,
  );
  show(dialog, () => onClose?.());
  return () => dialog.close();
}

/**
 * @param {HTMLDialogElement} dialog
 * @param {() => void} onClose
 */
function show(dialog, onClose) {
  dialog.addEventListener("click", (event) => event.target === dialog && dialog.close());
  dialog.addEventListener("close", () => {
    dialog.remove();
    onClose();
  });
  document.body.append(dialog);
  dialog.showModal();
}
