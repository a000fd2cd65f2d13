/** Which view the address names: views by pattern, the History API, and views that lie over another one. */

import { element } from "./dom.js";
import { text } from "./text.js";

/**
 * A view is opened with the parameters of its pattern, encoded as in the address, and an element of its own, which is removed after `close`. It is opened
 * again, without a `close` before, when only the parameters change. `overlay`: it lies over the view of `/`, which stays
 * as it is. `resume` is called when an overlay above the view has gone. `isPublic`: it needs no session.
 * @typedef {{
 *   open: (params: Record<string, string>, container: HTMLElement) => void,
 *   close: () => void,
 *   resume?: () => void,
 *   overlay?: boolean,
 *   isPublic?: boolean,
 * }} View
 *
 * @typedef {{pattern: string, expression: RegExp, view: View}} Route
 * @typedef {{route: Route, container: HTMLElement, path: string}} OpenView
 */

const SIGN_IN = "/sign-in";

/** @type {Route[]} */
const routes = [];
const state = {
  /** @type {OpenView | null} */ base: null,
  /** @type {OpenView | null} */ overlay: null,
  started: false,
  /** Whether the entry before has been asked for, and is not shown yet. */ isLeaving: false,
  /** @type {() => boolean} */ isSignedIn: () => false,
  /** @type {HTMLElement | null} */ frame: null,
  /** @type {HTMLElement | null} */ views: null,
};

/**
 * @param {string} pattern such as `/photos/{id}`
 * @param {View} view
 */
export function registerView(pattern, view) {
  const source = pattern.replace(/\{(\w+)\}/g, "(?<$1>[^/]+)");
  routes.push({ pattern, expression: new RegExp(`^${source}$`), view });
}

/**
 * Tells the router where views go (`views`), what an overlay covers (`frame`), and how to ask for the session.
 * @param {{frame: HTMLElement, views: HTMLElement, isSignedIn: () => boolean}} parts
 */
export function configureRouter({ frame, views, isSignedIn }) {
  Object.assign(state, { frame, views, isSignedIn });
}

export function startRouter() {
  history.scrollRestoration = "manual";
  state.started = true;
  addEventListener("popstate", openCurrent);
  addEventListener("signed-out", () => showSignIn());
  openCurrent();
}

/**
 * Goes to another address of the page.
 * @param {string} path
 * @param {{replace?: boolean, data?: Record<string, unknown>}} options `data` is kept with the entry of the history
 */
export function navigate(path, { replace = false, data = {} } = {}) {
  const depth = (history.state?.depth ?? 0) + (replace ? 0 : 1);
  history[replace ? "replaceState" : "pushState"]({ ...data, depth }, "", path);
  openCurrent();
}

/**
 * Goes back if the entry before is one of this page, else to `fallback`.
 * @param {string} fallback
 */
export function goBack(fallback) {
  if (state.isLeaving) {
    return;
  }
  if ((history.state?.depth ?? 0) > 0) {
    state.isLeaving = true;
    history.back();
  } else {
    navigate(fallback, { replace: true });
  }
}

/** @returns {boolean} whether a view lies over another one */
export function isOverlayOpen() {
  return state.overlay !== null;
}

/**
 * Has a signed-in visitor go where the sign-in page was asked for.
 * @param {string | null} path
 */
export function leaveSignIn(path = null) {
  const target = path ?? history.state?.returnTo ?? "/";
  navigate(target.startsWith("/") && !target.startsWith("//") ? target : "/", { replace: true });
}

/**
 * Sets the title of the window.
 * @param {string} title
 */
export function setTitle(title) {
  document.title = title ? text("title.page", { title }) : text("title.plain");
}

/**
 * Lets clicks on a link go through the router; the browser handles those with a modifier, which open tabs.
 * @param {MouseEvent} event
 */
export function followLink(event) {
  const link = event.target instanceof Element ? event.target.closest("a[href]") : null;
  const isPlain = event.button === 0 && !(event.ctrlKey || event.metaKey || event.shiftKey || event.altKey);
  const path = link?.getAttribute("href") ?? "";
  if (isPlain && !event.defaultPrevented && findRoute(path)) {
    event.preventDefault();
    navigate(path);
  }
}

function showSignIn() {
  if (state.started && location.pathname !== SIGN_IN) {
    navigate(SIGN_IN, { replace: true, data: { returnTo: location.pathname, expired: state.isSignedIn() } });
  }
}

/** @param {string} path */
function findRoute(path) {
  for (const route of routes) {
    const match = route.expression.exec(path);
    if (match) {
      return { route, params: { ...match.groups } };
    }
  }
  return null;
}

function openCurrent() {
  const path = location.pathname;
  const found = findRoute(path);
  state.isLeaving = false;
  if (!found) {
    navigate("/", { replace: true });
  } else if (!found.route.view.isPublic && !state.isSignedIn()) {
    showSignIn();
  } else if (found.route.view.overlay) {
    openOverlay(found.route, found.params, path);
  } else {
    openBase(found.route, found.params, path);
  }
}

/**
 * @param {Route} route
 * @param {Record<string, string>} params
 * @param {string} path
 */
function openBase(route, params, path) {
  const hadOverlay = closeOverlay();
  if (state.base?.route === route) {
    const isSame = state.base.path === path;
    state.base.path = path;
    if (!isSame) {
      route.view.open(params, state.base.container);
    } else if (hadOverlay) {
      route.view.resume?.();
    }
    return;
  }
  if (state.base) {
    state.base.route.view.close();
    state.base.container.remove();
  }
  const container = element("div", { class: "view", dataset: { view: route.pattern } });
  state.views?.replaceChildren(container);
  state.base = { route, container, path };
  markCurrentLinks();
  route.view.open(params, container);
}

/**
 * @param {Route} route
 * @param {Record<string, string>} params
 * @param {string} path
 */
function openOverlay(route, params, path) {
  if (state.base?.route.pattern !== "/") {
    const below = findRoute("/");
    if (below) {
      openBase(below.route, below.params, "/");
    }
  }
  if (state.overlay?.route === route) {
    state.overlay.path = path;
  } else {
    closeOverlay();
    const container = element("div", { class: "overlay", dataset: { view: route.pattern } });
    document.body.append(container);
    state.overlay = { route, container, path };
    state.frame?.setAttribute("inert", "");
  }
  route.view.open(params, state.overlay.container);
}

/** @returns {boolean} whether there was one */
function closeOverlay() {
  const overlay = state.overlay;
  if (!overlay) {
    return false;
  }
  state.overlay = null;
  state.frame?.removeAttribute("inert");
  overlay.route.view.close();
  overlay.container.remove();
  return true;
}

function markCurrentLinks() {
  for (const link of document.querySelectorAll("a[data-route]")) {
    if (link.getAttribute("href") === state.base?.path) {
      link.setAttribute("aria-current", "page");
    } else {
      link.removeAttribute("aria-current");
    }
  }
}
