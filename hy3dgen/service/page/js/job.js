// One job as people watch it: status, progress, stages, memory, the view, the result.
import { element, find, setText, showError } from "./dom.js";
import { errorLines, lookUp, memory, number, percent, seconds, t } from "./i18n.js";
import { drawResult } from "./result.js";

const TICK_MS = 500;
const AGAIN_MS = 3000;
const FINAL = ["done", "failed", "cancelled"];

export class JobView {
  constructor(api, viewer, onchange) {
    Object.assign(this, { api, viewer, onchange });
    this.job = null;
    this.lost = false;
    this.following = null;
    this.heardAt = 0;
    find("#cancel").addEventListener("click", () => this.cancel());
    setInterval(() => this.drawTimes(), TICK_MS);
  }

  /** Watch ``job``; what was watched before goes on without being watched. */
  open(job) {
    this.following?.abort();
    this.following = new AbortController();
    this.viewer.clear();
    find("#stages-box").open = !FINAL.includes(job.status);
    showError(find("#job-error"), null);
    this.lost = false;
    this.update(job);
    this.follow(job.id, this.following.signal);
  }

  /** Let go of the connection while nobody looks: a browser has six for all tabs of a server. */
  pause() {
    this.following?.abort();
  }

  /** Go on from the state of now. */
  resume() {
    this.following?.abort();
    if (!this.job || FINAL.includes(this.job.status)) return;
    this.following = new AbortController();
    this.follow(this.job.id, this.following.signal);
  }

  close() {
    this.following?.abort();
    this.job = null;
    this.viewer.clear();
    for (const name of ["#progress", "#memory", "#result", "#stages-box", "#job-error"]) find(name).hidden = true;
    setText(find("#job-title"), t("job.none"));
    setText(find("#job-status"), "");
  }

  async follow(id, signal) {
    try {
      await this.api.follow(id, (event, data) => { if (!signal.aborted) this.hear(event, data); }, signal);
    } catch (error) {
      if (!signal.aborted) showError(find("#job-error"), errorLines(error));
    }
  }

  hear(event, data) {
    if (this.lost && event !== "lost") showError(find("#job-error"), null); // what failed meanwhile
    this.lost = event === "lost";
    if (event === "job" || event === "end") this.update(data);
    else if (event === "progress") this.update({ ...this.job, progress: data });
    else if (event === "mesh") this.update({ ...this.job, mesh_ready: true });
    else this.drawStatus();
    if (event === "end") this.onchange(this.job);
  }

  update(job) {
    const before = this.job;
    this.job = job;
    this.heardAt = performance.now();
    this.draw();
    const shape = job.mesh_ready && job.kind !== "mesh" && job.status !== "failed";
    if (shape) this.load("mesh", job.links.mesh);
    if (job.status === "done") this.load("result", job.links.result);
    if (before?.id !== job.id || before.status !== job.status) this.onchange(job);
  }

  async load(what, path) {
    const id = this.job.id;
    try {
      await this.viewer.load(what, what === "result" ? `${path}?format=glb` : path, this.job.name);
    } catch (error) {
      if (id !== this.job?.id) return;
      if (what === "result") showError(find("#job-error"), errorLines(error));
      if (error.code === "unreachable") setTimeout(() => { if (id === this.job?.id) this.load(what, path); }, AGAIN_MS);
      return;
    }
    if (id === this.job?.id && what === "result" && !this.job.error) showError(find("#job-error"), null);
  }

  async cancel() {
    const id = this.job.id;
    find("#cancel").disabled = true;
    showError(find("#job-error"), null);
    try {
      const job = await this.api.cancel(id);
      if (id === this.job?.id && !FINAL.includes(this.job.status)) this.update(job);
    } catch (error) {
      if (error.code !== "already-finished") showError(find("#job-error"), errorLines(error));
      find("#cancel").disabled = false;
    }
  }

