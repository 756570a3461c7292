// The options of a job, made from what the server says that it takes.
import { element, find } from "./dom.js";
import { number, t, lookUp } from "./i18n.js";

const NUMBERS = ["faces", "seed", "steps", "guidance", "octree_resolution", "texture_size"];
const CHOICES = ["decoder", "rembg", "units", "up"];
const STEP = { guidance: "0.1" };

/** Write the fields anew; what was filled in stays. */
export function drawOptions(box, facts, given) {
  const kept = given ?? readOptions(box);
  const fields = [text("name"), models(facts), textures(facts)];
  const defaults = defaultsOf(facts, kept.model);
  for (const name of NUMBERS) {
    if (facts.limits.options[name]) fields.push(numeric(name, facts.limits.options[name], defaults[name]));
  }
  if (facts.devices.some((device) => device.kind !== "cpu")) fields.push(text("vram", "auto"));
  for (const name of CHOICES) {
    if (facts.limits.choices[name]) fields.push(choice(name, facts.limits.choices[name]));
  }
  box.replaceChildren(...fields);
  for (const [name, value] of Object.entries(kept)) {
    const field = find(`[name="${name}"]`, box);
    if (field) field.value = value;
  }
}

/** {name: value} of the fields that were filled in. */
export function readOptions(box) {
  const found = {};
  for (const field of box.querySelectorAll("[name]")) {
    if (field.value.trim() !== "") found[field.name] = field.value.trim();
  }
  return found;
}

/** What is wrong with the fields, in words, with the first field to blame; null when nothing is. */
export function optionFault(box) {
  for (const field of box.querySelectorAll("input[type=number]")) {
    const bad = !field.validity.valid;
    field.setAttribute("aria-invalid", String(bad));
    if (bad) {
      return { field, words: t("option.bad", { name: t(`option.${field.name}`), least: number(+field.min, 1), most: number(+field.max, 1) }) };
    }
  }
  return null;
}

/** Defaults of the model that a job would get. */
function defaultsOf(facts, model) {
  const name = !model || model === "auto" ? facts.model : model;
  const entry = facts.models.find((one) => one.name === name);
  const plain = Object.fromEntries(Object.entries(facts.limits.options).map(([key, value]) => [key, value.default]));
  return { ...plain, ...Object.fromEntries(Object.entries(entry?.defaults ?? {}).filter(([, value]) => value !== null)) };
}

function labelled(name, field, hint) {
  field.id = `option-${name}`;
  return element("div", {}, element("label", { for: field.id }, t(`option.${name}`)), field, hint ? element("small", { class: "hint" }, hint) : null);
}

function text(name, placeholder) {
  return labelled(name, element("input", { type: "text", name, maxlength: 80, placeholder, autocomplete: "off" }));
}

function numeric(name, range, value) {
  const plain = value ?? range.default;
  const field = element("input", {
    type: "number", name, min: range.least, max: range.most, step: STEP[name] ?? 1, inputmode: "decimal",
    placeholder: plain === null || plain === undefined ? t("option.auto") : String(plain),
  });
  return labelled(name, field, name === "seed" ? null : t("option.range", { least: number(range.least, 1), most: number(range.most, 1) }));
}

function models(facts) {
  const own = facts.models.map((model) =>
    element("option", { value: model.name, disabled: !model.here }, model.here ? model.name : t("option.notHere", { name: model.name })));
  return labelled("model", element("select", { name: "model" }, element("option", { value: "" }, t("option.auto")), own));
}

function textures(facts) {
  const missing = facts.textures.find((texture) => !texture.here && texture.why);
  const why = missing ? `${t(`texture.${missing.name}`)}: ${missing.why}` : null;
  const own = facts.textures.filter((texture) => texture.name !== "auto").map((texture) => {
    const name = t(`texture.${texture.name}`);
    return element("option", { value: texture.name, disabled: !texture.here }, texture.here ? name : t("option.notHere", { name }));
  });
  return labelled("texture", element("select", { name: "texture" }, element("option", { value: "" }, t("option.auto")), own), why);
}

function choice(name, values) {
  const own = values.filter((value) => value !== "auto").map((value) => element("option", { value }, lookUp(`${name}.${value}`) ?? value));
  return labelled(name, element("select", { name }, element("option", { value: "" }, t("option.auto")), own));
}
