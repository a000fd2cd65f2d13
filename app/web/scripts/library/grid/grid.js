/** The grid: months as sections on a scroll space, of which only what is near the screen is in the document. */

import { element } from "../../shell/dom.js";
import { bus } from "../../shell/events.js";
import { Measures } from "./measures.js";
import { MonthSection } from "./month-section.js";
import { ScrollSpace } from "./scroll-space.js";

/**
 * @typedef {import("../timeline/timeline.js").Timeline} Timeline
 * @typedef {import("../timeline/timeline.js").Month} Month
 * @typedef {import("../timeline/timeline.js").Place} Place
 * @typedef {import("./measures.js").Anchor} Anchor
 */

const MOST_TILES = 480;
const SETTLE_AFTER = 120;
const SPEED_INTERVAL = 50;
/** Screens per second above which pictures and months wait until the scrolling slows down. */
const FAST = 4;

export class Grid {
  /** @type {Map<string, MonthSection>} */
  #sections = new Map();
  /** @type {Set<string>} */
  #selected = new Set();
  #timeline;
  #listeners;
  #measures;
  #space;
  #frame = 0;
  #settling = 0;
  #moves = 0;
  #last = { top: 0, moment: 0, scrolledAt: 0, isFast: false };
  /** @type {(() => void)[]} */
  #endings = [];

