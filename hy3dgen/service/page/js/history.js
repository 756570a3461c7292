// Earlier jobs, newest first.
import { element, find } from "./dom.js";
import { picture } from "./files.js";
import { currentLanguage, errorLines, number, t, when } from "./i18n.js";

export class History {
  constructor(api, { onopen, ondelete, onerror }) {
    Object.assign(this, { api, onopen, ondelete, onerror });
    this.jobs = [];
    this.entries = new Map(); // id -> [what it shows, its element], so that pictures are fetched once
    this.hasMore = false;
    this.current = null;
    this.changes = 0; // so that an answer which comes late overwrites nothing newer
    this.list = find("#history-list");
    this.more = find("#history-more");
    this.more.addEventListener("click", () => this.loadMore());
  }

  /** Older jobs than those shown. The last of these is asked for by name: the one the server named may be deleted. */
  async loadMore() {
    this.more.disabled = true;
    try {
      const page = await this.api.history(this.jobs.at(-1)?.id);
      const known = new Set(this.jobs.map((job) => job.id));
      this.jobs.push(...page.jobs.filter((job) => !known.has(job.id)));
      this.hasMore = Boolean(page.next);
      this.changes += 1;
      this.render();
    } catch (error) {
      this.onerror(error);
    } finally {
      this.more.disabled = false;
    }
  }

  /** The newest jobs as they are now, whoever made them; older ones stay as they are shown. */
  async refresh() {
    const before = this.changes;
    try {
      const page = await this.api.history();
      if (before !== this.changes) return;
      const last = page.jobs.at(-1);
      const older = page.next ? this.jobs.slice(1 + this.jobs.findLastIndex((job) => job.created_at >= last.created_at)) : [];
      if (!older.length) this.hasMore = Boolean(page.next);
      this.jobs = [...page.jobs, ...older];
      this.onerror(null);
      this.render();
    } catch (error) {
      if (error.code !== "unreachable") this.onerror(error); // that the page says already
    }
  }

  /** Whether the list shows a job that goes on without being watched. */
  othersAtWork() {
    return this.jobs.some((job) => job.id !== this.current && ["queued", "running"].includes(job.status));
  }

  /** A job is new or has changed. */
  put(job) {
    this.changes += 1;
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
    this.more.hidden = !this.hasMore;
    const before = this.entries;
    this.entries = new Map(this.jobs.map((job) => {
      const shows = JSON.stringify([currentLanguage(), job.id === this.current, job.status, Boolean(job.result?.preview)]);
      const [shown, made] = before.get(job.id) ?? [];
      return [job.id, [shows, shown === shows ? made : this.entry(job)]];
    }));
    this.list.replaceChildren(...[...this.entries.values()].map(([, made]) => made));
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
    this.changes += 1;
    this.jobs = this.jobs.filter((one) => one.id !== job.id);
    this.render();
    find("#history-title").tabIndex = -1;
    find("#history-title").focus();
    this.ondelete(job);
  }
}
