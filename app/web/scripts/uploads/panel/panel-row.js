/** One row of the upload panel. */

import { element, icon, iconButton, replaceChildren } from "../../shell/dom.js";
import { formatBytes } from "../../shell/format.js";
import { text } from "../../shell/text.js";

/**
 * @typedef {import("../queue/entry.js").Entry} Entry
 * @typedef {import("../queue/queue.js").UploadQueue} UploadQueue
 */

/** The icon of a state; those that are not here show none. @type {Partial<Record<import("../queue/entry.js").State, string>>} */
const ICONS = { done: "check", duplicate: "check", failed: "warning", cancelled: "close", paused: "pause" };

/**
 * @param {Entry} entry
 * @param {UploadQueue} queue
 * @returns {import("./virtual-list.js").Row<Entry>}
 */
export function createRow(entry, queue) {
  const mark = element("span", { class: "upload-mark" });
  const detail = element("span", { class: "upload-detail" });
  const bar = element("progress", { class: "bar upload-bar", max: 1, "aria-label": entry.name });
  const buttons = element("span", { class: "upload-buttons" });
  const path = entry.folder === "" ? entry.name : `${entry.folder}/${entry.name}`;
  const node = element(
    "div",
    { class: "upload-row" },
    mark,
    element("span", { class: "upload-text" }, element("bdi", { class: "upload-name", title: path }, entry.name), detail),
    buttons,
    bar,
  );
  let shown = "";
  const update = () => {
    const isActive = entry.state === "sending" || entry.state === "hashing";
    bar.hidden = !isActive;
    if (isActive) {
      bar.value = entry.size === 0 ? 0 : entry.progress / entry.size;
    }
    const line = describeState(entry);
    if (detail.textContent !== line) {
      detail.textContent = line;
      detail.title = line;
    }
    if (shown !== entry.state) {
      shown = entry.state;
      node.dataset.state = entry.state;
      replaceChildren(mark, icon(ICONS[entry.state] ?? "file"));
      showButtons(buttons, entry, queue);
    }
  };
  return { node, update };
}

/** @param {Entry} entry */
export function describeState(entry) {
  const size = formatBytes(entry.size);
  if (entry.reason !== null) {
    return entry.state === "failed" ? entry.reason : `${size} · ${entry.reason}`;
  }
  if (entry.state === "sending") {
    return text("uploads.state.sending", { sent: formatBytes(entry.progress), size });
  }
  const state = text(`uploads.state.${entry.state}`);
  return `${size} · ${state}`;
}

/**
 * @param {HTMLElement} place
 * @param {Entry} entry
 * @param {UploadQueue} queue
 */
function showButtons(place, entry, queue) {
  const hadFocus = place.contains(document.activeElement);
  const buttons = [];
  if (entry.state === "paused") {
    buttons.push(iconButton({ icon: "play", label: text("uploads.resume.one", { name: entry.name }), onClick: () => queue.resumeEntries([entry]) }));
  } else if (entry.state === "failed" && entry.file !== null) {
    buttons.push(iconButton({ icon: "retry", label: text("uploads.retry.one", { name: entry.name }), onClick: () => queue.resumeEntries([entry]) }));
  } else if (!entry.hasEnded) {
    buttons.push(iconButton({ icon: "pause", label: text("uploads.pause.one", { name: entry.name }), onClick: () => queue.pauseEntry(entry) }));
  }
  if (!entry.hasEnded) {
    buttons.push(iconButton({ icon: "close", label: text("uploads.cancel.one", { name: entry.name }), onClick: () => queue.cancel([entry]) }));
  }
  replaceChildren(place, buttons);
  if (hadFocus) {
    buttons[0]?.focus({ preventScroll: true });
  }
}