  /**
   * @param {HTMLElement} scroller
   * @param {Timeline} timeline
   * @param {{onMove: () => void, onSettle: () => void}} listeners `onMove`: position or heights have changed
   */
  constructor(scroller, timeline, listeners) {
    this.#timeline = timeline;
    this.#listeners = listeners;
    this.#measures = new Measures(timeline);
    this.element = element("div", { class: "grid" });
    const spacer = element("div", { class: "grid-spacer" });
    scroller.append(spacer, this.element);
    this.#space = new ScrollSpace(scroller, spacer);
    const resizes = new ResizeObserver(() => this.#resize());
    resizes.observe(scroller);
    const onScroll = () => this.#scrolled();
    scroller.addEventListener("scroll", onScroll, { passive: true });
    for (const name of ["wheel", "pointerdown", "keydown"]) {
      scroller.addEventListener(name, () => (this.#moves += 1), { passive: true });
    }
    this.#endings = [
      () => resizes.disconnect(),
      () => scroller.removeEventListener("scroll", onScroll),
      timeline.onChange(() => this.#rebuild()),
      bus.on("selection-changed", ({ ids }) => this.#select(ids)),
    ];
  }

  close() {
    cancelAnimationFrame(this.#frame);
    clearTimeout(this.#settling);
    this.#endings.forEach((end) => end());
    this.#timeline.keepLoading([]);
  }

  get timeline() {
    return this.#timeline;
  }

  get measures() {
    return this.#measures;
  }

  /** @returns {{top: number, end: number, viewport: number}} in virtual pixels; `end` is the greatest `top` */
  get position() {
    return { top: this.#space.top, end: this.#space.end, viewport: this.#space.viewport };
  }

  /** @returns {number} another one after whatever has moved the grid or may do so: what waits to move it must not do so any more */
  get moves() {
    return this.#moves;
  }

  /** @returns {number} the number of the month at the upper edge */
  getCurrentMonth() {
    return this.#measures.findMonth(this.#space.top + 1);
  }

  /**
   * @param {number} top in virtual pixels
   * @param {{isDragged?: boolean}} options `isDragged`: more will follow, so that nothing is loaded yet
   */
  scrollTo(top, { isDragged = false } = {}) {
    this.#moves += 1;
    this.#moveTo(top, isDragged);
  }

  /**
   * @param {number} top in virtual pixels
   * @param {boolean} isDragged
   */
  #moveTo(top, isDragged = false) {
    this.#space.moveTo(top);
    this.#last = { top: this.#space.top, moment: performance.now(), scrolledAt: performance.now(), isFast: isDragged };
    this.#scheduleSettle();
    this.#render();
  }

  /**
   * Scrolls as little as it takes to show an asset whose month is loaded, or, with `center`, to its middle unless it is seen.
   * @param {Place} place
   * @param {{center?: boolean}} options
   */
  reveal({ month, index }, { center = false } = {}) {
    const box = this.#measures.getBox(month, index);
    if (!box) {
      return;
    }
    const { top, viewport } = this.position;
    const [above, below] = [this.#measures.metrics.dayHead + 8, 16];
    const isSeen = box.y >= top && box.y + box.height <= top + viewport;
    if (center && !isSeen) {
      this.scrollTo(box.y - Math.max(above, (viewport - box.height) / 2));
    } else if (box.y - above < top && !isSeen) {
      this.scrollTo(box.y - above);
    } else if (box.y + box.height + below > top + viewport) {
      this.scrollTo(box.y + box.height + below - viewport);
    }
  }

  /**
   * The link of an asset's tile; null if it is not in the document.
   * @param {Place} place
   */
  getLink({ month, id }) {
    return this.#sections.get(month.key)?.tiles.get(id)?.link ?? null;
  }

  /**
   * What is to stay: the first asset that is shown on the screen, else a share of the month at the upper edge. It reads what the
   * sections show, which may be older than the timeline.
   * @returns {Anchor}
   */
  getAnchor() {
    const { top, viewport } = this.position;
    /** @type {Anchor | null} */
    let best = null;
    let highest = Infinity;
    for (const section of this.#sections.values()) {
      for (const tile of section.tiles.values()) {
        const y = section.top + this.#space.origin + tile.y;
        if (y + tile.height > top + 1 && y < top + viewport && y < highest) {
          highest = y;
          best = { key: section.month.key, id: tile.id, share: 0, offset: y - top };
        }
      }
    }
    const number = this.getCurrentMonth();
    const height = this.#measures.getHeight(number);
    const share = height > 0 ? (top - this.#measures.getTop(number)) / height : 0;
    return best ?? { key: this.#timeline.months[number]?.key ?? "", id: null, share, offset: 0 };
  }

  /**
   * Comes back to a place, whose month is loaded for it, unless something else moves the grid meanwhile. Throws `ApiError`.
   * @param {Anchor} anchor
   */
  async restore(anchor) {
    const month = this.#timeline.months.find((each) => each.key === anchor.key);
    const moves = this.#moves;
    this.#moveTo(this.#measures.locate(anchor));
    if (month) {
      await this.#timeline.load(month, { isPinned: true });
      if (moves === this.#moves) {
        this.#moveTo(this.#measures.locate(anchor));
      }
    }
  }

  /** Has months that could not be loaded be loaded again. */
  retry() {
    for (const month of this.#timeline.months) {
      month.error = null;
    }
    this.#render();
  }

  /**
   * Reads months again of which something on the screen shows no thumbnail, and loads thumbnails again that did not come.
   * @returns {boolean} whether there are any
   */
  reloadWaiting() {
    const waiting = new Set();
    for (const { month, tiles } of this.#sections.values()) {
      for (const tile of tiles.values()) {
        if (tile.isWaiting) {
          tile.retry();
          waiting.add(month);
        }
      }
    }
    waiting.forEach((month) => this.#timeline.markStale(month));
    if (waiting.size > 0) {
      this.#render();
    }
    return waiting.size > 0;
  }

  /** Measures everything anew, and keeps what is on the screen where it is. */
  #rebuild() {
    this.#space.read();
    const anchor = this.getAnchor();
    const before = this.#space.top;
    this.#measures.measure();
    const shift = before < 1 ? 0 : this.#measures.locate(anchor) - before;
    this.#space.resize(this.#measures.height, shift);
    if (performance.now() - this.#last.scrolledAt > SETTLE_AFTER || this.#space.isNearEdge()) {
      this.#space.settle();
    }
    this.#render();
    this.#listeners.onMove();
  }

  #resize() {
    this.#space.read();
    const width = this.element.clientWidth;
    if (width > 0 && width !== this.#measures.metrics.width) {
      const anchor = this.getAnchor();
      const isAtTop = this.#space.top < 1;
      this.#measures.setWidth(width);
      this.#space.resize(this.#measures.height, 0);
      this.#space.moveTo(isAtTop ? 0 : this.#measures.locate(anchor));
    }
    this.#render();
    this.#listeners.onMove();
  }

  #scrolled() {
    this.#space.read();
    const { top, viewport } = this.position;
    const now = performance.now();
    const passed = now - this.#last.moment;
    this.#last.scrolledAt = now;
    if (passed > SPEED_INTERVAL) {
      const isFast = Math.abs(top - this.#last.top) / viewport / passed > FAST / 1000;
      this.#last = { top, moment: now, scrolledAt: now, isFast };
    }
    if (this.#space.isNearEdge()) {
      this.#space.settle();
    }
    this.#frame ||= requestAnimationFrame(() => {
      this.#frame = 0;
      this.#render();
      this.#listeners.onMove();
    });
    this.#scheduleSettle();
  }

  #scheduleSettle() {
    clearTimeout(this.#settling);
    this.#settling = setTimeout(() => this.#settle(), SETTLE_AFTER);
  }

  #settle() {
    this.#space.read();
    this.#last.isFast = false;
    this.#space.settle();
    this.#render();
    this.#listeners.onSettle();
  }

  /** Brings what is near the screen into the document, and takes the rest out. */
  #render() {
    const { top, viewport } = this.position;
    const focused = this.#findFocused();
    const links = focused ? [...this.element.querySelectorAll(".tile-link")] : [];
    const [from, to] = this.#chooseRange(top, viewport);
    const near = new Set([...this.#measures.listMonths(from, to)].map((number) => this.#timeline.months[number]));
    const focusedMonth = focused && this.#timeline.months.find((month) => this.#sections.get(month.key)?.tiles.get(focused.id) === focused);
    for (const [key, section] of this.#sections) {
      if (!near.has(section.month) && section.month !== focusedMonth) {
        section.remove();
        this.#sections.delete(key);
      }
    }
    for (const month of focusedMonth ? new Set([...near, focusedMonth]) : near) {
      this.#renderMonth(month, from, to, focused);
    }
    this.#markTabStop(focused?.id ?? null);
    if (focused && !focused.link.isConnected) {
      this.#markTabStop(null);
      const next = links.slice(links.indexOf(focused.link)).find((link) => link.isConnected) ?? this.element.querySelector("[tabindex='0']");
      next?.focus({ preventScroll: true });
    }
    if (!this.#last.isFast) {
      this.#loadNear([...near], top + viewport / 2);
    }
  }

  /**
   * @param {Month} month
   * @param {number} from
   * @param {number} to
   * @param {import("./tile.js").Tile | null} kept
   */
  #renderMonth(month, from, to, kept) {
    const number = this.#timeline.months.indexOf(month);
    const top = this.#measures.getTop(number);
    let section = this.#sections.get(month.key);
    if (!section) {
      section = new MonthSection(month, { onRetry: () => this.retry() });
      this.#sections.set(month.key, section);
      const next = [...this.element.children].find((other) => (other.getAttribute("data-month") ?? "") < month.key);
      this.element.insertBefore(section.element, next ?? null);
    }
    section.place(top - this.#space.origin, this.#measures.getHeight(number));
    const layout = this.#measures.getLayout(month);
    if (!layout) {
      section.showMissing();
      return;
    }
    section.show(layout, from - top, to - top, kept);
    for (const tile of section.tiles.values()) {
      tile.setSelected(this.#selected.has(tile.id));
      if (!this.#last.isFast && tile.needsImage) {
        tile.loadImage();
      }
    }
  }

  /**
   * The heights between which tiles are shown: a screen more on both sides, less if that were too many tiles.
   * @param {number} top
   * @param {number} viewport
   */
  #chooseRange(top, viewport) {
    let margin = viewport;
    while (margin > 1 && this.#measures.countTiles(top - margin, top + viewport + margin) > MOST_TILES) {
      margin /= 2;
    }
    return [top - margin, top + viewport + margin];
  }

  /**
   * @param {Month[]} near
   * @param {number} middle
   */
  #loadNear(near, middle) {
    const distance = (/** @type {Month} */ month) => {
      const number = this.#timeline.months.indexOf(month);
      return Math.max(this.#measures.getTop(number) - middle, middle - this.#measures.getTop(number + 1), 0);
    };
    const wanted = near.filter((month) => (!month.assets || month.isStale) && !month.error);
    wanted.sort((one, other) => distance(one) - distance(other));
    this.#timeline.keepLoading(wanted);
    for (const month of wanted) {
      this.#timeline.load(month).catch(() => {}); // the section shows `month.error`
    }
  }

  #findFocused() {
    const id = document.activeElement?.closest(".tile")?.getAttribute("data-id");
    for (const section of id ? this.#sections.values() : []) {
      const tile = section.tiles.get(id);
      if (tile) {
        return tile;
      }
    }
    return null;
  }

  /** @param {string | null} focused */
  #markTabStop(focused) {
    const stop = focused ?? this.getAnchor().id;
    for (const section of this.#sections.values()) {
      for (const tile of section.tiles.values()) {
        tile.setTabStop(tile.id === stop);
      }
    }
  }

  /** @param {Set<string>} ids */
  #select(ids) {
    this.#selected = ids;
    this.element.classList.toggle("is-selecting", ids.size > 0);
    for (const section of this.#sections.values()) {
      for (const tile of section.tiles.values()) {
        tile.setSelected(ids.has(tile.id));
      }
    }
  }
}
