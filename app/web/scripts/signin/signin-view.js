/** The view of `/sign-in`: by e-mail and password, or by a pasted key. */

import { ApiError, request } from "../shell/api.js";
import { element, icon } from "../shell/dom.js";
import { describeError } from "../shell/errors.js";
import { leaveSignIn, registerView, setTitle } from "../shell/router.js";
import { beginSession } from "../shell/session.js";
import { text } from "../shell/text.js";
import { takeTokenFailure } from "./signin-token.js";

/** @typedef {"password" | "key"} Method */

class SignInView {
  /** @type {Method} */
  #method = "password";
  #form = element("form", { class: "signin-form", novalidate: true, onsubmit: (/** @type {Event} */ event) => this.#submit(event) });
  #message = element("p", { class: "signin-message", role: "alert", hidden: true });
  #isSending = false;

  /**
   * @param {HTMLElement} container
   * @param {{expired?: boolean}} state of the entry of the history
   */
  constructor(container, { expired = false }) {
    const title = element("h1", {}, text("signin.title"));
    container.classList.add("signin");
    container.append(
      element("div", { class: "signin-card" }, element("div", { class: "signin-mark", "aria-hidden": "true" }, icon("photos")), title, this.#message, this.#form),
    );
    this.#showForm();
    const failure = takeTokenFailure();
    if (failure || expired) {
      this.#showMessage(failure ?? text("signin.expired"));
    }
  }

  #showForm() {
    const isPassword = this.#method === "password";
    const fields = isPassword
      ? [buildField("email", "email", "username"), buildField("password", "password", "current-password")]
      : [buildField("key", "password", "off")];
    this.#form.replaceChildren(
      ...fields,
      element("button", { type: "submit", class: "button button-primary" }, text("signin.submit")),
      element("button", { class: "signin-other", onclick: () => this.#switch() }, text(isPassword ? "signin.withkey" : "signin.withpassword")),
    );
    this.#form.querySelector("input")?.focus();
  }

  #switch() {
    this.#method = this.#method === "password" ? "key" : "password";
    this.#message.hidden = true;
    this.#showForm();
  }

  /** @param {Event} event */
  async #submit(event) {
    event.preventDefault();
    const missing = [...this.#form.querySelectorAll("input")].find((input) => input.value.trim() === "");
    if (this.#isSending || missing) {
      missing?.focus();
      return;
    }
    this.#setSending(true);
    try {
      const login = await this.#send(new FormData(this.#form));
      await beginSession(login);
      leaveSignIn();
    } catch (error) {
      this.#showMessage(describeFailure(error, this.#method));
      this.#form.querySelector("input")?.focus();
    } finally {
      this.#setSending(false);
    }
  }

  /** @param {FormData} values */
  #send(values) {
    const read = (/** @type {string} */ name) => String(values.get(name) ?? "");
    if (this.#method === "key") {
      return request("POST", "/auth/sign-in-key", { json: { apiKey: read("key").trim() } });
    }
    return request("POST", "/auth/login", { json: { email: read("email").trim(), password: read("password") } });
  }

  /** @param {boolean} isSending */
  #setSending(isSending) {
    this.#isSending = isSending;
    this.#form.setAttribute("aria-busy", String(isSending));
    this.#form.querySelector("[type=submit]")?.toggleAttribute("disabled", isSending);
  }

  /** @param {string} message */
  #showMessage(message) {
    this.#message.textContent = message;
    this.#message.hidden = false;
  }
}

/**
 * @param {string} name
 * @param {string} type
 * @param {string} autocomplete
 */
function buildField(name, type, autocomplete) {
  const id = `signin-${name}`;
  return element(
    "div",
    { class: "field" },
    element("label", { for: id }, text(`signin.${name}`)),
    element("input", { id, name, type, autocomplete, required: true, spellcheck: "false", autocapitalize: "none", maxlength: "1000" }),
  );
}

/**
 * @param {unknown} error
 * @param {Method} method
 */
function describeFailure(error, method) {
  if (error instanceof ApiError && (error.status === 401 || error.status === 400)) {
    return text(method === "key" ? "signin.key.wrong" : "signin.password.wrong");
  }
  if (error instanceof ApiError && error.status === 429) {
    return text("signin.toomany");
  }
  return describeError(error);
}

registerView("/sign-in", {
  isPublic: true,
  open(_, container) {
    setTitle(text("signin.title"));
    new SignInView(container, history.state ?? {});
  },
  close() {},
});
