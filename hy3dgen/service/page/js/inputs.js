// Places to drop files on: one for each picture and one for the mesh, each with what the server makes of the file.
import { element, setText } from "./dom.js";
import { bytes, errorLines, t } from "./i18n.js";

const TOUCH = window.matchMedia("(pointer: coarse)").matches;
const FAULTS_OF_FILES = [400, 413, 415, 422];
const PICTURE_SUFFIX = /\.(png|jpe?g|webp|bmp|gif|tiff?|avif|heic)$/i;

/** One file field that takes drops; ``kind`` is "picture" or "mesh". ``limits`` are those of the server. */
export class Drop {
  constructor({ role, kind, optional = false, onchange = () => {} }) {
    Object.assign(this, { role, kind, optional, onchange });
    this.titleKey = `drop.${role}`;
    this.limits = null;
    this.file = null;
    this.problem = null;
    this.task = null; // the look at the cut-out that is under way
    this.urls = [];
    this.words = () => "";
    this.build();
    this.render();
  }

  build() {
    this.input = element("input", { type: "file", id: `file-${this.role}`, "aria-describedby": `message-${this.role}`, onchange: () => this.take(this.input.files) });
    this.title = element("span", { class: "role" });
    this.how = element("span", { class: "hint" });
    this.label = element("label", { for: this.input.id }, this.title, element("br"), this.how);
    this.shots = element("div", { class: "shots" });
    this.message = element("p", { class: "message", id: `message-${this.role}`, role: "status" });
    this.remove = element("button", { type: "button", class: "remove", hidden: true, onclick: () => { this.clear(); this.input.focus(); } });
    this.box = element("div", { class: "drop", "data-role": this.role }, this.input, this.label, this.shots, this.message, this.remove);
    for (const name of ["dragenter", "dragover"]) {
      this.box.addEventListener(name, (event) => { event.preventDefault(); this.box.classList.add("over"); });
    }
    this.box.addEventListener("dragleave", (event) => { if (!this.box.contains(event.relatedTarget)) this.box.classList.remove("over"); });
    this.box.addEventListener("drop", (event) => { event.preventDefault(); this.box.classList.remove("over"); this.take(event.dataTransfer.files); });
  }

  /** Words in the current language. */
  render() {
    const name = t(this.titleKey);
    setText(this.title, this.optional ? `${name} (${t("drop.optional")})` : name);
    setText(this.how, this.file ? t("drop.chosen", { name: this.file.name, size: bytes(this.file.size) }) : t(TOUCH ? "drop.tap" : "drop.how"));
    setText(this.message, this.words());
    setText(this.remove, t("drop.remove"));
    this.remove.setAttribute("aria-label", t("drop.removeOf", { role: name }));
    this.remove.hidden = !this.file && !this.problem;
    this.box.classList.toggle("bad", Boolean(this.problem));
    this.input.setAttribute("aria-invalid", String(Boolean(this.problem)));
    for (const caption of this.shots.querySelectorAll("figcaption")) setText(caption, t(caption.dataset.key));
  }

  setLimits(limits) {
    this.limits = limits;
    this.input.accept = this.kind === "mesh" ? limits.mesh_suffixes.join(",") : "image/*";
  }

  clear() {
    this.task?.abort();
    this.task = this.file = this.problem = null;
    this.input.value = "";
    this.urls.forEach(URL.revokeObjectURL);
    this.urls = [];
    this.shots.replaceChildren();
    this.say(() => "");
    this.render();
    this.onchange();
  }

  take(files) {
    if (!files || !files.length) return;
    const file = files[0];
    this.clear();
    const problem = this.fault(file);
    if (problem) {
      this.refuse(() => this.fault(file) ?? "");
      return;
    }
    this.file = file;
    const several = files.length > 1;
    this.say(() => (several ? t("drop.several") : ""));
    if (this.kind === "picture") this.show(file, "drop.given", false);
    this.render();
    this.onchange();
  }

  /** Why the file cannot be meant, before anything is sent; null when it may be. The server has the last word. */
  fault(file) {
    const most = this.limits ? this.limits.body_mb * 1024 * 1024 : Infinity;
    if (file.size > most) return t("drop.tooLarge", { size: bytes(file.size), most: bytes(most) });
    if (this.kind === "mesh") {
      const types = this.limits ? this.limits.mesh_suffixes : [".glb", ".obj", ".ply", ".stl"];
      return types.some((suffix) => file.name.toLowerCase().endsWith(suffix)) ? null : t("drop.notMesh", { name: file.name, types: types.join(", ") });
    }
    return file.type.startsWith("image/") || PICTURE_SUFFIX.test(file.name) ? null : t("drop.notPicture", { name: file.name });
  }

  /** words: a function, as the language may change while they stand there. */
  refuse(words) {
    this.problem = true;
    this.say(words, true);
    this.render();
    this.onchange();
  }

  say(words, bad = false) {
    this.words = words;
    setText(this.message, words());
    this.message.classList.toggle("bad", bad);
  }

  show(blob, key, checker) {
    const url = URL.createObjectURL(blob);
    this.urls.push(url);
    const picture = element("img", { src: url, alt: "", class: checker ? "checker" : null });
    const figure = element("figure", { "data-shot": key }, picture, element("figcaption", { "data-key": key }, t(key)));
    this.shots.append(figure);
    picture.addEventListener("error", () => figure.remove()); // what the browser cannot show, the server may read
  }

  /** Show what the server makes of the picture: its cut-out, or why it cannot be used. */
  async look(api, rembg) {
    if (this.kind !== "picture" || !this.file) return;
    this.task?.abort();
    const task = (this.task = new AbortController());
    this.shots.querySelector('[data-shot="drop.cutout"]')?.remove();
    this.problem = null;
    this.say(() => t("cutout.wait"));
    try {
      const cutout = await api.cutout(this.file, rembg, task.signal);
      if (task.signal.aborted) return;
      this.show(cutout.picture, "drop.cutout", true);
      this.say(() => cutoutWords(cutout));
      this.render();
    } catch (error) {
      if (error.name === "AbortError" || task.signal.aborted) return;
      const lines = () => errorLines(error).filter(Boolean).join(" ");
      // A server that is away, or wants a token, says nothing about the picture.
      if (FAULTS_OF_FILES.includes(error.status)) this.refuse(lines);
      else this.say(lines, true);
    }
  }
}

function cutoutWords({ method, warning }) {
  const how = ["alpha", "off"].includes(method) ? t(`cutout.${method}`) : t("cutout.by", { method });
  return [how, warning].filter(Boolean).join(" ");
}