  draw() {
    const job = this.job;
    setText(find("#job-title"), job.name);
    this.drawStatus();
    const ended = FINAL.includes(job.status);
    find("#progress").hidden = ended;
    find("#cancel").disabled = job.cancel_requested;
    setText(find("#cancel"), t(job.cancel_requested ? "job.cancelling" : "job.cancel"));
    const bar = find("#bar");
    if (job.progress) bar.value = job.progress.fraction;
    else bar.removeAttribute("value");
    this.drawTimes();
    this.drawMemory(ended);
    this.drawStages();
    if (job.error) showError(find("#job-error"), errorLines(job.error));
    drawResult(find("#result"), job, this.api);
  }

  drawStatus() {
    setText(find("#job-status"), this.lost ? t("status.lost") : statusWords(this.job));
  }

  drawTimes() {
    const job = this.job;
    if (!job || FINAL.includes(job.status)) return;
    const progress = job.progress;
    const since_s = (performance.now() - this.heardAt) / 1000;
    setText(find("#elapsed"), progress ? `${t("progress.percent", { percent: percent(progress.fraction) })} · ${t("progress.elapsed", { time: seconds(progress.elapsed_s + (this.lost ? 0 : since_s)) })}` : "");
    const left_s = progress?.remaining_s ?? null;
    setText(find("#remaining"), left_s === null ? "" : t("progress.remaining", { time: seconds(Math.max(1, left_s - since_s)) }));
  }

  drawMemory(ended) {
    const figures = this.job.progress?.memory;
    find("#memory").hidden = ended || !figures;
    if (!figures || ended) return;
    const meter = find("#meter");
    const onDevice = figures.used_mb !== null && figures.used_mb !== undefined;
    setText(find("#memory-label"), t(onDevice ? "memory.vram" : "memory.host"));
    const ceiling = figures.ceiling_mb ?? null;
    meter.hidden = !onDevice || ceiling === null;
    if (!meter.hidden) {
      Object.assign(meter, { max: ceiling, high: 0.9 * ceiling, optimum: 0, value: figures.used_mb });
      setText(find("#memory-text"), t("memory.of", { used: memory(figures.used_mb), ceiling: memory(ceiling), peak: memory(figures.peak_mb ?? figures.used_mb) }));
    } else if (onDevice) setText(find("#memory-text"), memory(figures.used_mb));
    else setText(find("#memory-text"), t("memory.free", { used: memory(figures.host_mb ?? 0) }));
  }

  drawStages() {
    const stages = this.job.progress?.stages ?? [];
    find("#stages-box").hidden = !stages.length;
    find("#stages").replaceChildren(...stages.map((stage) => {
      const steps = stage.total ? `${number(stage.steps)} / ${number(stage.total)}` : stage.steps ? number(stage.steps) : "";
      const state = [t(`stageState.${stage.status}`), ...stage.levers].join(", ");
      return element("tr", { class: stage.status, "data-stage": stage.name }, element("th", { scope: "row" }, stageName(stage.name)), element("td", {}, state), element("td", {}, steps),
        element("td", {}, stage.status === "waiting" || stage.status === "skipped" ? "" : seconds(stage.seconds)),
        element("td", {}, stage.peak_device_mb === null ? "–" : memory(stage.peak_device_mb)));
    }));
  }

  /** The same in another language. */
  render() {
    this.viewer.render();
    if (this.job) this.draw();
    else setText(find("#job-title"), t("job.none"));
  }
}

function stageName(name) {
  return lookUp(`stage.${name}`) ?? name;
}

function statusWords(job) {
  if (job.status === "queued") {
    const { position, estimate_s: wait_s } = job.queue ?? { position: 1, estimate_s: null };
    return wait_s === null || wait_s < 1 ? t("status.queued", { position }) : t("status.queuedFor", { position, time: seconds(wait_s) });
  }
  if (job.status === "running") return job.progress?.stage ? t("status.running", { stage: stageName(job.progress.stage) }) : t("status.starting");
  return t(`status.${job.status}`, { time: job.result ? seconds(job.result.seconds) : "" });
}
