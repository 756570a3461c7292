// What a finished job is: files to download, statistics, coverage, warnings.
import { element } from "./dom.js";
import { downloadLink } from "./files.js";
import { bytes, memory, number, percent, seconds, t, lookUp } from "./i18n.js";

export function drawResult(box, job, api) {
  const result = job.result;
  box.hidden = !result;
  if (!result) {
    box.replaceChildren();
    return;
  }
  box.replaceChildren(
    ...result.warnings.map((words) => element("p", { class: "notice" }, words)),
    element("h3", {}, t("result.downloads")), downloads(job, api),
    element("h3", {}, t("result.statistics")), statistics(result),
    ...coverage(result.statistics.coverage),
  );
}

function downloads(job, api) {
  const { files, statistics: { faces } } = job.result;
  const links = Object.entries(files).map(([format, file]) => downloadLink(api, file.url, file.filename,
    t("result.file", { format: format.toUpperCase(), size: bytes(file.bytes) }), element("small", {}, t("result.faces", { faces: number(faces) }))));
  if (job.result.preview) links.push(downloadLink(api, job.links.preview, `${job.name}.png`, t("result.preview")));
  links.push(downloadLink(api, job.links.report, `${job.name}.json`, t("result.report")));
  return element("ul", { class: "downloads" }, links.map((link) => element("li", {}, link)));
}

function statistics(result) {
  const facts = result.statistics;
  const rows = {
    vertices: number(facts.vertices), faces: number(facts.faces), watertight: t(facts.watertight ? "yes" : "no"),
    extent: facts.extent.map((size) => number(size, 2)).join(" × "),
    texture_px: facts.texture_px ? `${facts.texture_px} px` : null, parts_removed: number(facts.parts_removed ?? 0),
    model: result.model, texture: lookUp(`texture.${result.texture}`) ?? result.texture, seed: String(result.seed),
    seconds: seconds(result.seconds), peak: result.peak_device_mb === null ? null : memory(result.peak_device_mb),
  };
  return element("dl", { class: "figures" }, Object.entries(rows).filter(([, value]) => value !== null)
    .map(([name, value]) => element("div", {}, element("dt", {}, t(`stat.${name}`)), element("dd", { "data-stat": name }, value))));
}

function coverage(shares) {
  if (!shares) return [];
  const names = ["seen", "blended", "filled"];
  const bar = element("div", { class: "coverage", "aria-hidden": "true" }, names.map((name) => {
    const part = element("span");
    part.style.width = `${100 * shares[name]}%`;
    return part;
  }));
  const legend = element("ul", { class: "legend" }, names.map((name) =>
    element("li", {}, element("i", { "aria-hidden": "true" }), t(`coverage.${name}`, { percent: percent(shares[name]) }))));
  return [element("h3", {}, t("coverage.title")), bar, legend];
}
