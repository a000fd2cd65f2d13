/** The strip beside the grid: where in time one is, and a jump to any month. */

import { element } from "../../shell/dom.js";
import { formatMonth } from "../../shell/format.js";
import { text } from "../../shell/text.js";

/** @typedef {import("./grid.js").Grid} Grid */

const LEAST_BETWEEN_YEARS = 30;
const LEAST_BETWEEN_MONTHS = 7;
const MARGIN = 26;
const SHOWN_AFTER_SCROLL = 1200;

export class Scrubber {
  #grid;
  #marks = element("div", { class: "scrubber-marks", "aria-hidden": "true" });
  #thumb = element("div", { class: "scrubber-thumb", "aria-hidden": "true" });
  #label = element("div", { class: "scrubber-label", "aria-hidden": "true" });
  #isDragged = false;
  #drawn = "";
  #hiding = 0;

  /** @param {Grid} grid */
  constructor(grid) {
    this.#grid = grid;
    this.element = element(
      "div",
      {
        class: "scrubber",
        role: "slider",
        tabindex: "0",
        "aria-orientation": "vertical",
        "aria-label": text("scrubber.label"),
        "aria-valuemin": "0",
        hidden: true,
        onpointerdown: (/** @type {PointerEvent} */ event) => this.#start(event),
        onpointermove: (/** @type {PointerEvent} */ event) => this.#move(event),
        onpointerup: () => this.#end(),
        onpointercancel: () => this.#end(),
        onpointerleave: () => this.#showCurrent(),
        onkeydown: (/** @type {KeyboardEvent} */ event) => this.#press(event),
      },
      this.#marks,
      this.#thumb,
      this.#label,
    );
  }

  /** Shows the position of the grid, after it has moved or its heights have changed. */
  update() {
    const { end, viewport } = this.#grid.position;
    const months = this.#grid.timeline.months;
    this.element.hidden = end < viewport || months.length < 2;
    if (this.element.hidden) {
      return;
    }
    this.#drawMarks();
    const number = this.#grid.getCurrentMonth();
    this.element.setAttribute("aria-valuemax", String(months.length - 1));
    this.element.setAttribute("aria-valuenow", String(number));
    this.element.setAttribute("aria-valuetext", formatMonth(months[number].date));
    this.#showCurrent();
  }

  /** Shows the strip for a moment where it is hidden otherwise. */
  reveal() {
    this.element.classList.add("is-shown");
    clearTimeout(this.#hiding);
    this.#hiding = setTimeout(() => this.element.classList.remove("is-shown"), SHOWN_AFTER_SCROLL);
  }

  get #length() {
    return Math.max(1, this.element.clientHeight - MARGIN * 2);
  }

  /** @param {number} top in the grid */
  #project(top) {
    return MARGIN + Math.min(top / Math.max(this.#grid.position.end, 1), 1) * this.#length;
  }

  #showCurrent() {
    const { top } = this.#grid.position;
    const y = this.#project(top);
    this.#thumb.style.transform = `translateY(${y}px)`;
    this.#showLabel(y, this.#grid.getCurrentMonth());
  }

  /**
   * @param {number} y
   * @param {number} number of the month
   */
  #showLabel(y, number) {
    const month = this.#grid.timeline.months[number];
    if (month) {
      this.#label.textContent = formatMonth(month.date);
      this.#label.style.transform = `translateY(${y}px)`;
    }
  }

  #drawMarks() {
    const months = this.#grid.timeline.months;
    const places = months.map((_, number) => Math.round(this.#project(this.#grid.measures.getTop(number))));
    const drawn = places.join();
    if (drawn === this.#drawn) {
      return;
    }
    this.#drawn = drawn;
    /** @type {HTMLElement[]} */
    const marks = [];
    let [lastYear, lastMonth, year] = [-Infinity, -Infinity, NaN];
    months.forEach(({ date }, number) => {
      const y = places[number];
      const style = { transform: `translateY(${y}px)` };
      if (date.getUTCFullYear() !== year && y - lastYear >= LEAST_BETWEEN_YEARS) {
        marks.push(element("span", { class: "scrubber-year", style }, String(date.getUTCFullYear())));
        [lastYear, lastMonth] = [y, y + LEAST_BETWEEN_MONTHS];
        year = date.getUTCFullYear();
      } else if (y - lastMonth >= LEAST_BETWEEN_MONTHS) {
        marks.push(element("span", { class: "scrubber-month", style }));
        lastMonth = y;
      }
    });
    this.#marks.replaceChildren(...marks);
  }

  /** @param {PointerEvent} event */
  #findTop(event) {
    const y = event.clientY - this.element.getBoundingClientRect().top - MARGIN;
    return Math.min(Math.max(y / this.#length, 0), 1) * this.#grid.position.end;
  }

  /** @param {PointerEvent} event */
  #start(event) {
    if (event.button !== 0) {
      return;
    }
    event.preventDefault();
    this.element.focus({ preventScroll: true });
    this.element.setPointerCapture(event.pointerId);
    this.#isDragged = true;
    this.element.classList.add("is-dragged");
    const top = this.#findTop(event);
    const number = this.#grid.measures.findMonth(top);
    this.#grid.scrollTo(top >= this.#grid.position.end ? top : this.#grid.measures.getTop(number));
    this.update();
  }

  /** @param {PointerEvent} event */
  #move(event) {
    const top = this.#findTop(event);
    if (this.#isDragged) {
      this.#grid.scrollTo(top, { isDragged: true });
      this.update();
    } else if (event.pointerType === "mouse") {
      this.#showLabel(this.#project(top), this.#grid.measures.findMonth(top));
    }
  }

  #end() {
    this.#isDragged = false;
    this.element.classList.remove("is-dragged");
    this.reveal();
  }

  /** @param {KeyboardEvent} event */
  #press(event) {
    const months = this.#grid.timeline.months;
    const number = this.#grid.getCurrentMonth();
    const year = months[number].date.getUTCFullYear();
    const startsYear = (/** @type {number} */ place) => months[place].date.getUTCFullYear() !== months[place - 1]?.date.getUTCFullYear();
    /** @type {Record<string, () => number>} */
    const targets = {
      ArrowDown: () => number + 1,
      ArrowRight: () => number + 1,
      ArrowUp: () => number - 1,
      ArrowLeft: () => number - 1,
      PageDown: () => months.findIndex(({ date }) => date.getUTCFullYear() < year),
      PageUp: () => months.findLastIndex((_, place) => place < number && startsYear(place)),
      Home: () => 0,
      End: () => months.length - 1,
    };
    if (!(event.key in targets)) {
      return;
    }
    event.preventDefault();
    const target = targets[event.key]();
    const found = target < 0 && event.key === "PageDown" ? months.length - 1 : Math.max(target, 0);
    this.#grid.scrollTo(this.#grid.measures.getTop(Math.min(found, months.length - 1)));
    this.update();
    this.reveal();
  }
}
