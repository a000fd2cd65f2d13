/** The view of `/administration`, for administrators: what is stored, what is going on, and what is wrong. */

import { announce } from "../shell/announcer.js";
import { element } from "../shell/dom.js";
import { registerHeaderLink } from "../shell/header.js";
import { navigate, registerView, setTitle } from "../shell/router.js";
import { getUser } from "../shell/session.js";
import { text } from "../shell/text.js";
import { Card } from "./card.js";
import { jobsCard } from "./jobs-card.js";
import { librariesCard, mountsCard } from "./places-card.js";
import { Poller } from "./poller.js";
import { backupsCard, moveCard } from "./safety-card.js";
import { storageCard, usersCard } from "./storage-card.js";

const CONTENTS = [storageCard, jobsCard, usersCard, librariesCard, mountsCard, backupsCard, moveCard];

registerHeaderLink({
  path: "/administration",
  label: text("admin.title"),
  icon: "administration",
  order: 30,
  isFor: (user) => user.isAdmin,
});

/** The cards are loaded one after the other, so that a slow server is not asked for all at once. */
class AdministrationView {
  #poller;

  /** @param {HTMLElement} container */
  constructor(container) {
    const cards = CONTENTS.map((content) => new Card(content, () => this.#poller.hurry()));
    container.classList.add("administration");
    container.append(
      element("h1", {}, text("admin.title")),
      element("div", { class: "cards" }, cards.map((card) => card.node)),
    );
    this.#poller = new Poller(async (signal) => {
      let isComplete = true;
      for (const card of cards) {
        isComplete = (await card.refresh(signal)) && isComplete;
      }
      return isComplete;
    });
  }

  close() {
    this.#poller.close();
  }
}

/** @type {{view: AdministrationView | null}} */
const current = { view: null };

registerView("/administration", {
  open(_, container) {
    if (!getUser()?.isAdmin) {
      navigate("/", { replace: true });
      return;
    }
    setTitle(text("admin.title"));
    current.view = new AdministrationView(container);
    announce(text("admin.title"));
  },
  close() {
    current.view?.close();
    current.view = null;
  },
});
