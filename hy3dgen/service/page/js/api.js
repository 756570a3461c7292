// The REST API (docs/rest-api.md) as this page uses it. Knows nothing of the page.
import { stored } from "./dom.js";

/** A problem document of the server, or the network's own failure. */
export class ApiError extends Error {
  constructor(problem, status) {
    super(problem.detail || problem.title || `HTTP ${status}`);
    this.code = problem.code || "internal";
    this.status = status;
    this.fields = problem.errors || [];
  }
}

const TOKEN_KEY = "hy3dgen-token";
const RETRY_MS = 1500;

export class Api {
  constructor() {
    this.token = stored("sessionStorage", TOKEN_KEY) || "";
    this.askForToken = async () => false; // the page says how
  }

  /** The token for this tab; it is never written into an address. */
  setToken(token) {
    this.token = token;
    stored("sessionStorage", TOKEN_KEY, token);
  }

  /** fetch with the token; throws ApiError for anything but success. */
  async request(path, options = {}) {
    for (;;) {
      const headers = { ...(options.headers || {}) };
      const token = this.token;
      if (token) headers.Authorization = `Bearer ${token}`;
      let response;
      try {
        response = await fetch(path, { ...options, headers, cache: "no-store" });
      } catch (error) {
        if (error.name === "AbortError") throw error;
        throw new ApiError({ code: "unreachable", detail: "" }, 0);
      }
      // Another request may have brought a token while this one was under way.
      if (response.status === 401 && (token !== this.token || (await this.askForToken(Boolean(token))))) continue;
      if (!response.ok) throw await problemOf(response);
      return response;
    }
  }

  async json(path, options) {
    return (await this.request(path, options)).json();
  }

  async blob(path) {
    return (await this.request(path)).blob();
  }

  server() {
    return this.json("/v1/server");
  }

  job(id) {
    return this.json(`/v1/jobs/${id}`);
  }

  create(form) {
    return this.json("/v1/jobs", { method: "POST", body: form });
  }

  cancel(id) {
    return this.json(`/v1/jobs/${id}/cancel`, { method: "POST" });
  }

  remove(id) {
    return this.request(`/v1/jobs/${id}`, { method: "DELETE" });
  }

  history(before) {
    return this.json(`/v1/jobs?limit=24${before ? `&before=${before}` : ""}`);
  }

  /** {picture: Blob, method, warning} of a picture before a job is made. */
  async cutout(file, rembg, signal) {
    const form = new FormData();
    form.append("image", file);
    if (rembg) form.append("rembg", rembg);
    const response = await this.request("/v1/cutout", { method: "POST", body: form, signal });
    return {
      picture: await response.blob(),
      method: response.headers.get("Cutout-Method"),
      warning: decodeURIComponent(response.headers.get("Cutout-Warning") || ""),
    };
  }

  /**
   * Follow a job until it ends: handle(event, data). Connects again when the connection breaks; each connection
   * begins with the state of now, so nothing is missed. EventSource cannot send a token, so this reads the stream.
   */
  async follow(id, handle, signal) {
    while (!signal.aborted) {
      try {
        const response = await this.request(`/v1/jobs/${id}/events`, { signal });
        for await (const [event, data] of messages(response.body)) {
          handle(event, data);
          if (event === "end") return;
        }
      } catch (error) {
        if (error.name === "AbortError") return;
        // What is not the network's fault is no reason to try again.
        if (!(error instanceof ApiError) || (error.status >= 400 && error.status < 500)) throw error;
        handle("lost", null);
      }
      await new Promise((resolve) => setTimeout(resolve, RETRY_MS));
    }
  }
}

async function problemOf(response) {
  try {
    return new ApiError(await response.json(), response.status);
  } catch {
    return new ApiError({ detail: `HTTP ${response.status}` }, response.status);
  }
}

/** [event, data] of each message of a text/event-stream body. */
async function* messages(body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { value, done } = await reader.read().catch((error) => {
      throw error.name === "AbortError" ? error : new ApiError({ code: "unreachable", detail: "" }, 0);
    });
    if (done) return;
    const parts = (rest + value).split("\n\n");
    rest = parts.pop();
    for (const part of parts) {
      const fields = { event: "message", data: "" };
      for (const line of part.split("\n")) {
        const found = /^(event|data): ?(.*)$/.exec(line);
        if (found) fields[found[1]] = found[2];
      }
      if (fields.data) yield [fields.event, JSON.parse(fields.data)];
    }
  }
}
