/** Numbers, sizes and times, written as the visitor's region does; dates of photos are local times and know no zone. */

const LOCALE = navigator.language?.startsWith("en") ? navigator.language : "en-GB";
const UNITS = ["byte", "kilobyte", "megabyte", "gigabyte", "terabyte"];

const numbers = new Intl.NumberFormat(LOCALE, { maximumFractionDigits: 1 });
const days = new Intl.DateTimeFormat(LOCALE, { weekday: "short", day: "numeric", month: "short", year: "numeric", timeZone: "UTC" });
const longDays = new Intl.DateTimeFormat(LOCALE, { day: "numeric", month: "long", year: "numeric", timeZone: "UTC" });
const times = new Intl.DateTimeFormat(LOCALE, { hour: "2-digit", minute: "2-digit", timeZone: "UTC" });
const months = new Intl.DateTimeFormat(LOCALE, { month: "long", year: "numeric", timeZone: "UTC" });
const moments = new Intl.DateTimeFormat(LOCALE, { dateStyle: "medium", timeStyle: "short" });

/** @type {Record<"day" | "longDay", {number: number, text: string}>} the last days: tiles of one day follow each other */
const lastDays = { day: { number: NaN, text: "" }, longDay: { number: NaN, text: "" } };

/**
 * @param {"day" | "longDay"} kind
 * @param {Date} local
 */
function formatOnce(kind, local) {
  const last = lastDays[kind];
  const number = Math.floor(local.getTime() / 86_400_000);
  if (last.number !== number) {
    last.number = number;
    last.text = (kind === "day" ? days : longDays).format(local);
  }
  return last.text;
}

/** @param {number} value */
export function formatNumber(value) {
  return numbers.format(value);
}

/** @param {number} bytes */
export function formatBytes(bytes) {
  const power = Math.min(Math.max(Math.floor(Math.log10(Math.max(bytes, 1)) / 3), 0), UNITS.length - 1);
  const scaled = bytes / 1000 ** power;
  const digits = scaled < 10 && power > 0 ? 1 : 0;
  const options = { style: "unit", unit: UNITS[power], unitDisplay: power > 0 ? "short" : "long", maximumFractionDigits: digits };
  return new Intl.NumberFormat(LOCALE, /** @type {Intl.NumberFormatOptions} */ (options)).format(scaled);
}

/**
 * A length such as 1:05 or 2:00:09.
 * @param {number} milliseconds
 */
export function formatDuration(milliseconds) {
  const seconds = Math.round(milliseconds / 1000);
  const [hours, minutes, rest] = [Math.floor(seconds / 3600), Math.floor(seconds / 60) % 60, seconds % 60];
  const parts = hours ? [hours, String(minutes).padStart(2, "0")] : [minutes];
  return [...parts, String(rest).padStart(2, "0")].join(":");
}

/**
 * The day of a local time that is kept as if it were UTC.
 * @param {Date} local
 */
export function formatDay(local) {
  return formatOnce("day", local);
}

/** @param {Date} local */
export function formatLongDay(local) {
  return formatOnce("longDay", local);
}

/** @param {Date} local */
export function formatTime(local) {
  return times.format(local);
}

/** @param {Date} local */
export function formatMonth(local) {
  return months.format(local);
}

/**
 * A moment in the zone of the visitor.
 * @param {Date} moment
 */
export function formatMoment(moment) {
  return moments.format(moment);
}
