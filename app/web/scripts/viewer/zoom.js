/** How a picture is zoomed and moved within its stage. Pure arithmetic. */

/**
 * The picture of `width` by `height` pixels stands in the middle of the stage, then is scaled and moved by `x`, `y`.
 * @typedef {{scale: number, x: number, y: number}} Zoom
 * @typedef {{width: number, height: number}} Size
 */

/** @type {Zoom} */
export const WHOLE = { scale: 1, x: 0, y: 0 };

/**
 * The size of a picture that fills the stage as far as it can.
 * @param {number} ratio width by height
 * @param {Size} stage
 * @returns {Size}
 */
export function fitPicture(ratio, stage) {
  const width = Math.max(1, Math.min(stage.width, stage.height * ratio));
  return { width, height: width / ratio };
}

/**
 * Scales by `factor`, so that what lies at `point` (from the middle of the stage) stays there.
 * @param {Zoom} zoom
 * @param {number} factor
 * @param {{x: number, y: number}} point
 * @param {number} most the greatest scale
 * @returns {Zoom}
 */
export function zoomAt(zoom, factor, point, most) {
  const scale = Math.min(Math.max(zoom.scale * factor, 1), most);
  const real = scale / zoom.scale;
  return { scale, x: point.x - (point.x - zoom.x) * real, y: point.y - (point.y - zoom.y) * real };
}

/**
 * Moves no further than the edges of the picture.
 * @param {Zoom} zoom
 * @param {Size} picture
 * @param {Size} stage
 * @returns {Zoom}
 */
export function limitZoom({ scale, x, y }, picture, stage) {
  if (scale <= 1) {
    return WHOLE;
  }
  const [spareX, spareY] = [(picture.width * scale - stage.width) / 2, (picture.height * scale - stage.height) / 2];
  const limit = (/** @type {number} */ value, /** @type {number} */ spare) => (spare <= 0 ? 0 : Math.min(Math.max(value, -spare), spare));
  return { scale, x: limit(x, spareX), y: limit(y, spareY) };
}
