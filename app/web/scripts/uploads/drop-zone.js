/** Files that are dropped on the page or pasted into it. */

import { element, icon } from "../shell/dom.js";
import { isSignedIn } from "../shell/session.js";
import { text } from "../shell/text.js";
import { takeDropped } from "./file-sources.js";

/**
 * @param {{onDrop: (dropped: ReturnType<typeof takeDropped>) => void, onPaste: (files: File[]) => void}} receiver
 * @returns {HTMLElement} what covers the page while files are dragged over it
 */
export function installDropZone({ onDrop, onPaste }) {
  const cover = element(
    "div",
    { class: "drop-cover", hidden: true, "aria-hidden": "true" },
    element("div", { class: "drop-hint" }, icon("upload"), text("uploads.drop")),
  );
  let depth = 0;
  const isForUs = (/** @type {DragEvent} */ event) => event.dataTransfer?.types.includes("Files") ?? false;
  const show = (/** @type {number} */ change) => {
    depth = Math.max(depth + change, 0);
    cover.hidden = depth === 0 || !isSignedIn();
  };
  addEventListener("dragenter", (event) => isForUs(event) && show(1));
  addEventListener("dragleave", (event) => isForUs(event) && show(-1));
  addEventListener("dragover", (event) => {
    if (isForUs(event) && event.dataTransfer !== null) {
      event.preventDefault();
      event.dataTransfer.dropEffect = isSignedIn() ? "copy" : "none";
    }
  });
  addEventListener("drop", (event) => {
    if (isForUs(event) && event.dataTransfer !== null) {
      event.preventDefault(); // otherwise the browser leaves the page and shows the file
      show(-depth);
      if (isSignedIn()) {
        onDrop(takeDropped(event.dataTransfer));
      }
    }
  });
  addEventListener("paste", (event) => {
    const files = [...(event.clipboardData?.files ?? [])];
    if (files.length > 0 && isSignedIn() && !isEditable(event.target)) {
      event.preventDefault();
      onPaste(files);
    }
  });
  return cover;
}

/** @param {EventTarget | null} target */
function isEditable(target) {
  return target instanceof HTMLElement && target.closest("input, textarea, [contenteditable]") !== null;
}
