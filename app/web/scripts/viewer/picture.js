/** One picture on the stage: thumbhash, thumbnail, preview, and the full-size picture once it is zoomed; or what plays over it. */

import { element, icon } from "../shell/dom.js";
import { text } from "../shell/text.js";
import { drawThumbhash } from "../library/grid/tile.js";
import { getPictureAddress, getVideoAddress } from "./item.js";
import { fitPicture, limitZoom, WHOLE, zoomAt } from "./zoom.js";

/** @typedef {import("./item.js").Item} Item */

const LEAST_GREATEST_SCALE = 4;
const TOGGLED_SCALE = 2.5;

export class Picture {
  zoom = WHOLE;
  #stage = { width: 1, height: 1 };
  #size = { width: 1, height: 1 };
  #layers = element("div", { class: "picture-layers" });
  #hasFull = false;
  #item;
  #onError;
  /** @type {HTMLVideoElement | null} */
  #live = null;

  /**
   * @param {Item} item
   * @param {{onReady: () => void, onError: () => void}} listeners `onReady`: the preview is there, or will not come
   */
  constructor(item, { onReady, onError }) {
    this.#item = item;
    this.#onError = onError;
    this.element = element("div", { class: "picture" }, this.#layers);
    if (item.hash) {
      this.#layers.append(drawThumbhash(item.hash, "picture-layer"));
      this.#addLayer("thumbnail", () => {});
      this.#addLayer("preview", onReady);
    } else {
      this.#layers.append(element("div", { class: "picture-missing" }, icon("photos"), text("viewer.waiting")));
      onReady();
    }
  }

  get isZoomed() {
    return this.zoom.scale > 1;
  }

  /** @param {{width: number, height: number}} stage */
  fit(stage) {
    this.#stage = stage;
    this.#size = fitPicture(this.#item.ratio, stage);
    this.element.style.width = `${this.#size.width}px`;
    this.element.style.height = `${this.#size.height}px`;
    this.#draw(limitZoom(this.zoom, this.#size, stage));
  }

  /**
   * @param {number} factor
   * @param {{x: number, y: number}} point from the middle of the stage
   */
  scaleBy(factor, point) {
    this.#draw(limitZoom(zoomAt(this.zoom, factor, point, this.#getGreatestScale()), this.#size, this.#stage));
    this.#loadFull();
  }

  /** @param {{x: number, y: number}} point from the middle of the stage */
  toggleZoom(point) {
    this.scaleBy(this.isZoomed ? 1 / this.zoom.scale : TOGGLED_SCALE, point);
  }

  /** @param {{x: number, y: number}} step */
  moveBy({ x, y }) {
    this.#draw(limitZoom({ ...this.zoom, x: this.zoom.x + x, y: this.zoom.y + y }, this.#size, this.#stage));
  }

  /**
   * Moves the whole picture, as a finger drags it towards its neighbour.
   * @param {{x: number, y: number}} way
   */
  drag({ x, y }) {
    this.element.style.translate = x === 0 && y === 0 ? "" : `${x}px ${y}px`;
  }

  /** @param {boolean} isPlayed whether the video of a live photo is shown */
  playLive(isPlayed) {
    if (!this.#item.liveId || isPlayed === (this.#live !== null)) {
      return;
    }
    if (this.#live) {
      this.#live.remove();
      this.#live.removeAttribute("src");
      this.#live.load();
      this.#live = null;
      return;
    }
    const live = element("video", { class: "picture-layer picture-live", playsinline: true, autoplay: true, src: getVideoAddress(this.#item.liveId, "") });
    live.muted = true;
    live.addEventListener("ended", () => this.playLive(false));
    live.addEventListener("playing", () => live.classList.add("is-loaded"));
    this.#live = live;
    this.#layers.append(live);
  }

  /** Takes the picture out, and ends what it still loads. */
  remove() {
    this.playLive(false);
    for (const image of this.#layers.querySelectorAll("img")) {
      if (!image.complete) {
        image.removeAttribute("src");
      }
    }
    this.element.remove();
  }

  /** A picture that is shown pixel for pixel may be as large as the screen shows sharply, and twice that. */
  #getGreatestScale() {
    const full = this.#layers.querySelector(".picture-fullsize");
    const natural = full instanceof HTMLImageElement ? full.naturalWidth : 0;
    return Math.max(LEAST_GREATEST_SCALE, (natural * 2) / this.#size.width);
  }

  /** @param {import("./zoom.js").Zoom} zoom */
  #draw(zoom) {
    this.zoom = zoom;
    this.#layers.style.transform = `translate(${zoom.x}px, ${zoom.y}px) scale(${zoom.scale})`;
    this.element.classList.toggle("is-zoomed", this.isZoomed);
  }

  #loadFull() {
    if (this.isZoomed && !this.#hasFull && this.#item.version !== "") {
      this.#hasFull = true;
      this.#addLayer("fullsize", () => {});
    }
  }

  /**
   * @param {"thumbnail" | "preview" | "fullsize"} size
   * @param {() => void} onEnd
   */
  #addLayer(size, onEnd) {
    const image = element("img", { class: `picture-layer picture-${size}`, alt: "", decoding: "async", draggable: "false" });
    image.addEventListener("load", () => {
      image.classList.add("is-loaded");
      onEnd();
    });
    image.addEventListener("error", () => {
      image.remove();
      onEnd();
      this.#onError();
    });
    image.src = getPictureAddress(this.#item, size);
    this.#layers.append(image);
  }
}
