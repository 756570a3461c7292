// The page's words in the reader's language, and numbers as that language writes them.
import { stored } from "./dom.js";
import { words as en } from "./words/en.js";
import { words as ko } from "./words/ko.js";

const LANGUAGES = { en, ko };
const KEY = "hy3dgen-language";
let language = stored("localStorage", KEY) || (navigator.language.toLowerCase().startsWith("ko") ? "ko" : "en");
if (!(language in LANGUAGES)) language = "en";

export const currentLanguage = () => language;

/** The words for ``key`` with {names} filled in; null when there are none. */
export function lookUp(key, values = {}) {
  const found = LANGUAGES[language][key] ?? en[key];
  return found === undefined ? null : found.replace(/\{(\w+)\}/g, (whole, name) => values[name] ?? whole);
}

export function t(key, values) {
  return lookUp(key, values) ?? key;
}

export function setLanguage(name) {
  language = name in LANGUAGES ? name : "en";
  stored("localStorage", KEY, language);
}

/** Put the words into every element that names them. */
export function translate(root = document) {
  document.documentElement.lang = language;
  for (const target of root.querySelectorAll("[data-i18n]")) target.textContent = t(target.dataset.i18n);
}

export function number(value, digits = 0) {
  return new Intl.NumberFormat(language, { maximumFractionDigits: digits }).format(value);
}

export function percent(value) {
  return new Intl.NumberFormat(language, { style: "percent", maximumFractionDigits: 0 }).format(value);
}

export function seconds(value) {
  if (value < 60) return t("time.s", { s: number(value, value < 10 ? 1 : 0) });
  return t("time.ms", { m: number(Math.floor(value / 60)), s: String(Math.floor(value % 60)).padStart(2, "0") });
}

export function bytes(value) {
  if (value < 1e6) return `${number(Math.max(1, value / 1e3))} kB`;
  return `${number(value / 1e6, 1)} MB`;
}

export function memory(mb) {
  return mb >= 1024 ? `${number(mb / 1024, 2)} GiB` : `${number(mb)} MiB`;
}

export function when(iso) {
  return new Intl.DateTimeFormat(language, { dateStyle: "medium", timeStyle: "short" }).format(new Date(iso));
}

/** What to tell people about an error: a title in their language, then the server's sentence. */
export function errorLines(error) {
  const title = lookUp(`problem.${error.code}`);
  const detail = error.detail ?? error.message ?? "";
  return [title, detail.charAt(0).toUpperCase() + detail.slice(1)];
}
