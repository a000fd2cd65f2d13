/** The background jobs: how many run, wait and have failed, with the reasons and a retry. */

import { request } from "../shell/api.js";
import { element } from "../shell/dom.js";
import { text } from "../shell/text.js";
import { buildChip, buildEntries, buildEntry, describeMoment } from "./parts.js";

const QUEUES = ["thumbnailGeneration", "videoConversion"];
const MOST_SHOWN = 10;

/**
 * @typedef {{assetId: string, fileName?: string, reason: string, attempts: number, failedAt: string}} Failure
 * @typedef {Record<"active" | "completed" | "failed" | "delayed" | "waiting" | "paused", number>} Counts
 * @typedef {{jobCounts: Counts, queueStatus: {isPaused: boolean}, failures?: Failure[]}} Queue
 */

/** @type {import("./card.js").CardContent} */
export const jobsCard = {
  title: text("admin.jobs"),
  icon: "retry",
  paths: ["/jobs"],
  build: ([queues], card) => [
    buildEntries(QUEUES.map((name) => buildQueue(name, queues[name], card))),
    ...QUEUES.map((name) => buildFailures(name, queues[name])),
  ],
};

/**
 * @param {string} name
 * @param {Queue} queue
 * @param {import("./card.js").Card} card
 */
function buildQueue(name, { jobCounts, queueStatus }, card) {
  const { isPaused } = queueStatus;
  const waiting = jobCounts.waiting + jobCounts.delayed + jobCounts.paused;
  const isBusy = jobCounts.active + waiting > 0;
  const chip = isPaused
    ? buildChip("bad", text("admin.jobs.paused"))
    : buildChip(isBusy ? "busy" : "idle", text(isBusy ? "admin.jobs.busy" : "admin.jobs.idle"));
  const pause = card.buildButton({
    key: `${name}-pause`,
    label: text(isPaused ? "admin.jobs.resume" : "admin.jobs.pause"),
    name: isPaused ? "play" : "pause",
    act: () => command(name, isPaused ? "resume" : "pause"),
  });
  const retry = card.buildButton({
    key: `${name}-retry`,
    label: text("admin.jobs.retry"),
    name: "retry",
    act: () => command(name, "start"),
  });
  return buildEntry({
    name: text(`admin.jobs.${name}`),
    chip,
    details: [text("admin.jobs.counts", { active: jobCounts.active, waiting, completed: jobCounts.completed })],
    problem: jobCounts.failed > 0 ? text("admin.jobs.failed", { count: jobCounts.failed }) : null,
    button: element("div", { class: "entry-buttons" }, jobCounts.failed > 0 && retry, (isBusy || isPaused) && pause),
  });
}

/**
 * @param {string} name
 * @param {Queue} queue
 */
function buildFailures(name, { failures = [], jobCounts }) {
  if (failures.length === 0) {
    return null;
  }
  const rows = failures.slice(0, MOST_SHOWN).map((failure) =>
    element(
      "li",
      { class: "failure" },
      element("bdi", { class: "entry-name" }, failure.fileName ?? failure.assetId),
      element("p", { class: "failure-reason" }, failure.reason),
      element("p", { class: "muted" }, text("admin.jobs.attempts", { count: failure.attempts, moment: describeMoment(failure.failedAt) })),
    ),
  );
  const more = jobCounts.failed - rows.length;
  return element(
    "div",
    { class: "failures" },
    element("h3", {}, text("admin.jobs.failures", { queue: text(`admin.jobs.${name}`) })),
    element("ul", {}, rows),
    more > 0 && element("p", { class: "muted" }, text("admin.jobs.more", { count: more })),
  );
}

/**
 * @param {string} name
 * @param {"start" | "pause" | "resume"} word
 */
function command(name, word) {
  return request("PUT", `/jobs/${name}`, { json: { command: word } });
}
