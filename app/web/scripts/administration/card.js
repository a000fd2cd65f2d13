/** One card of the administration view: what it shows is loaded again and again, and drawn when it has changed. */

import { request } from "../shell/api.js";
import { element, icon, replaceChildren } from "../shell/dom.js";
import { describeError, showError } from "../shell/errors.js";
import { text } from "../shell/text.js";

/**
 * @typedef {import("../shell/dom.js").Child} Child
 *
 * @typedef {object} CardContent
 * @property {string} title
 * @property {string} icon
 * @property {string[]} paths below `/api`: what is read
 * @property {(data: any[], card: Card) => (Child | Child[])[]} build the answers of `paths` as elements
 * @property {number} [rounds] the card is loaded in every round of this number only, for what is costly to count
 */

export class Card {
  #content;
  #body = element("div", { class: "card-body" }, element("p", { class: "muted" }, text("admin.loading")));
  #problem = element("p", { class: "card-problem", role: "status", hidden: true });
  #shown = "";
  #round = 0;
  #onAct;

  /**
   * @param {CardContent} content
   * @param {() => void} onAct something was done: what is shown has changed
   */
  constructor(content, onAct) {
    this.#content = content;
    this.#onAct = onAct;
    const title = element("h2", { class: "card-title" }, icon(content.icon), content.title);
    this.node = element("section", { class: "card", "aria-label": content.title }, title, this.#problem, this.#body);
  }

  /**
   * @param {AbortSignal} signal
   * @returns {Promise<boolean>} false if it could not be loaded
   */
  async refresh(signal) {
    const isDue = this.#round % (this.#content.rounds ?? 1) === 0;
    if (!isDue) {
      this.#round += 1;
      return true;
    }
    try {
      this.#show(await Promise.all(this.#content.paths.map((path) => request("GET", path, { signal }))));
      this.#round += 1;
      this.#problem.hidden = true;
      return true;
    } catch (error) {
      if (!signal.aborted) {
        this.#problem.textContent = text("admin.failed", { reason: describeError(error) });
        this.#problem.hidden = false;
      }
      return false;
    }
  }

  /**
   * A button that asks the service to do something.
   * @param {{key: string, label: string, name: string, act: () => Promise<unknown>}} options `key` is unique in the card; `name`: the icon
   */
  buildButton({ key, label, name, act }) {
    const press = async () => {
      button.disabled = true;
      try {
        await act();
        this.#round = 0;
        this.#onAct();
      } catch (error) {
        showError(error);
      } finally {
        button.disabled = false;
      }
    };
    const button = element("button", { class: "button button-small", dataset: { key }, onclick: press }, icon(name), label);
    return button;
  }

  /** @param {any[]} data */
  #show(data) {
    const shown = JSON.stringify(data);
    if (shown === this.#shown) {
      return;
    }
    this.#shown = shown;
    const focused = document.activeElement;
    const key = focused instanceof HTMLElement && this.#body.contains(focused) ? focused.dataset.key : undefined;
    replaceChildren(this.#body, ...this.#content.build(data, this));
    if (key !== undefined) {
      this.#body.querySelector(`[data-key="${CSS.escape(key)}"]`)?.focus();
    }
  }
}
