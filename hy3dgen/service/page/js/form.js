// The form: what a job is made from. Which files and words it needs depends on the kind.
import { element, find, setText, showError } from "./dom.js";
import { errorLines, number, t } from "./i18n.js";
import { Drop } from "./inputs.js";
import { drawOptions, optionFault, readOptions } from "./options.js";

const EXAMPLES = ["animal", "car", "chair", "house", "lamp", "mug", "mushroom", "robot"];
const VIEWS = ["front", "left", "back", "right"];

export class MakeForm {
  constructor(api, onmade) {
    Object.assign(this, { api, onmade });
    this.facts = null;
    this.sending = false;
    this.example = null;
    this.form = find("#form");
    this.options = find("#options .grid");
    this.drops = Object.fromEntries(VIEWS.map((role) => [role, new Drop({ role, kind: "picture", optional: role !== "front", onchange: () => this.changed(role) })]));
    this.drops.mesh = new Drop({ role: "mesh", kind: "mesh", onchange: () => this.changed("mesh") });
    find("#pictures").append(...VIEWS.map((role) => this.drops[role].box));
    find("#mesh-panel").append(this.drops.mesh.box);
    this.listen();
    this.drawExamples();
    this.arrange();
  }

  get kind() {
    return this.form.elements.kind.value;
  }

  get wanted() {
    return { picture: ["front"], views: VIEWS, mesh: ["mesh", "front"], text: [] }[this.kind];
  }

  listen() {
    for (const radio of this.form.elements.kind) radio.addEventListener("change", () => this.arrange());
    this.form.addEventListener("submit", (event) => { event.preventDefault(); this.submit(); });
    document.addEventListener("keydown", (event) => { if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) { event.preventDefault(); this.submit(); } });
    document.addEventListener("paste", (event) => { if (event.clipboardData.files.length && this.kind !== "text") this.pasted(event.clipboardData.files); });
    // A file dropped beside a field would replace the page.
    for (const name of ["dragover", "drop"]) document.addEventListener(name, (event) => event.preventDefault());
    find("#text").addEventListener("input", () => this.drawText());
    this.options.addEventListener("change", (event) => {
      if (event.target.name === "model") drawOptions(this.options, this.facts);
      if (event.target.name === "rembg") for (const role of this.wanted) this.drops[role].look(this.api, event.target.value);
    });
  }

  /** Pasted files go to the field that has the focus, else to the one that can take them. */
  pasted(files) {
    const focused = document.activeElement?.closest(".drop")?.dataset.role;
    const fitting = this.kind === "mesh" && !this.drops.mesh.fault(files[0]) ? "mesh" : "front";
    this.drops[focused ?? fitting].take(files);
  }

  /** What the server can do has become known or has changed. */
  setFacts(facts) {
    this.facts = facts;
    for (const drop of Object.values(this.drops)) drop.setLimits(facts.limits);
    drawOptions(this.options, facts);
    find("#text").maxLength = facts.limits.text_characters;
    this.arrange();
  }

  /** Show the fields that this kind needs. */
  arrange() {
    const kind = this.kind;
    find("#text-panel").hidden = kind !== "text";
    find("#mesh-panel").hidden = kind !== "mesh";
    for (const [role, drop] of Object.entries(this.drops)) drop.box.hidden = !this.wanted.includes(role);
    this.drops.front.titleKey = kind === "views" ? "drop.front" : "drop.picture";
    this.drops.front.render();
    find("#examples").hidden = kind === "text";
    const entry = this.facts?.models.find((model) => model.name === this.facts.model);
    const single = kind === "views" && entry && entry.num_views === 1;
    setText(find("#kind-hint"), [t(`hint.${kind}`), single ? t("views.one", { model: entry.name }) : ""].join(" ").trim());
    showError(find("#form-error"), null);
    this.drawText();
  }

  drawText() {
    const can = this.facts?.features.text2image ?? true;
    const field = find("#text");
    field.disabled = !can;
    find("#make").disabled = this.sending || !this.facts || (this.kind === "text" && !can);
    setText(find("#make"), t(this.sending ? "make.sending" : "make.button"));
    const most = this.facts?.limits.text_characters ?? 500;
    setText(find("#text-why"), can ? t("text.count", { n: number(field.value.length), most: number(most) }) : t("text.missing", { why: this.facts.why_not.text2image ?? "" }));
  }

  drawExamples() {
    find("#examples ul").replaceChildren(...EXAMPLES.map((name) => element("li", {}, element("button", { type: "button", "data-example": name, title: t(`example.${name}`), "aria-label": t("examples.use", { name: t(`example.${name}`) }), onclick: () => this.useExample(name) },
      element("img", { src: `examples/${name}.png`, alt: "", loading: "lazy" })))));
  }

  async useExample(name) {
    this.example = name;
    try {
      const blob = await this.api.blob(`examples/${name}.png`);
      if (this.example !== name) return; // another one has been chosen since
      this.drops.front.take([new File([blob], `${name}.png`, { type: "image/png" })]);
    } catch {
      showError(find("#form-error"), [t("examples.failed")]);
    }
  }

  changed(role) {
    showError(find("#form-error"), null);
    const drop = this.drops[role];
    if (drop.file && !drop.problem) drop.look(this.api, readOptions(this.options).rembg);
  }

  /** What is missing or wrong: {words, field}; null when a job can be made. */
  fault() {
    if (this.kind === "text") {
      return find("#text").value.trim() ? optionFault(this.options) : { words: t("need.text"), field: find("#text") };
    }
    for (const role of this.wanted) {
      const drop = this.drops[role];
      if (drop.problem) return { words: t("need.good"), field: drop.input };
      if (!drop.file && !drop.optional) return { words: t(`need.${role}`), field: drop.input };
    }
    return optionFault(this.options);
  }

  body() {
    const form = new FormData();
    if (this.kind === "text") form.append("text", find("#text").value.trim());
    for (const role of this.wanted) if (this.drops[role].file) form.append(role, this.drops[role].file);
    const options = readOptions(this.options);
    const first = this.drops.mesh.file && this.kind === "mesh" ? this.drops.mesh.file : this.drops.front.file;
    if (!options.name && this.kind !== "text") options.name = first.name.replace(/\.[^.]+$/, "").slice(0, 80);
    for (const [name, value] of Object.entries(options)) form.append(name, value);
    return form;
  }

  async submit() {
    const button = find("#make");
    if (button.disabled) return;
    const fault = this.fault();
    if (fault) {
      showError(find("#form-error"), [fault.words]);
      fault.field.closest("details")?.setAttribute("open", "");
      fault.field.focus();
      return;
    }
    showError(find("#form-error"), null);
    this.sending = true;
    this.drawText();
    try {
      this.onmade(await this.api.create(this.body()));
    } catch (error) {
      showError(find("#form-error"), errorLines(error));
      this.blame(error.fields ?? []);
    } finally {
      this.sending = false;
      this.drawText();
    }
  }

  /** Lead to the first field that the server finds wrong. */
  blame(fields) {
    const inputs = fields.map(({ field }) => document.getElementById(`option-${field}`) ?? this.drops[field === "image" ? "front" : field]?.input);
    const first = inputs.find(Boolean);
    if (!first) return;
    first.setAttribute("aria-invalid", "true");
    first.closest("details")?.setAttribute("open", "");
    first.focus();
  }

  /** The same in another language. */
  render() {
    Object.values(this.drops).forEach((drop) => drop.render());
    if (this.facts) drawOptions(this.options, this.facts);
    this.drawExamples();
    this.arrange();
  }
}
