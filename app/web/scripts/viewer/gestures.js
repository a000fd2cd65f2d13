/** Turns pointers, wheel and double clicks on the stage into zooming, moving and swiping. */

/**
 * Points are from the middle of the stage. `onDrag` is told the way of one pointer since it went down, and `onDrop` the whole
 * way when it goes up.
 * @typedef {{x: number, y: number}} Point
 * @typedef {{
 *   onZoom: (factor: number, point: Point) => void,
 *   onToggleZoom: (point: Point) => void,
 *   onStep: (step: Point) => void,
 *   onDrag: (way: Point) => void,
 *   onDrop: (way: Point, milliseconds: number) => void,
 *   onHold: (isHeld: boolean) => void,
 *   isZoomed: () => boolean,
 * }} Actions
 */

const HOLD_AFTER = 350;
const HOLD_SLACK = 8;
const CONTROLS_PIXELS = 80;

export class Gestures {
  /** @type {Map<number, Point>} */
  #pointers = new Map();
  #start = { x: 0, y: 0, moment: 0 };
  #wasPinch = false;
  #holdTimer = 0;
  #stage;
  #actions;

  /**
   * @param {HTMLElement} stage
   * @param {Actions} actions
   */
  constructor(stage, actions) {
    this.#stage = stage;
    this.#actions = actions;
    stage.addEventListener("pointerdown", (event) => this.#down(event));
    stage.addEventListener("pointermove", (event) => this.#move(event));
    stage.addEventListener("pointerup", (event) => this.#up(event));
    stage.addEventListener("pointercancel", (event) => this.#up(event));
    stage.addEventListener("wheel", (event) => this.#wheel(event), { passive: false });
    stage.addEventListener("dblclick", (event) => this.#isOnPicture(event) && actions.onToggleZoom(this.#read(event)));
  }

  /** @param {Event} event */
  #isOnPicture(event) {
    return !(event.target instanceof Element && event.target.closest("button, a, video[controls]"));
  }

  /** @param {MouseEvent} event */
  #read(event) {
    const box = this.#stage.getBoundingClientRect();
    return { x: event.clientX - box.left - box.width / 2, y: event.clientY - box.top - box.height / 2 };
  }

  /** @param {PointerEvent} event */
  #down(event) {
    const isOnPicture = this.#isOnPicture(event);
    if (event.button !== 0 || !(isOnPicture || isFingerOnVideo(event))) {
      return;
    }
    const point = this.#read(event);
    if (isOnPicture) {
      this.#stage.setPointerCapture(event.pointerId); // a video gets its own taps
    }
    this.#pointers.set(event.pointerId, point);
    if (this.#pointers.size === 1) {
      this.#start = { ...point, moment: event.timeStamp };
      this.#wasPinch = false;
      this.#holdTimer = setTimeout(() => this.#actions.onHold(true), HOLD_AFTER);
    } else {
      this.#wasPinch = true;
      clearTimeout(this.#holdTimer);
      this.#actions.onDrag({ x: 0, y: 0 });
    }
  }

  /** @param {PointerEvent} event */
  #move(event) {
    const before = this.#pointers.get(event.pointerId);
    if (!before) {
      return;
    }
    const point = this.#read(event);
    const way = { x: point.x - this.#start.x, y: point.y - this.#start.y };
    if (Math.hypot(way.x, way.y) > HOLD_SLACK) {
      clearTimeout(this.#holdTimer);
    }
    if (this.#pointers.size === 1) {
      if (this.#actions.isZoomed()) {
        this.#actions.onStep({ x: point.x - before.x, y: point.y - before.y });
      } else if (!this.#wasPinch) {
        this.#actions.onDrag(way);
      }
    } else if (this.#pointers.size === 2) {
      this.#pinch(event.pointerId, before, point);
    }
    this.#pointers.set(event.pointerId, point);
  }

  /**
   * @param {number} moved
   * @param {Point} before
   * @param {Point} point
   */
  #pinch(moved, before, point) {
    const other = [...this.#pointers].find(([pointer]) => pointer !== moved)?.[1] ?? point;
    const was = Math.hypot(before.x - other.x, before.y - other.y);
    const is = Math.hypot(point.x - other.x, point.y - other.y);
    const middle = { x: (point.x + other.x) / 2, y: (point.y + other.y) / 2 };
    this.#actions.onStep({ x: (point.x - before.x) / 2, y: (point.y - before.y) / 2 });
    if (was > 0) {
      this.#actions.onZoom(is / was, middle);
    }
  }

  /** @param {PointerEvent} event */
  #up(event) {
    const point = this.#pointers.get(event.pointerId);
    if (!point) {
      return;
    }
    this.#pointers.delete(event.pointerId);
    clearTimeout(this.#holdTimer);
    this.#actions.onHold(false);
    if (this.#pointers.size === 0 && !this.#wasPinch) {
      const isCancelled = event.type === "pointercancel";
      const way = isCancelled ? { x: 0, y: 0 } : { x: point.x - this.#start.x, y: point.y - this.#start.y };
      this.#actions.onDrop(way, event.timeStamp - this.#start.moment);
    }
  }

  /** @param {WheelEvent} event */
  #wheel(event) {
    if (!this.#isOnPicture(event)) {
      return;
    }
    event.preventDefault();
    const pixels = event.deltaY * (event.deltaMode === WheelEvent.DOM_DELTA_LINE ? 16 : 1);
    this.#actions.onZoom(Math.exp(-Math.max(-120, Math.min(120, pixels)) / (event.ctrlKey ? 100 : 300)), this.#read(event));
  }
}

/**
 * Whether a finger goes down on a video where it may begin to swipe: above the controls, which it moves.
 * @param {PointerEvent} event
 */
function isFingerOnVideo({ target, pointerType, offsetY }) {
  return pointerType === "touch" && target instanceof HTMLVideoElement && offsetY < target.clientHeight - CONTROLS_PIXELS;
}
