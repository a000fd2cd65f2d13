/** The viewer: the stage with one picture or video, its neighbours, toolbar and panel. */

import { downloadOriginal } from "../library/downloads.js";
import { library } from "../library/library.js";
import { announce } from "../shell/announcer.js";
import { ApiError, request } from "../shell/api.js";
import { waitForConnection } from "../shell/connection.js";
import { element, icon, iconButton } from "../shell/dom.js";
import { bus } from "../shell/events.js";
import { formatDay, formatTime } from "../shell/format.js";
import { goBack, navigate, setTitle } from "../shell/router.js";
import { text } from "../shell/text.js";
import { markFavorite, moveToTrash } from "./actions.js";
import { Gestures } from "./gestures.js";
import { InfoPanel } from "./info-panel.js";
import { readAsset, readPlace } from "./item.js";
import { Picture } from "./picture.js";
import { Preloader } from "./preloader.js";
import { Toolbar } from "./toolbar.js";
import { Video } from "./video.js";

/** @typedef {import("../library/timeline/timeline.js").Place} Place */

const SWIPE = 60;
const CENTER = { x: 0, y: 0 };

export class Viewer {
  /** @type {import("./item.js").Item | null} */
  #item = null;
  /** @type {import("./item.js").Item | null} */
  #trashing = null;
  /** @type {Picture | Video | null} */
  #shown = null;
  #stage = element("div", { class: "viewer-stage" });
  #previous;
  #next;
  #toolbar;
  #info = new InfoPanel({ onClose: () => this.toggleInfo() });
  #preloader = new Preloader();
  #resizes = new ResizeObserver(() => this.#fit());
  #openings = 0;
  /** @type {() => void} */
  #endEvents;

