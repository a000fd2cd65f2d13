/** One video on the stage. The browser's own controls seek it, by ranges of the file. */

import { element, icon } from "../shell/dom.js";
import { text } from "../shell/text.js";
import { getPictureAddress, getVideoAddress } from "./item.js";
import { fitPicture, WHOLE } from "./zoom.js";

/** @typedef {import("./item.js").Item} Item */

export class Video {
  zoom = WHOLE;
  isZoomed = false;
  #item;
  #video;

  /**
   * @param {Item} item
   * @param {{onReady: () => void, onError: () => void}} listeners
   */
  constructor(item, { onReady, onError }) {
    this.#item = item;
    const poster = getPictureAddress(item, "preview");
    this.#video = element("video", { class: "video", controls: true, playsinline: true, preload: "metadata", "aria-label": text("viewer.video"), ...(poster ? { poster } : {}) });
    this.element = element("div", { class: "picture picture-video" }, this.#video);
    this.#video.addEventListener("loadedmetadata", onReady);
    this.#video.addEventListener("error", () => this.#showFailure(onReady, onError));
    this.#video.src = getVideoAddress(item.id, item.version);
  }

  /** @param {{width: number, height: number}} stage */
  fit(stage) {
    const { width, height } = fitPicture(this.#item.ratio, stage);
    this.element.style.width = `${width}px`;
    this.element.style.height = `${height}px`;
  }

  scaleBy() {}

  toggleZoom() {}

  moveBy() {}

  playLive() {}

  /** @param {{x: number, y: number}} way */
  drag({ x, y }) {
    this.element.style.translate = x === 0 && y === 0 ? "" : `${x}px ${y}px`;
  }

  togglePlay() {
    if (this.#video.paused) {
      this.#video.play().catch(() => {});
    } else {
      this.#video.pause();
    }
  }

  /** Takes the video out, and ends its loading. */
  remove() {
    this.#video.pause();
    this.#video.removeAttribute("src");
    this.#video.load();
    this.element.remove();
  }

  /**
   * @param {() => void} onReady
   * @param {() => void} onError
   */
  #showFailure(onReady, onError) {
    if (this.#video.hasAttribute("src")) {
      this.element.replaceChildren(element("div", { class: "picture-missing" }, icon("video"), text("viewer.video.failed")));
      onReady();
      onError();
    }
  }
}
