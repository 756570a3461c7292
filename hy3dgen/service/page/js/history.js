// Earlier jobs, newest first.
import { element, find } from "./dom.js";
import { picture } from "./files.js";
import { errorLines, number, t, when } from "./i18n.js";

export class History {
  constructor(api, { onopen, ondelete, onerror }) {
    Object.assign(this, { api, onopen, ondelete, onerror });
    this.jobs = [];
    this.next = null;
    this.current = null;
    this.list = find("#history-list");
    this.more = find("#history-more");
    this.more.addEventListener("click", () => this.load(this.next));
  }

  async load(before = null) {
    try {
      const page = await this.api.history(before);
      this.jobs = before ? [...this.jobs, ...page.jobs] : page.jobs;
      this.next = page.next;
      this.render();
    } catch (error) {
      this.onerror(error);
    }
  }

  /** A job is new or has changed. */
  put(job) {
    const at = this.jobs.findIndex((one) => one.id === job.id);
    if (at < 0) this.jobs.unshift(job);
    else this.jobs[at] = job;
    this.render();
  }

  mark(id) {
    this.current = id;
    this.render();
  }

  render() {
    const focused = document.activeElement?.dataset?.key;
    find("#history-empty").hidden = this.jobs.length > 0;
    this.more.hidden = !this.next;
    this.list.replaceChildren(...this.jobs.map((job) => this.entry(job)));
    if (focused) find(`[data-key="${focused}"]`, this.list)?.focus();
  }

  entry(job) {
    const shot = job.result?.preview
      ? picture(this.api, job.links.preview, { class: "thumb", alt: t("history.preview", { name: job.name }) }) : element("div", { class: "thumb" });
    const faces = job.result ? ` · ${t("result.faces", { faces: number(job.result.statistics.faces) })}` : "";
    return element("li", { "data-job": job.id, "aria-current": job.id === this.current ? "true" : null }, shot,
      element("span", { class: "name" }, job.name),
      element("span", { class: "hint" }, element("span", { class: `state-${job.status}` }, t(`state.${job.status}`)), ` · ${t(`kindOf.${job.kind}`)}${faces}`, element("br"), when(job.created_at)),
      element("div", { class: "row" },
        element("button", { type: "button", "data-key": `open-${job.id}`, "aria-label": t("history.openOf", { name: job.name }), onclick: () => this.onopen(job) }, t("history.open")),
        element("button", { type: "button", class: "danger", "data-key": `delete-${job.id}`, "aria-label": t("history.deleteOf", { name: job.name }), onclick: () => this.remove(job) }, t("history.delete"))));
  }

  async remove(job) {
    if (!window.confirm(t("history.sure", { name: job.name }))) return;
    try {
      await this.api.remove(job.id);
    } catch (error) {
      if (error.status !== 404) {
        this.onerror(error);
        return;
      }
    }
    this.jobs = this.jobs.filter((one) => one.id !== job.id);
    this.render();
    find("#history-title").tabIndex = -1;
    find("#history-title").focus();
    this.ondelete(job);
  }
}