  /** @param {HTMLElement} container */
  constructor(container) {
    this.#toolbar = new Toolbar({
      close: () => this.close(),
      live: () => this.playLive(),
      info: () => this.toggleInfo(),
      favorite: () => this.toggleFavorite(),
      download: () => this.download(),
      trash: () => this.trash(),
    });
    this.#previous = iconButton({ icon: "previous", label: text("viewer.previous"), onClick: () => this.step(-1), class: "viewer-side viewer-previous" });
    this.#next = iconButton({ icon: "next", label: text("viewer.next"), onClick: () => this.step(1), class: "viewer-side viewer-next" });
    const main = element("div", { class: "viewer-main" }, this.#stage, this.#previous, this.#next, this.#toolbar.element);
    this.element = element("div", { class: "viewer", role: "dialog", "aria-modal": "true", "aria-label": text("viewer.label"), tabindex: "-1" }, main, this.#info.element);
    container.append(this.element);
    this.#toolbar.showItem(null);
    this.#showSides();
    this.#resizes.observe(this.#stage);
    this.#installGestures();
    this.#stage.addEventListener("pointerenter", (event) => event.pointerType === "mouse" && this.#shown?.playLive(true));
    this.#stage.addEventListener("pointerleave", (event) => event.pointerType === "mouse" && this.#shown?.playLive(false));
    this.#endEvents = library.timeline.onChange(() => this.#update());
    this.element.focus({ preventScroll: true });
  }

  /** @param {string} id */
  async open(id) {
    this.#openings += 1;
    const opening = this.#openings;
    const known = library.timeline.find(id);
    library.lastViewed = id;
    if (known) {
      this.#show(readPlace(known));
      this.#updateInfo(null);
      return;
    }
    const reading = request("GET", `/assets/${id}`);
    library.locating = reading.then((asset) => this.#locate(id, asset.localDateTime)).catch(() => {}); // without neighbours, then
    try {
      const asset = await reading;
      if (opening !== this.#openings) {
        return;
      }
      this.#show(readAsset(asset));
      this.#updateInfo(asset);
    } catch (error) {
      if (opening === this.#openings) {
        this.#showFailure(error);
      }
    }
  }

  /** Goes back to where the viewer was opened. */
  close() {
    goBack("/");
  }

  /** The viewer is taken out of the document. */
  end() {
    this.#openings += 1;
    this.#resizes.disconnect();
    this.#preloader.close();
    this.#shown?.remove();
    this.#endEvents();
  }

  /**
   * Shows the next or the previous one.
   * @param {number} direction
   */
  async step(direction) {
    await library.locating;
    const position = this.#getPosition();
    if (position !== null) {
      await this.jump(position + direction);
    }
  }

  /** @param {number} position in the timeline; outside: nothing happens */
  async jump(position) {
    const opening = this.#openings;
    const place = await library.timeline.at(position).catch(() => null);
    if (place && opening === this.#openings && place.id !== this.#item?.id) {
      navigate(`/photos/${place.id}`, { replace: true });
    } else if (opening === this.#openings) {
      this.#shown?.drag(CENTER);
    }
  }

  toggleInfo() {
    this.#info.element.hidden = !this.#info.element.hidden;
    this.#toolbar.showInfoState(!this.#info.element.hidden);
    this.#updateInfo(null);
  }

  async toggleFavorite() {
    const item = this.#item;
    if (item) {
      item.isFavorite = !item.isFavorite;
      this.#toolbar.showItem(this.#item);
      if (!(await markFavorite(item.id, item.isFavorite))) {
        item.isFavorite = !item.isFavorite;
        this.#toolbar.showItem(this.#item);
        this.#check();
      }
    }
  }

  download() {
    if (this.#item) {
      downloadOriginal(this.#item.id);
    }
  }

  async trash() {
    const item = this.#item;
    if (!item || item === this.#trashing) {
      return;
    }
    this.#trashing = item;
    await library.locating;
    const position = this.#getPosition();
    const isDone = await moveToTrash(item.id);
    this.#trashing = null;
    if (!isDone) {
      this.#check();
      return;
    }
    const { total } = library.timeline;
    if (position === null || total === 0 || item !== this.#item) {
      this.close();
    } else {
      await this.jump(Math.min(position, total - 1));
    }
  }

  playLive() {
    this.#shown?.playLive(true);
  }

  togglePlay() {
    if (this.#shown instanceof Video) {
      this.#shown.togglePlay();
    } else {
      this.playLive();
    }
  }

  /** @param {number} factor */
  zoom(factor) {
    this.#shown?.scaleBy(factor, CENTER);
  }

  /** @param {import("./item.js").Item | null} item */
  #show(item) {
    if (!item) {
      return;
    }
    this.#item = item;
    this.#shown?.remove();
    const listeners = { onReady: () => this.#preload(), onError: () => this.#check() };
    this.#shown = item.isImage ? new Picture(item, listeners) : new Video(item, listeners);
    this.#stage.replaceChildren(this.#shown.element);
    this.#fit();
    const local = new Date(item.time);
    const [day, time] = [formatDay(local), formatTime(local)];
    const title = `${day} · ${time}`;
    this.#toolbar.setTitle(title);
    this.#toolbar.showItem(item);
    setTitle(title);
    this.#showSides();
    announce(text(item.isImage ? "tile.photo" : "tile.video", { day, time }));
  }

  /** The timeline has changed, perhaps since the picture has been made that is waited for. */
  #update() {
    this.#showSides();
    if (this.#item?.isImage && this.#item.version === "") {
      this.#check();
    }
  }

  /** Something did not come, or was refused: it may be there now, or have been deleted elsewhere, or the service is away for some time. */
  async #check() {
    const opening = this.#openings;
    const id = this.#item?.id ?? "";
    try {
      const { thumbhash } = await request("GET", `/assets/${id}`);
      if (thumbhash && this.#item?.version === "" && opening === this.#openings) {
        this.open(id);
      }
    } catch (error) {
      await waitForConnection();
      if (opening === this.#openings && error instanceof ApiError) {
        if (error.status === 0) {
          this.open(id);
        } else if (error.status === 404) {
          bus.emit("assets-removed", { ids: [id] });
          this.#showFailure(error);
        }
      }
    }
  }

  /** @param {unknown} error */
  #showFailure(error) {
    const isMissing = error instanceof ApiError && [400, 404, 422].includes(error.status);
    this.#item = null;
    this.#shown?.remove();
    this.#shown = null;
    this.#toolbar.showItem(null);
    this.#toolbar.setTitle("");
    this.#stage.replaceChildren(
      element(
        "div",
        { class: "picture-missing", role: "alert" },
        icon("broken"),
        element("p", {}, isMissing ? text("viewer.missing") : /** @type {Error} */ (error).message),
        element("button", { type: "button", class: "button", onclick: () => navigate("/", { replace: true }) }, text("viewer.missing.back")),
      ),
    );
    this.#showSides();
  }

  /**
   * Finds the place of an asset that was opened by its address, for its neighbours and for the grid below, also after the viewer has closed.
   * @param {string} id
   * @param {string} localDateTime
   */
  async #locate(id, localDateTime) {
    const { timeline } = library;
    await timeline.readMonths();
    await timeline.locate(id, localDateTime);
    this.#showSides();
  }

  /** @returns {number | null} of the shown asset in the timeline */
  #getPosition() {
    const place = this.#item ? library.timeline.find(this.#item.id) : null;
    return place ? place.month.start + place.index : null;
  }

  #showSides() {
    const position = this.#getPosition();
    this.#previous.hidden = position === null || position === 0;
    this.#next.hidden = position === null || position >= library.timeline.total - 1;
  }

  async #preload() {
    const opening = this.#openings;
    const position = this.#getPosition();
    if (position === null) {
      return;
    }
    const places = await Promise.all([position + 1, position - 1].map((each) => library.timeline.at(each).catch(() => null)));
    if (opening === this.#openings) {
      const items = places.map((place) => place && readPlace(place)).filter((item) => item !== null);
      this.#preloader.load(items);
    }
  }

  /** @param {any} asset if it has been read already */
  #updateInfo(asset) {
    if (this.#item && !this.#info.element.hidden) {
      this.#info.show(this.#item.id, asset);
    }
  }

  #fit() {
    this.#shown?.fit({ width: this.#stage.clientWidth, height: this.#stage.clientHeight });
  }

  #installGestures() {
    new Gestures(this.#stage, {
      onZoom: (factor, point) => this.#shown?.scaleBy(factor, point),
      onToggleZoom: (point) => this.#shown?.toggleZoom(point),
      onStep: (step) => this.#shown?.moveBy(step),
      onDrag: (way) => this.#shown?.drag(Math.abs(way.x) > Math.abs(way.y) ? { x: way.x, y: 0 } : { x: 0, y: Math.max(way.y, 0) }),
      onDrop: (way) => this.#drop(way),
      onHold: (isHeld) => this.#shown?.playLive(isHeld),
      isZoomed: () => this.#shown?.isZoomed ?? false,
    });
  }

  /** @param {{x: number, y: number}} way */
  #drop({ x, y }) {
    if (this.#shown?.isZoomed) {
      return;
    }
    if (Math.abs(x) > SWIPE && Math.abs(x) > Math.abs(y)) {
      this.step(x < 0 ? 1 : -1);
    } else if (y > SWIPE * 1.5 && y > Math.abs(x)) {
      this.close();
    } else {
      this.#shown?.drag(CENTER);
    }
  }
}
