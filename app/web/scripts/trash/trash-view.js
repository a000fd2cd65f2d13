/** The view of `/trash`: what was deleted, with the way back, and the end. */

import { deleteAssets, restoreAssets } from "../library/asset-actions.js";
import { PhotoGrid } from "../library/photo-grid.js";
import { selection } from "../library/selection.js";
import { Timeline } from "../library/timeline/timeline.js";
import { announce } from "../shell/announcer.js";
import { request } from "../shell/api.js";
import { askToConfirm } from "../shell/dialogs.js";
import { element, icon } from "../shell/dom.js";
import { showError } from "../shell/errors.js";
import { bus } from "../shell/events.js";
import { registerHeaderLink } from "../shell/header.js";
import { registerView, setTitle } from "../shell/router.js";
import { text } from "../shell/text.js";
import { toast } from "../shell/toasts.js";

registerHeaderLink({ path: "/trash", label: text("trash.title"), icon: "trash", order: 20 });

class TrashView {
  #timeline = new Timeline({ isTrashed: "true" });
  #note = element("p", { class: "trash-note" });
  #buttons;
  #photos;

  /** @param {HTMLElement} container */
  constructor(container) {
    this.#photos = new PhotoGrid(this.#timeline, {
      label: text("trash.title"),
      actions: [
        { label: text("trash.restore"), icon: "restore", run: (ids) => this.#restore(ids) },
        { label: text("trash.delete"), icon: "trash", key: "Delete", run: (ids) => this.#delete(ids) },
      ],
      opensViewer: false,
      buildEmptyState,
      onRead: () => this.#showButtons(),
    });
    this.#buttons = [
      element("button", { class: "button", onclick: () => this.#restoreAll() }, icon("restore"), text("trash.restore.all")),
      element("button", { class: "button button-danger", onclick: () => this.#empty() }, icon("trash"), text("trash.empty")),
    ];
    const head = element("div", { class: "trash-head" }, element("h1", {}, text("trash.title")), this.#note, element("div", { class: "trash-buttons" }, this.#buttons));
    container.classList.add("trash");
    container.append(head, element("div", { class: "trash-body" }, this.#photos.nodes));
  }

  async start() {
    void this.#describe();
    await this.#read();
  }

  close() {
    this.#photos.close();
    this.#timeline.close();
  }

  async #describe() {
    try {
      const { trashDays } = await request("GET", "/server/config");
      this.#note.textContent = trashDays > 0 ? text("trash.note", { count: trashDays }) : text("trash.note.forever");
    } catch {
      this.#note.textContent = "";
    }
  }

  #read() {
    return this.#photos.read("all");
  }

  #showButtons() {
    this.#buttons.forEach((button) => {
      button.hidden = this.#timeline.total === 0;
    });
  }

  /** @param {string[]} ids */
  async #restore(ids) {
    await restoreAssets(ids);
    await this.#read();
  }

  /** @param {string[]} ids */
  async #delete(ids) {
    const isDone = await deleteAssets(ids);
    if (isDone) {
      await this.#read();
    }
    return isDone;
  }

  #restoreAll() {
    return this.#runForAll(async () => {
      const { count } = await request("POST", "/trash/restore");
      bus.emit("assets-added", { ids: [] });
      toast(text("assets.restored", { count }));
    });
  }

  async #empty() {
    const count = this.#timeline.total;
    const question = { title: text("trash.empty.title", { count }), body: text("trash.empty.body"), action: text("trash.empty") };
    if (await askToConfirm(question)) {
      await this.#runForAll(async () => {
        const removed = await request("POST", "/trash/empty");
        toast(text("trash.emptied", { count: removed.count }));
      });
    }
  }

  /** @param {() => Promise<void>} act */
  async #runForAll(act) {
    this.#setBusy(true);
    try {
      await act();
      selection.clear();
    } catch (error) {
      showError(error);
    } finally {
      this.#setBusy(false);
    }
    await this.#read();
  }

  /** @param {boolean} isBusy */
  #setBusy(isBusy) {
    this.#buttons.forEach((button) => {
      button.disabled = isBusy;
    });
  }
}

function buildEmptyState() {
  return element(
    "div",
    { class: "state" },
    element("div", { class: "state-art", "aria-hidden": "true" }, icon("trash")),
    element("h2", {}, text("trash.nothing.title")),
    element("p", {}, text("trash.nothing.body")),
  );
}

/** @type {{view: TrashView | null}} */
const current = { view: null };

registerView("/trash", {
  open(_, container) {
    setTitle(text("trash.title"));
    current.view = new TrashView(container);
    void current.view.start();
    announce(text("trash.title"));
  },
  close() {
    current.view?.close();
    current.view = null;
  },
});
