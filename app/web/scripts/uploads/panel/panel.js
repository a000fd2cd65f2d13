/** The panel at the bottom of the page that shows the upload queue. */

import { announce } from "../../shell/announcer.js";
import { isOnline } from "../../shell/connection.js";
import { askToConfirm } from "../../shell/dialogs.js";
import { element, icon, iconButton, replaceChildren } from "../../shell/dom.js";
import { formatBytes } from "../../shell/format.js";
import { text } from "../../shell/text.js";
import { createRow } from "./panel-row.js";
import { estimateSeconds, sumUp } from "../queue/totals.js";
import { VirtualList } from "./virtual-list.js";

const ROW_PIXELS = 68;
const RENDER_INTERVAL_MS = 200;

/**
 * @typedef {import("../queue/entry.js").Entry} Entry
 * @typedef {import("../queue/totals.js").Totals} Totals
 * @typedef {"all" | "failed" | "duplicate"} Filter
 */

/** Draws a few times a second, however often the queue changes. */
export class UploadPanel {
  #queue;
  #timer = 0;
  #wasBusy = false;
  /** @type {Filter} */
  #filter = "all";
  #title = element("h2", { class: "upload-title", id: "upload-title" });
  #status = element("p", { class: "upload-status" });
  #bar = element("progress", { class: "bar upload-total", max: 1, "aria-labelledby": "upload-title" });
  #pause = iconButton({ icon: "pause", label: text("uploads.pause"), onClick: () => this.#togglePause() });
  #fold = iconButton({ icon: "collapse", label: text("uploads.fold"), onClick: () => this.#toggleFold() });
  #filters = element("div", { class: "upload-filters", role: "group", "aria-label": text("uploads.filters") });
  #list;

  /** @param {import("../queue/queue.js").UploadQueue} queue */
  constructor(queue) {
    this.#queue = queue;
    const buildRow = (/** @type {Entry} */ entry) => createRow(entry, queue);
    this.#list = new VirtualList({ label: text("uploads.list"), rowHeight: ROW_PIXELS, createRow: buildRow });
    const close = iconButton({ icon: "close", label: text("uploads.close"), onClick: () => this.#close() });
    this.node = element(
      "section",
      { class: "upload-panel", "aria-labelledby": "upload-title", hidden: true },
      element("div", { class: "upload-head" }, this.#title, this.#pause, this.#fold, close),
      this.#bar,
      this.#status,
      element("div", { class: "upload-body" }, this.#filters, this.#list.node),
    );
    this.#fold.setAttribute("aria-expanded", "true");
    queue.addEventListener("change", () => this.#schedule());
  }

  /** Draws soon, at the latest in `RENDER_INTERVAL_MS`. */
  #schedule() {
    this.#timer ||= setTimeout(() => {
      this.#timer = 0;
      this.#render();
    }, RENDER_INTERVAL_MS);
  }

  #render() {
    const { entries, pauseCause } = this.#queue;
    this.node.hidden = entries.length === 0;
    const totals = sumUp(entries);
    const isBusy = totals.ended < totals.count;
    this.#title.textContent = this.#describeTitle(totals, isBusy);
    this.#status.textContent = isBusy ? this.#describeProgress(totals) : describeOutcome(totals);
    this.#bar.hidden = !isBusy;
    this.#bar.value = totals.bytes === 0 ? 0 : totals.settledBytes / totals.bytes;
    this.#pause.hidden = !isBusy;
    setButton(this.#pause, pauseCause === null ? "pause" : "play", text(pauseCause === null ? "uploads.pause" : "uploads.resume"));
    this.#showFilters(totals);
    this.#list.show(this.#filter === "all" ? entries : entries.filter((entry) => entry.state === this.#filter));
    this.#announceTurn(isBusy, totals);
    if (isBusy && pauseCause === null) {
      this.#schedule();
    }
  }

  /**
   * @param {Totals} totals
   * @param {boolean} isBusy
   */
  #describeTitle(totals, isBusy) {
    if (!isBusy) {
      return text("uploads.title.ended");
    }
    const key = this.#queue.pauseCause === null ? "uploads.title.busy" : "uploads.title.paused";
    return text(key, { done: totals.ended, count: totals.count });
  }

  /** @param {Totals} totals */
  #describeProgress(totals) {
    if (this.#queue.pauseCause === "sign-in") {
      return text("uploads.wait.signin");
    }
    const amount = text("uploads.amount", { sent: formatBytes(totals.settledBytes), size: formatBytes(totals.bytes) });
    if (!isOnline()) {
      return [amount, text("uploads.wait.connection")].join(" · ");
    }
    const speed = this.#queue.pauseCause === null ? this.#queue.meter.getSpeed(performance.now()) : null;
    const seconds = estimateSeconds(totals, speed);
    if (speed === null || seconds === null) {
      return amount;
    }
    return [amount, text("uploads.speed", { speed: formatBytes(speed) }), describeTime(seconds)].join(" · ");
  }

