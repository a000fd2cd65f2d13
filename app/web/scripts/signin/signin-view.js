/** The view of `/sign-in`: by e-mail and password, or by a pasted key; a token in the address needs no form. */

import { registerView, setTitle } from "../shell/router.js";
import { text } from "../shell/text.js";

registerView("/sign-in", {
  isPublic: true,
  open() {
    setTitle(text("signin.title"));
  },
  close() {},
});
