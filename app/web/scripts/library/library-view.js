/** The view of `/`: everything, newest first. */

import { registerHeaderLink } from "../shell/header.js";
import { registerView, setTitle } from "../shell/router.js";
import { text } from "../shell/text.js";

registerHeaderLink({ path: "/", label: text("header.photos"), icon: "photos", order: 10 });

registerView("/", {
  open(_, container) {
    setTitle("");
    container.classList.add("library");
  },
  close() {},
});
