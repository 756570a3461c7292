// Small ways to make elements. Text is always set as text, never as HTML.

export const find = (selector, from = document) => from.querySelector(selector);

/** element("a", {href: "…", class: "b", onclick: f}, "words", child, …); null children and values are left out. */
export function element(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (key.startsWith("on")) made.addEventListener(key.slice(2), value);
    else made.setAttribute(key, value === true ? "" : value);
  }
  made.append(...children.flat().filter((child) => child !== null && child !== undefined));
  return made;
}

/** Set text only when it changes: screen readers speak what is written anew. */
export function setText(target, words) {
  if (target.textContent !== words) target.textContent = words;
}

/** A browser's store that may be closed to us, as it is where cookies are: then nothing is remembered. */
export function stored(name, key, value) {
  try {
    if (value === undefined) return window[name].getItem(key);
    window[name].setItem(key, value);
  } catch {
    // kept for this page only
  }
  return null;
}

/** Show an ApiError or Error in an alert box, or hide the box. */
export function showError(box, lines) {
  box.hidden = !lines;
  box.replaceChildren(...(lines || []).filter(Boolean).map((line) => element("p", {}, line)));
}
