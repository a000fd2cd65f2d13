/** Uploads: the button, the drop zone, and the panel over one queue. */

import { request } from "../shell/api.js";
import { element, icon } from "../shell/dom.js";
import { bus } from "../shell/events.js";
import { registerHeaderButton } from "../shell/header.js";
import { registerShortcuts } from "../shell/keyboard.js";
import { isOverlayOpen } from "../shell/router.js";
import { getUser } from "../shell/session.js";
import { text } from "../shell/text.js";
import { toast } from "../shell/toasts.js";
import { installDropZone } from "./drop-zone.js";
import { explainRefusal } from "./explanations.js";
import { listChosenFiles, walkDropped } from "./file-sources.js";
import { Hasher } from "./hashing/hasher.js";
import { UploadPanel } from "./panel/panel.js";
import { UploadQueue } from "./queue/queue.js";
import { ResumeStore } from "./transfer/resume-store.js";

const ADDED_INTERVAL_MS = 500;

/** @typedef {import("./file-sources.js").Batch} Batch */

/** Builds all of it. */
export function installUploads() {
  const queue = new UploadQueue(new Hasher(), new ResumeStore(() => localStorage));
  const add = (/** @type {Iterable<Batch> | AsyncIterable<Batch>} */ batches) => void addBatches(queue, batches);
  const cover = installDropZone({
    onDrop: ({ entries, files }) => add(entries.length > 0 ? walkDropped(entries) : listChosenFiles(files)),
    onPaste: (files) => add(listChosenFiles(files)),
  });
  installMenu((files) => add(listChosenFiles(files)));
  document.body.append(new UploadPanel(queue).node, cover);
  queue.addEventListener("uploaded", collectAdded());
  followSession(queue);
  addEventListener("beforeunload", (event) => queue.isBusy && event.preventDefault());
}

/**
 * @param {UploadQueue} queue
 * @param {Iterable<Batch> | AsyncIterable<Batch>} batches
 */
async function addBatches(queue, batches) {
  const types = await loadMediaTypes();
  let count = 0;
  for await (const { files, unreadable } of batches) {
    count += files.length;
    queue.add(files, (found) => explainRefusal(found, types));
    if (unreadable.length > 0) {
      toast(text("uploads.unreadable", { name: unreadable[0], count: unreadable.length }), { kind: "error" });
    }
    await new Promise((resolve) => setTimeout(resolve)); // lets the page draw between batches
  }
  if (count === 0) {
    toast(text("uploads.nothing"));
  }
}

/** @returns {Promise<import("./explanations.js").MediaTypes | null>} null if the server does not answer: it decides later */
async function loadMediaTypes() {
  try {
    return await request("GET", "/server/media-types");
  } catch {
    return null;
  }
}

/**
 * The button in the header and its menu: files, or a folder.
 * @param {(files: File[]) => void} onChosen
 */
function installMenu(onChosen) {
  const buildInput = (/** @type {Record<string, any>} */ props) => {
    const input = element("input", { type: "file", multiple: true, hidden: true, ...props });
    input.addEventListener("change", () => {
      if (input.files !== null && input.files.length > 0) {
        onChosen([...input.files]); // the list is emptied with the input
      }
      input.value = ""; // the same choice again is a change, too
    });
    return input;
  };
  const files = buildInput({ id: "upload-files" });
  const folder = buildInput({ id: "upload-folder", webkitdirectory: true });
  const buildItem = (/** @type {string} */ name, /** @type {string} */ label, /** @type {HTMLInputElement} */ input) => {
    const choose = () => {
      menu.hidePopover();
      input.click();
    };
    return element("button", { class: "menu-item", onclick: choose }, icon(name), label);
  };
  const menu = element(
    "div",
    { class: "menu", popover: "auto", id: "upload-menu" },
    buildItem("photos", text("uploads.choose.files"), files),
    buildItem("folder", text("uploads.choose.folder"), folder),
    element("p", { class: "menu-note" }, text("uploads.choose.hint")),
  );
  const onClick = () => {}; // the browser opens the menu
  const button = registerHeaderButton({ id: "upload", label: text("uploads.button"), icon: "upload", order: 90, isPrimary: true, onClick });
  button.setAttribute("popovertarget", "upload-menu");
  button.after(menu, files, folder);
  const open = () => {
    menu.showPopover();
    menu.querySelector("button")?.focus();
  };
  registerShortcuts(text("uploads.shortcuts"), [
    { keys: ["u"], label: text("uploads.shortcut"), when: () => getUser() !== null && !isOverlayOpen(), run: open },
  ]);
}

/** Tells the other parts of the page of new assets, many at once. */
function collectAdded() {
  /** @type {string[]} */
  let ids = [];
  return (/** @type {Event} */ event) => {
    ids.push(/** @type {CustomEvent<string>} */ (event).detail);
    if (ids.length === 1) {
      setTimeout(() => {
        const added = ids;
        ids = [];
        bus.emit("assets-added", { ids: added });
      }, ADDED_INTERVAL_MS);
    }
  };
}

/**
 * Without a session uploads wait; with that of another user they end, for they belong to the first.
 * @param {UploadQueue} queue
 */
function followSession(queue) {
  let ownerId = getUser()?.id ?? null;
  bus.on("session-changed", ({ user }) => {
    if (user === null) {
      if (queue.isBusy && queue.pauseCause === null) {
        queue.pause("sign-in");
      }
      return;
    }
    if (ownerId !== null && ownerId !== user.id) {
      queue.abandon();
    } else if (queue.pauseCause === "sign-in") {
      queue.resume();
    }
    ownerId = user.id;
  });
}
