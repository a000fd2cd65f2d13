/** The panel beside the picture, with what is known of it. */

import { request } from "../shell/api.js";
import { element, icon, iconButton } from "../shell/dom.js";
import { text } from "../shell/text.js";
import { listDetails } from "./details.js";

export class InfoPanel {
  #content = element("div", { class: "info-content" });
  #wanted = "";

  /** @param {{onClose: () => void}} listeners */
  constructor({ onClose }) {
    this.element = element(
      "aside",
      { class: "info", "aria-label": text("info.title"), hidden: true },
      element("div", { class: "info-head" }, element("h2", {}, text("info.title")), iconButton({ icon: "close", label: text("info.close"), onClick: onClose })),
      this.#content,
    );
  }

  /**
   * Shows what is known of an asset, read from the service.
   * @param {string} id
   * @param {any} known the asset, if it has been read already
   */
  async show(id, known = null) {
    this.#wanted = id;
    try {
      const asset = known ?? (await request("GET", `/assets/${id}`));
      if (this.#wanted === id) {
        this.#content.replaceChildren(...buildContent(asset));
      }
    } catch (error) {
      if (this.#wanted === id) {
        this.#content.replaceChildren(element("p", { class: "muted" }, /** @type {Error} */ (error).message));
      }
    }
  }
}

/** @param {any} asset */
function buildContent(asset) {
  const description = asset.exifInfo?.description;
  return [
    ...(description ? [element("p", { class: "info-description", dir: "auto" }, description)] : []),
    element("dl", { class: "info-list" }, ...listDetails(asset).map(buildDetail)),
  ];
}

/** @param {import("./details.js").Detail} detail */
function buildDetail({ icon: name, title, lines, isCode, isWarning }) {
  return element(
    "div",
    { class: `info-row ${isWarning ? "info-warning" : ""}` },
    element("dt", { dir: "auto" }, icon(name), element("span", {}, title)),
    ...lines.map((line) => element("dd", { class: isCode ? "info-code" : "", dir: "auto" }, line)),
  );
}
