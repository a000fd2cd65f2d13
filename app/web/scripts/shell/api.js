/** Requests to the service, same origin, by the session cookie. */

import { reportReachability } from "./connection.js";
import { text } from "./text.js";

const BASE = "/api";

/** A refusal of the service, or (status 0) a request that did not reach it. */
export class ApiError extends Error {
  /**
   * @param {number} status
   * @param {string} message
   * @param {string | null} correlationId
   */
  constructor(status, message, correlationId = null) {
    super(message);
    this.name = "ApiError";
    this.status = status;
    this.correlationId = correlationId;
  }
}

/**
 * Sends JSON and returns the JSON of the answer, or null if it has none. Throws `ApiError`.
 * @param {string} method
 * @param {string} path below `/api`
 * @param {{json?: unknown, signal?: AbortSignal, headers?: Record<string, string>}} options
 * @returns {Promise<any>}
 */
export async function request(method, path, { json, signal, headers } = {}) {
  const hasBody = json !== undefined;
  const response = await send(method, path, {
    body: hasBody ? JSON.stringify(json) : undefined,
    headers: { accept: "application/json", ...(hasBody ? { "content-type": "application/json" } : {}), ...headers },
    signal,
  });
  if (!response.ok) {
    throw await readError(response);
  }
  const type = response.headers.get("content-type") ?? "";
  return type.includes("json") ? response.json() : null;
}

/**
 * Sends a request and returns the response, whatever its status. Throws `ApiError` with status 0 if the service is not
 * reached, and lets the `AbortError` of `signal` pass.
 * @param {string} method
 * @param {string} path below `/api`, or a whole path that begins with it
 * @param {{body?: BodyInit, headers?: Record<string, string>, signal?: AbortSignal}} options
 * @returns {Promise<Response>}
 */
export async function send(method, path, { body, headers, signal } = {}) {
  const url = path.startsWith(`${BASE}/`) ? path : `${BASE}${path}`;
  let response;
  try {
    response = await fetch(url, { method, body, headers, signal, credentials: "same-origin" });
  } catch (error) {
    if (signal?.aborted) {
      throw error;
    }
    reportReachability(false);
    throw new ApiError(0, text("error.unreachable"));
  }
  reportReachability(true);
  if (response.status === 401) {
    dispatchEvent(new CustomEvent("signed-out"));
  }
  return response;
}

/**
 * The error that a response with a status of 400 or more stands for.
 * @param {Response} response
 * @returns {Promise<ApiError>}
 */
export async function readError(response) {
  let message = "";
  try {
    const problem = await response.json();
    const parts = Array.isArray(problem.message) ? problem.message : [problem.message ?? problem.title];
    message = parts.filter((/** @type {unknown} */ part) => typeof part === "string").join(" ");
  } catch {
    // The body is no JSON, for example that of a proxy.
  }
  const fallback = text("error.status", { status: response.status });
  return new ApiError(response.status, message || fallback, response.headers.get("x-correlation-id"));
}