  /** @param {Totals} totals */
  #showFilters(totals) {
    const counts = { all: totals.count, failed: totals.failed, duplicate: totals.duplicates };
    if (counts[this.#filter] === 0) {
      this.#filter = "all";
    }
    const key = JSON.stringify([counts, this.#filter, totals.retriable]);
    this.#filters.hidden = totals.failed + totals.duplicates === 0;
    if (this.#filters.dataset.shown === key) {
      return;
    }
    const focused = this.#filters.contains(document.activeElement) ? document.activeElement?.id : undefined;
    this.#filters.dataset.shown = key;
    const names = /** @type {Filter[]} */ (["all", "failed", "duplicate"]).filter((name) => counts[name] > 0);
    const retry = element(
      "button",
      { class: "upload-filter upload-retry", id: "upload-retry", onclick: () => this.#retryFailed() },
      icon("retry"),
      text("uploads.retry"),
    );
    replaceChildren(this.#filters, names.map((name) => this.#buildFilter(name, counts[name])), totals.retriable > 0 && retry);
    if (focused !== undefined) {
      document.getElementById(focused)?.focus();
    }
  }

  /**
   * @param {Filter} name
   * @param {number} count
   */
  #buildFilter(name, count) {
    const choose = () => {
      this.#filter = name;
      this.#render();
    };
    const isChosen = this.#filter === name;
    const props = { class: "upload-filter", id: `upload-filter-${name}`, "aria-pressed": String(isChosen), onclick: choose };
    return element("button", props, text(`uploads.filter.${name}`, { count }));
  }

  /**
   * Screen readers hear the beginning and the end only.
   * @param {boolean} isBusy
   * @param {Totals} totals
   */
  #announceTurn(isBusy, totals) {
    if (isBusy !== this.#wasBusy) {
      this.#wasBusy = isBusy;
      announce(isBusy ? text("uploads.announce.begin", { count: totals.count }) : describeOutcome(totals));
    }
  }

  #retryFailed() {
    this.#queue.resumeEntries(this.#queue.entries.filter((entry) => entry.state === "failed"));
  }

  #togglePause() {
    if (this.#queue.pauseCause === null) {
      this.#queue.pause("user");
    } else {
      this.#queue.resume();
    }
  }

  #toggleFold() {
    const isFolded = this.node.classList.toggle("is-folded");
    this.#fold.setAttribute("aria-expanded", String(!isFolded));
    setButton(this.#fold, isFolded ? "expand" : "collapse", text(isFolded ? "uploads.unfold" : "uploads.fold"));
  }

  async #close() {
    if (this.#queue.isBusy) {
      const question = { title: text("uploads.stop.title"), body: text("uploads.stop.body"), action: text("uploads.stop.action") };
      if (!(await askToConfirm(question))) {
        return;
      }
      this.#queue.cancel(this.#queue.entries);
    }
    this.#queue.clearEnded();
    document.getElementById("header-upload")?.focus();
  }
}

/**
 * @param {HTMLButtonElement} button
 * @param {string} name
 * @param {string} label
 */
function setButton(button, name, label) {
  if (button.title !== label) {
    button.title = label;
    button.setAttribute("aria-label", label);
    button.replaceChildren(icon(name));
  }
}

/** @param {Totals} totals */
function describeOutcome(totals) {
  const parts = [
    { key: "uploads.outcome.uploaded", count: totals.uploaded },
    { key: "uploads.outcome.duplicates", count: totals.duplicates },
    { key: "uploads.outcome.failed", count: totals.failed },
  ].filter(({ count }) => count > 0);
  return parts.map(({ key, count }) => text(key, { count })).join(" · ") || text("uploads.outcome.nothing");
}

/** @param {number} seconds */
function describeTime(seconds) {
  if (seconds < 60) {
    return text("uploads.left.seconds", { count: Math.max(Math.ceil(seconds / 5) * 5, 5) });
  }
  if (seconds < 5400) {
    return text("uploads.left.minutes", { count: Math.ceil(seconds / 60) });
  }
  return text("uploads.left.hours", { count: Math.round(seconds / 3600) });
}
