/** How much is stored: on the disk, by user, and by kind of file. */

import { element } from "../shell/dom.js";
import { formatBytes } from "../shell/format.js";
import { text } from "../shell/text.js";
import { buildBar, buildLine, buildLines, buildNothing } from "./parts.js";

/**
 * @typedef {{userName: string, photos: number, videos: number, usage: number, usageByKind: Record<string, number>, quotaSizeInBytes: number | null}} UserUsage
 * @typedef {{photos: number, videos: number, usageByKind: Record<string, number>, usageByUser: UserUsage[],
 *   uploads: {unfinished: number, receivedBytes: number}}} Statistics
 * @typedef {{diskSizeRaw: number, diskUseRaw: number, diskAvailableRaw: number}} Disk
 */

/** @type {import("./card.js").CardContent} */
export const storageCard = {
  title: text("administration.storage"),
  icon: "disk",
  paths: ["/server/storage", "/server/statistics"],
  rounds: 6,
  build: ([disk, statistics]) => [
    buildDisk(disk),
    buildLines([
      buildLine(text("administration.photos"), text("administration.number", { count: statistics.photos })),
      buildLine(text("administration.videos"), text("administration.number", { count: statistics.videos })),
      ...buildKinds(statistics.usageByKind),
      ...buildUnfinished(statistics.uploads),
    ]),
  ],
};

/** @type {import("./card.js").CardContent} */
export const usersCard = {
  title: text("administration.users"),
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
    element("p", { class: "card-figure" }, text("administration.disk.free", values)),
    buildBar(text("administration.disk.label"), 1 - diskAvailableRaw / diskSizeRaw),
    element("p", { class: "muted" }, text("administration.disk.used", values)),
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
  return text.has(`administration.kind.${kind}`) ? text(`administration.kind.${kind}`) : kind;
}

/** @param {Statistics["uploads"]} uploads */
function buildUnfinished({ unfinished, receivedBytes }) {
  const value = text("administration.unfinished.value", { count: unfinished, size: formatBytes(receivedBytes) });
  return unfinished === 0 ? [] : [buildLine(text("administration.unfinished"), value)];
}

/** @param {UserUsage[]} users */
function buildUsers(users) {
  if (users.length === 0) {
    return buildNothing(text("administration.users.none"));
  }
  const columns = ["administration.user", "administration.photos", "administration.videos", "administration.originals", "administration.made"];
  const head = element("tr", {}, columns.map((key) => element("th", { scope: "col" }, text(key))));
  const rows = users.map((user) => {
    const stored = Object.values(user.usageByKind).reduce((sum, bytes) => sum + bytes, 0);
    return element(
      "tr",
      {},
      element("th", { scope: "row" }, element("bdi", {}, user.userName), buildQuota(user)),
      element("td", {}, text("administration.number", { count: user.photos })),
      element("td", {}, text("administration.number", { count: user.videos })),
      element("td", {}, formatBytes(user.usage)),
      element("td", {}, formatBytes(Math.max(stored - user.usage, 0))),
    );
  });
  return element(
    "div",
    { class: "table-scroller", tabindex: "0", role: "group", "aria-label": text("administration.users") },
    element("table", { class: "table" }, element("thead", {}, head), element("tbody", {}, rows)),
  );
}

/** @param {UserUsage} user */
function buildQuota({ usage, quotaSizeInBytes }) {
  if (quotaSizeInBytes === null) {
    return null;
  }
  const label = text("administration.quota", { size: formatBytes(quotaSizeInBytes) });
  return element("span", { class: "quota" }, buildBar(label, quotaSizeInBytes === 0 ? 1 : usage / quotaSizeInBytes), label);
}
