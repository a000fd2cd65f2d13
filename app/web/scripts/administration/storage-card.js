/** How much is stored: on the disk, by user, and by kind of file. */

import { element } from "../shell/dom.js";
import { formatBytes, formatNumber } from "../shell/format.js";
import { text } from "../shell/text.js";
import { buildBar, buildLine, buildLines } from "./parts.js";

/**
 * @typedef {{userName: string, photos: number, videos: number, usage: number, usageByKind: Record<string, number>, quotaSizeInBytes: number | null}} UserUsage
 * @typedef {{photos: number, videos: number, usageByKind: Record<string, number>, usageByUser: UserUsage[],
 *   uploads: {unfinished: number, receivedBytes: number}}} Statistics
 * @typedef {{diskSizeRaw: number, diskUseRaw: number, diskAvailableRaw: number}} Disk
 */

/** @type {import("./card.js").CardContent} */
export const storageCard = {
  title: text("admin.storage"),
  icon: "disk",
  paths: ["/server/storage", "/server/statistics"],
  rounds: 6,
  build: ([disk, statistics]) => [
    buildDisk(disk),
    buildLines([
      buildLine(text("admin.photos"), formatNumber(statistics.photos)),
      buildLine(text("admin.videos"), formatNumber(statistics.videos)),
      ...buildKinds(statistics.usageByKind),
      ...buildUnfinished(statistics.uploads),
    ]),
  ],
};

/** @type {import("./card.js").CardContent} */
export const usersCard = {
  title: text("admin.users"),
  icon: "person",
  paths: ["/server/statistics"],
  rounds: 6,
  build: ([statistics]) => [buildUsers(statistics.usageByUser)],
};

/** @param {Disk} disk */
function buildDisk({ diskSizeRaw, diskUseRaw, diskAvailableRaw }) {
  if (diskSizeRaw === 0) {
    return element("p", { class: "card-figure" }, formatBytes(diskUseRaw));
  }
  const values = { used: formatBytes(diskSizeRaw - diskAvailableRaw), size: formatBytes(diskSizeRaw), free: formatBytes(diskAvailableRaw) };
  return element(
    "div",
    {},
    element("p", { class: "card-figure" }, text("admin.disk.free", values)),
    buildBar(text("admin.disk.label"), 1 - diskAvailableRaw / diskSizeRaw),
    element("p", { class: "muted" }, text("admin.disk.used", values)),
  );
}

/** @param {Record<string, number>} usageByKind */
function buildKinds(usageByKind) {
  return Object.entries(usageByKind)
    .sort(([, one], [, other]) => other - one)
    .map(([kind, bytes]) => buildLine(describeKind(kind), formatBytes(bytes)));
}

/** @param {string} kind */
function describeKind(kind) {
  return text.has(`admin.kind.${kind}`) ? text(`admin.kind.${kind}`) : kind;
}

/** @param {Statistics["uploads"]} uploads */
function buildUnfinished({ unfinished, receivedBytes }) {
  const value = text("admin.unfinished.value", { count: unfinished, size: formatBytes(receivedBytes) });
  return unfinished === 0 ? [] : [buildLine(text("admin.unfinished"), value)];
}

/** @param {UserUsage[]} users */
function buildUsers(users) {
  const columns = ["admin.user", "admin.photos", "admin.videos", "admin.originals", "admin.made"];
  const head = element("tr", {}, columns.map((key) => element("th", { scope: "col" }, text(key))));
  const rows = users.map((user) => {
    const stored = Object.values(user.usageByKind).reduce((sum, bytes) => sum + bytes, 0);
    return element(
      "tr",
      {},
      element("th", { scope: "row" }, element("bdi", {}, user.userName), buildQuota(user)),
      element("td", {}, formatNumber(user.photos)),
      element("td", {}, formatNumber(user.videos)),
      element("td", {}, formatBytes(user.usage)),
      element("td", {}, formatBytes(Math.max(stored - user.usage, 0))),
    );
  });
  return element(
    "div",
    { class: "table-scroller", tabindex: "0", role: "group", "aria-label": text("admin.users") },
    element("table", { class: "table" }, element("thead", {}, head), element("tbody", {}, rows)),
  );
}

/** @param {UserUsage} user */
function buildQuota({ usage, quotaSizeInBytes }) {
  if (quotaSizeInBytes === null) {
    return null;
  }
  const label = text("admin.quota", { size: formatBytes(quotaSizeInBytes) });
  return element("span", { class: "quota" }, buildBar(label, quotaSizeInBytes === 0 ? 1 : usage / quotaSizeInBytes), label);
}
