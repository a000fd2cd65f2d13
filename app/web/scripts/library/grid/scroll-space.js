/**
 * Scrolls over more pixels than a browser lets an element have, and lets heights above the screen change without a movement on it.
 *
 * What is shown has virtual coordinates, from 0 to `height`. The scroller has physical ones, at most `LIMIT`. The difference is
 * the `origin`: a correction above the screen changes only the origin, never the position of the scroller, so that it
 * disturbs no gesture. When nothing moves any more, `settle` brings both back into proportion.
 */

const LIMIT = 6_000_000;

export class ScrollSpace {
  origin = 0;
  height = 0;
  #physical = 0;
  #viewport = 1;
  #scroller;
  #spacer;

  /**
   * @param {HTMLElement} scroller
   * @param {HTMLElement} spacer an element inside, whose height is set
   */
  constructor(scroller, spacer) {
    this.#scroller = scroller;
    this.#spacer = spacer;
  }

  get viewport() {
    return this.#viewport;
  }

  /** Reads where the scroller stands, which has the browser lay out the page: once for each event, not for each question. */
  read() {
    this.#physical = this.#scroller.scrollTop;
    this.#viewport = Math.max(1, this.#scroller.clientHeight);
  }

  /** @returns {number} the virtual position of the upper edge of the screen */
  get top() {
    return this.#physical + this.origin;
  }

  /** @returns {number} the greatest `top` */
  get end() {
    return Math.max(0, this.height - this.viewport);
  }

  /**
   * Tells the new height, and by how much what is on the screen has moved in virtual coordinates.
   * @param {number} height
   * @param {number} shift
   */
  resize(height, shift) {
    const top = this.top + shift;
    this.height = height;
    this.#spacer.style.height = `${Math.min(height, LIMIT)}px`;
    this.read();
    this.origin = Math.min(Math.max(top, 0), this.end) - this.#physical;
  }

  /** @param {number} top virtual */
  moveTo(top) {
    const target = Math.min(Math.max(top, 0), this.end);
    this.#setPhysical(target);
  }

  /** @returns {boolean} whether the end of the physical space is so near that `settle` must not wait */
  isNearEdge() {
    const margin = this.viewport * 2;
    const isOff = Math.abs(this.#physical - this.#project(this.top)) > 0.5;
    return isOff && (this.#physical < margin || this.#physical > Math.min(this.height, LIMIT) - this.viewport - margin);
  }

  /**
   * Brings physical and virtual position into proportion, without a movement on the screen.
   * @returns {boolean} whether the origin has changed
   */
  settle() {
    const before = this.origin;
    const top = Math.min(Math.max(this.top, 0), this.end);
    const isFar = Math.abs(this.#physical - this.#project(top)) > (this.height > LIMIT ? LIMIT / 8 : 0.5);
    if (isFar || this.isNearEdge()) {
      this.#setPhysical(top);
    }
    return this.origin !== before;
  }

  /** @param {number} top the virtual position that is shown from now on */
  #setPhysical(top) {
    this.#scroller.scrollTop = Math.round(this.#project(top));
    this.read();
    this.origin = top - this.#physical;
  }

  /**
   * The physical position for a virtual one: near both ends pixel by pixel, so that they are reached, in proportion between.
   * @param {number} top
   */
  #project(top) {
    const [end, most] = [this.end, LIMIT - this.viewport];
    const margin = this.viewport * 4;
    if (this.height <= LIMIT || top <= margin) {
      return top;
    }
    if (end - top <= margin) {
      return most - (end - top);
    }
    return margin + ((top - margin) / (end - margin * 2)) * (most - margin * 2);
  }
}
