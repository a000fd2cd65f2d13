/** The backups of the catalogue, and the latest move between disk and S3. */

import { element } from "../shell/dom.js";
import { formatBytes, formatNumber } from "../shell/format.js";
import { text } from "../shell/text.js";
import { buildBar, buildChip, buildEntries, buildEntry, buildLine, buildLines, buildNothing, describeMoment } from "./parts.js";

/** How far a file has come in each state of a move, from 0 to 1. @type {Record<string, number>} */
const SHARES = { planned: 0, copying: 0, copied: 0.5, verified: 0.75, switched: 0.9, removed: 1, dropped: 1, reverted: 1 };
const MOST_PROBLEMS = 10;

/**
 * @typedef {{name: string, size: number, createdAt: string}} Backup
 * @typedef {{backups: Backup[], everyHours: number, keep: number}} Backups
 * @typedef {{state: string, files: number, bytes: number, problems: number}} StateCounts
 * @typedef {{target: string, startedAt: string, finishedAt: string | null, files: number, bytes: number, states: StateCounts[],
 *   problems: {path: string | null, state: string, problem: string}[]}} Move
 */

/** @type {import("./card.js").CardContent} */
export const backupsCard = {
  title: text("admin.backups"),
  icon: "file",
  paths: ["/server/backups"],
  rounds: 6,
  build: ([answer]) => buildBackups(answer),
};

/** @type {import("./card.js").CardContent} */
export const moveCard = {
  title: text("admin.move"),
  icon: "cloud",
  paths: ["/server/move"],
  build: ([move]) => (move === null ? [buildNothing(text("admin.move.none"))] : buildMove(move)),
};

/** @param {Backups} answer */
function buildBackups({ backups, everyHours, keep }) {
  const latest = backups[0];
  const schedule = everyHours > 0 ? text("admin.backups.schedule", { hours: everyHours, keep }) : text("admin.backups.manual");
  if (latest === undefined) {
    return [element("p", { class: "entry-problem" }, text("admin.backups.none")), element("p", { class: "muted" }, schedule)];
  }
  return [
    element("p", { class: "card-figure" }, describeMoment(latest.createdAt)),
    buildLines([
      buildLine(text("admin.backups.size"), formatBytes(latest.size)),
      buildLine(text("admin.backups.kept"), formatNumber(backups.length)),
    ]),
    element("p", { class: "muted" }, schedule),
  ];
}

/** @param {Move} move */
function buildMove({ target, startedAt, finishedAt, files, bytes, states, problems }) {
  const done = states.reduce((sum, { state, bytes: some }) => sum + some * (SHARES[state] ?? 0), 0);
  const share = finishedAt !== null || bytes === 0 ? 1 : done / bytes;
  const title = text(target === "s3" ? "admin.move.s3" : "admin.move.local");
  const chip = finishedAt === null ? buildChip("busy", text("admin.move.running")) : buildChip("good", text("admin.move.finished"));
  return [
    element("p", { class: "entry-head" }, element("strong", {}, title), chip),
    buildBar(text("admin.move.label"), share),
    element("p", { class: "muted" }, text("admin.move.amount", { files, size: formatBytes(bytes), moment: describeMoment(startedAt) })),
    buildLines(states.map((each) => buildLine(describeState(each.state), text("admin.move.files", { count: each.files, size: formatBytes(each.bytes) })))),
    problems.length > 0 &&
      buildEntries(
        problems.slice(0, MOST_PROBLEMS).map(({ path, state, problem }) =>
          buildEntry({ name: path ?? "", chip: buildChip("bad", describeState(state)), details: [], problem }),
        ),
      ),
  ];
}

/** @param {string} state */
function describeState(state) {
  return text.has(`admin.move.${state}`) ? text(`admin.move.${state}`) : state;
}
