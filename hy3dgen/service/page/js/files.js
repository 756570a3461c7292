// Downloads and pictures from the server, with and without a token: a link cannot send one, fetch can.
import { element, find, showError } from "./dom.js";
import { errorLines } from "./i18n.js";

/** A link that saves a file. */
export function downloadLink(api, path, filename, ...children) {
  const link = element("a", { class: "button", href: path, download: filename }, ...children);
  link.addEventListener("click", async (event) => {
    if (!api.token) return;
    event.preventDefault();
    try {
      const url = URL.createObjectURL(await api.blob(path));
      element("a", { href: url, download: filename }).click();
      setTimeout(() => URL.revokeObjectURL(url), 60_000);
    } catch (error) {
      showError(find("#job-error"), errorLines(error));
    }
  });
  return link;
}

/** An img of a picture that the server has. */
export function picture(api, path, attributes) {
  const made = element("img", { ...attributes, loading: "lazy" });
  if (!api.token) made.src = path;
  else {
    api.blob(path).then((blob) => {
      made.src = URL.createObjectURL(blob);
      made.addEventListener("load", () => URL.revokeObjectURL(made.src), { once: true });
    }, () => made.remove());
  }
  return made;
}
