/** One tile of the grid: a link that shows thumbhash, thumbnail and badges, and a box to select it by. */

import { element, icon } from "../../shell/dom.js";
import { formatDuration, formatLongDay, formatTime } from "../../shell/format.js";
import { text } from "../../shell/text.js";
import { decodeThumbhash, readAverageColor } from "./thumbhash.js";

/** @typedef {import("../timeline/month-assets.js").MonthAssets} MonthAssets */

/**
 * The address of a picture of an asset; it changes with the picture, so that browsers may keep it.
 * @param {string} id
 * @param {"thumbnail" | "preview" | "fullsize"} size
 * @param {string} version
 */
export function buildPictureAddress(id, size, version) {
  return `/api/assets/${id}/thumbnail?size=${size}&c=${encodeURIComponent(version)}`;
}

/**
 * What distinguishes one thumbnail of an asset from the next: its thumbhash in hex.
 * @param {Uint8Array} hash
 */
export function buildVersion(hash) {
  return Array.from(hash, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

export class Tile {
  #link;
  #check;
  /** @type {HTMLElement[]} */
  #badges = [];
  #picture = element("span", { class: "tile-picture" });
  /** @type {HTMLImageElement | null} */
  #image = null;
  #isBroken = false;
  y = 0;
  height = 0;
  #version = "";
  /** @type {Uint8Array | null} */
  #hash = null;
  #drawn = "";

  /** @param {string} id */
  constructor(id) {
    this.id = id;
    this.#link = element("a", { class: "tile-link", href: `/photos/${id}`, tabindex: "-1", draggable: "false" }, this.#picture);
    this.#check = element("button", { class: "tile-check", role: "checkbox", "aria-checked": "false", tabindex: "-1" });
    this.element = element("div", { class: "tile", dataset: { id } }, this.#link, this.#check);
  }

  /**
   * Places the tile, and shows the asset as it is now.
   * @param {MonthAssets} assets
   * @param {number} index
   * @param {Float32Array} boxes
   */
  update(assets, index, boxes) {
    const [x, y, width, height] = boxes.subarray(index * 4, index * 4 + 4);
    const style = this.element.style;
    [this.y, this.height] = [y, height];
    style.transform = `translate(${x}px, ${y}px)`;
    style.width = `${width}px`;
    style.height = `${height}px`;
    this.#showPicture(assets.getThumbhash(index));
    const drawn = [assets.isImage(index), assets.isFavorite(index), assets.getDuration(index), assets.getTime(index)].join();
    if (drawn !== this.#drawn) {
      this.#drawn = drawn;
      this.#showBadges(assets, index);
    }
  }

  /** @param {boolean} isSelected */
  setSelected(isSelected) {
    if (isSelected !== (this.#check.getAttribute("aria-checked") === "true")) {
      this.#check.setAttribute("aria-checked", String(isSelected));
      this.element.classList.toggle("is-selected", isSelected);
    }
  }

  /** @param {boolean} isTabStop whether the Tab key reaches the tile */
  setTabStop(isTabStop) {
    this.#link.tabIndex = isTabStop ? 0 : -1;
  }

  get link() {
    return this.#link;
  }

  /** @returns {boolean} whether no thumbnail has been made yet, or it could not be loaded */
  get isWaiting() {
    return this.#version === "" || this.#isBroken;
  }

  /** Has a thumbnail that could not be loaded be loaded again. */
  retry() {
    if (this.#isBroken) {
      this.#isBroken = false;
      this.#image = null;
    }
  }

  /** @returns {boolean} whether the tile waits for `loadImage` */
  get needsImage() {
    return this.#version !== "" && this.#image === null;
  }

  /** Draws the thumbhash, and starts to load the thumbnail, which then covers it. */
  loadImage() {
    const image = element("img", { class: "tile-image", alt: "", decoding: "async", draggable: "false" });
    image.addEventListener("load", () => image.classList.add("is-loaded"));
    image.addEventListener("error", () => {
      this.#isBroken = true;
      image.replaceWith(element("span", { class: "tile-waiting" }, icon("broken")));
    });
    image.src = buildPictureAddress(this.id, "thumbnail", this.#version);
    this.#image = image;
    this.#picture.replaceChildren(...(this.#hash ? [drawThumbhash(this.#hash, "tile-hash")] : []), image);
  }

  /** Takes the tile out, and ends the loading of its thumbnail. */
  remove() {
    if (this.#image && !this.#image.complete) {
      this.#image.removeAttribute("src");
    }
    this.element.remove();
  }

  /** @param {Uint8Array | null} hash */
  #showPicture(hash) {
    const version = hash ? buildVersion(hash) : "";
    if (version === this.#version && (version !== "" || this.#picture.firstChild)) {
      return;
    }
    this.#version = version;
    this.#hash = hash;
    this.#image = null;
    this.#isBroken = false;
    this.#link.style.backgroundColor = hash ? readAverageColor(hash) : "";
    this.#picture.replaceChildren(...(hash ? [] : [element("span", { class: "tile-waiting" }, icon("photos"))]));
  }

  /**
   * @param {MonthAssets} assets
   * @param {number} index
   */
  #showBadges(assets, index) {
    const isVideo = !assets.isImage(index);
    const duration = isVideo && assets.getDuration(index) > 0 ? formatDuration(assets.getDuration(index)) : "";
    const local = new Date(assets.getTime(index));
    const badges = [];
    if (isVideo) {
      badges.push(element("span", { class: "badge badge-video" }, duration, icon("play")));
    } else if (assets.getLiveId(index)) {
      badges.push(element("span", { class: "badge badge-live" }, icon("live")));
    }
    if (assets.isFavorite(index)) {
      badges.push(element("span", { class: "badge badge-favorite" }, icon("favorite")));
    }
    this.#badges.forEach((badge) => badge.remove());
    this.#badges = badges;
    this.#link.append(...badges);
    const when = { day: formatLongDay(local), time: formatTime(local), duration };
    const kind = isVideo ? (duration ? "tile.video.duration" : "tile.video") : assets.getLiveId(index) ? "tile.live" : "tile.photo";
    const name = text(kind, when) + (assets.isFavorite(index) ? text("tile.favorite") : "");
    this.#link.setAttribute("aria-label", name);
    this.#check.setAttribute("aria-label", text("tile.select", { name }));
  }
}

/**
 * A canvas with the picture of a thumbhash; an empty one if the bytes are none.
 * @param {Uint8Array} hash
 * @param {string} className
 * @returns {HTMLCanvasElement}
 */
export function drawThumbhash(hash, className) {
  const decoded = decodeThumbhash(hash);
  const canvas = element("canvas", { class: className, width: decoded?.width ?? 1, height: decoded?.height ?? 1 });
  if (decoded) {
    canvas.getContext("2d")?.putImageData(new ImageData(decoded.pixels, decoded.width, decoded.height), 0, 0);
  }
  return canvas;
}
