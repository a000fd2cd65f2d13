/** The frame around every view: skip link, header, the views themselves, messages. */

import { buildAnnouncer } from "./announcer.js";
import { isOnline } from "./connection.js";
import { element, icon } from "./dom.js";
import { bus } from "./events.js";
import { buildHeader } from "./header.js";
import { configureRouter, followLink } from "./router.js";
import { isSignedIn } from "./session.js";
import { text } from "./text.js";
import { buildToasts } from "./toasts.js";

/**
 * Fills the document's body, and tells the router where views go.
 * @param {HTMLElement} body
 */
export function buildFrame(body) {
  const views = element("main", { id: "views", class: "views", tabindex: "-1" });
  const frame = element(
    "div",
    { class: "frame" },
    element("a", { class: "skip-link", href: "#views", onclick: skipTo(views) }, text("frame.skip")),
    buildHeader(),
    buildOfflineBar(),
    views,
  );
  body.append(frame, buildToasts(), buildAnnouncer());
  body.addEventListener("click", followLink);
  configureRouter({ frame, views, isSignedIn });
}

/** @param {HTMLElement} target */
function skipTo(target) {
  return (/** @type {Event} */ event) => {
    event.preventDefault();
    const first = target.querySelector("[tabindex='0'], a[href], button, input");
    (first instanceof HTMLElement ? first : target).focus();
  };
}

function buildOfflineBar() {
  const bar = element("div", { class: "offline-bar", role: "status", hidden: isOnline() });
  bus.on("connection-changed", ({ online }) => {
    bar.hidden = online;
    bar.replaceChildren(...(online ? [] : [icon("offline"), element("span", {}, text("frame.offline"))]));
  });
  return bar;
}
