/** The bar at the top: name, links to the views, buttons of the views, and the menu of who is signed in. */

import { element, icon } from "./dom.js";
import { showError } from "./errors.js";
import { bus } from "./events.js";
import { showShortcuts } from "./keyboard.js";
import { navigate } from "./router.js";
import { endSession } from "./session.js";
import { text } from "./text.js";

/**
 * @typedef {import("./session.js").User} User
 * @typedef {{id: string, label: string, icon: string, onClick: (event: MouseEvent) => void, order: number, isPrimary?: boolean}} HeaderButton
 * @typedef {{path: string, label: string, icon: string, order: number, isFor?: (user: User) => boolean}} HeaderLink
 */

const links = element("nav", { class: "header-links", "aria-label": text("header.views") });
const buttons = element("div", { class: "header-buttons" });

/**
 * Adds a button to the header, sorted by `order`; returns it.
 * @param {HeaderButton} options
 * @returns {HTMLButtonElement}
 */
export function registerHeaderButton({ id, label, icon: name, onClick, order, isPrimary = false }) {
  const button = element(
    "button",
    { id: `header-${id}`, class: `header-item ${isPrimary ? "header-primary" : ""}`, onclick: onClick, "aria-label": label, title: label },
    icon(name),
    element("span", { class: "header-label" }, label),
  );
  insertInOrder(buttons, button, order);
  return button;
}

/**
 * Adds a link to a view to the header, for those users that `isFor` accepts.
 * @param {HeaderLink} options
 */
export function registerHeaderLink({ path, label, icon: name, order, isFor = () => true }) {
  const link = element(
    "a",
    { class: "header-item", href: path, "data-route": true, "aria-label": label, title: label, hidden: true },
    icon(name),
    element("span", { class: "header-label" }, label),
  );
  bus.on("session-changed", ({ user }) => {
    link.hidden = user === null || !isFor(user);
  });
  insertInOrder(links, link, order);
}

/**
 * @param {HTMLElement} parent
 * @param {HTMLElement} child
 * @param {number} order
 */
function insertInOrder(parent, child, order) {
  child.dataset.order = String(order);
  const next = [...parent.children].find((other) => other instanceof HTMLElement && Number(other.dataset.order) > order);
  parent.insertBefore(child, next ?? null);
}

/** @returns {HTMLElement} */
export function buildHeader() {
  const header = element(
    "header",
    { class: "header", hidden: true },
    element("a", { class: "brand", href: "/", "aria-label": text("header.home") }, buildMark(), element("span", {}, "mediavault")),
    links,
    element("div", { class: "header-space" }),
    buttons,
    buildAccountMenu(),
  );
  bus.on("session-changed", ({ user }) => {
    header.hidden = user === null;
  });
  return header;
}

function buildMark() {
  return element("span", { class: "brand-mark", "aria-hidden": "true" }, icon("photos"));
}

function buildAccountMenu() {
  const name = element("strong", {});
  const email = element("span", {});
  const items = element(
    "div",
    { class: "menu", popover: "auto", id: "account-menu" },
    element("p", { class: "menu-who" }, name, email),
    element("button", { class: "menu-item", onclick: openShortcuts }, icon("help"), text("shortcuts.title")),
    element("button", { class: "menu-item", onclick: signOut }, icon("signout"), text("account.signout")),
  );
  const button = element(
    "button",
    { class: "header-item account-button", popovertarget: "account-menu", "aria-label": text("account.menu"), title: text("account.menu") },
    icon("person"),
  );
  bus.on("session-changed", ({ user }) => {
    name.textContent = user?.name ?? "";
    email.textContent = user?.email ?? "";
  });
  return element("div", { class: "account" }, button, items);
}

function closeMenu() {
  const menu = document.getElementById("account-menu");
  if (menu?.matches(":popover-open")) {
    menu.hidePopover();
  }
}

function openShortcuts() {
  closeMenu();
  showShortcuts();
}

async function signOut() {
  closeMenu();
  try {
    await endSession();
    navigate("/sign-in");
  } catch (error) {
    showError(error);
  }
}
