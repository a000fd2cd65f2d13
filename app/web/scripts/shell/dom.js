/** Elements, built without markup: texts become text nodes, so nothing that a file or a server says is ever parsed. */

import { ICON_PATHS } from "./icons.js";

const SVG = "http://www.w3.org/2000/svg";

/** @typedef {Node | string | number | null | undefined | false} Child */

/**
 * An element. Of `props`, functions become listeners (`onclick`), `dataset` and `style` are maps (`style` by CSSOM, which
 * the Content-Security-Policy allows), true is an empty attribute, and false, null and undefined are left out. Buttons
 * submit no form unless told to.
 * @template {keyof HTMLElementTagNameMap} Tag
 * @param {Tag} tag
 * @param {Record<string, any>} props
 * @param {...(Child | Child[])} children
 * @returns {HTMLElementTagNameMap[Tag]}
 */
export function element(tag, props = {}, ...children) {
  const node = document.createElement(tag);
  if (node instanceof HTMLButtonElement) {
    node.type = "button";
  }
  for (const [name, value] of Object.entries(props)) {
    setProperty(node, name, value);
  }
  appendChildren(node, children);
  return node;
}

/**
 * @param {HTMLElement} node
 * @param {string} name
 * @param {any} value
 */
function setProperty(node, name, value) {
  if (value === null || value === undefined || value === false) {
    return;
  }
  if (typeof value === "function") {
    node.addEventListener(name.replace(/^on/, ""), value);
  } else if (name === "dataset") {
    Object.assign(node.dataset, value);
  } else if (name === "style") {
    for (const [property, setting] of Object.entries(value)) {
      node.style.setProperty(property, String(setting));
    }
  } else if (name === "value" && "value" in node) {
    node.value = value;
  } else if (/^on/i.test(name)) {
    throw new TypeError(`${name} must be a function`);
  } else {
    node.setAttribute(name, value === true ? "" : String(value));
  }
}

/**
 * Replaces what `node` contains.
 * @param {Element} node
 * @param {...(Child | Child[])} children
 */
export function replaceChildren(node, ...children) {
  node.replaceChildren();
  appendChildren(node, children);
}

/**
 * @param {Element} node
 * @param {(Child | Child[])[]} children
 */
function appendChildren(node, children) {
  for (const child of children.flat()) {
    if (child !== null && child !== undefined && child !== false) {
      node.append(child instanceof Node ? child : String(child));
    }
  }
}

/**
 * An icon of the set in `icons.js`, hidden from screen readers: what carries it has a name of its own.
 * @param {string} name
 * @returns {SVGSVGElement}
 */
export function icon(name) {
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("viewBox", "0 0 24 24");
  svg.setAttribute("aria-hidden", "true");
  svg.classList.add("icon");
  const path = document.createElementNS(SVG, "path");
  path.setAttribute("d", ICON_PATHS[name]);
  svg.append(path);
  return svg;
}

/**
 * A button that shows an icon; its label is its name and its tooltip.
 * @param {{icon: string, label: string, onClick: (event: MouseEvent) => void, class?: string}} options
 * @returns {HTMLButtonElement}
 */
export function iconButton({ icon: name, label, onClick, class: className = "" }) {
  const classes = `icon-button ${className}`.trim();
  return element("button", { class: classes, "aria-label": label, title: label, onclick: onClick }, icon(name));
}
