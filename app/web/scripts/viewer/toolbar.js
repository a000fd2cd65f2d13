/** The bar above the picture. */

import { element, iconButton } from "../shell/dom.js";
import { text } from "../shell/text.js";

/**
 * @typedef {{close: () => void, live: () => void, info: () => void, favorite: () => void, download: () => void, trash: () => void}} ToolbarActions
 */

export class Toolbar {
  #title = element("p", { class: "viewer-title" });
  #live;
  #info;
  #favorite;

  /** @param {ToolbarActions} actions */
  constructor(actions) {
    this.#live = iconButton({ icon: "live", label: text("viewer.live"), onClick: actions.live });
    this.#info = iconButton({ icon: "info", label: text("viewer.info"), onClick: actions.info });
    this.#favorite = iconButton({ icon: "favorite", label: text("viewer.favorite"), onClick: actions.favorite, class: "viewer-favorite" });
    this.element = element(
      "div",
      { class: "viewer-bar", role: "toolbar", "aria-label": text("viewer.actions") },
      iconButton({ icon: "back", label: text("viewer.close"), onClick: actions.close }),
      this.#title,
      this.#live,
      this.#info,
      this.#favorite,
      iconButton({ icon: "download", label: text("viewer.download"), onClick: actions.download }),
      iconButton({ icon: "trash", label: text("viewer.trash"), onClick: actions.trash }),
    );
    this.#info.setAttribute("aria-pressed", "false");
  }

  /** @param {string} title */
  setTitle(title) {
    this.#title.textContent = title;
  }

  /** @param {import("./item.js").Item | null} item */
  showItem(item) {
    this.#live.hidden = !item?.liveId;
    this.#favorite.setAttribute("aria-pressed", String(item?.isFavorite ?? false));
    for (const button of this.element.querySelectorAll("button:not(:first-child)")) {
      button.toggleAttribute("disabled", item === null);
    }
  }

  /** @param {boolean} isOpen */
  showInfoState(isOpen) {
    this.#info.setAttribute("aria-pressed", String(isOpen));
  }
}
