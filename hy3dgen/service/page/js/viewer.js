// The 3D view. model-viewer is loaded when there is something to show, so that the form is there at once.
import { element, find } from "./dom.js";
import { t } from "./i18n.js";

export class Viewer {
  constructor(box, tools, api) {
    Object.assign(this, { box, tools, api });
    this.empty = find(".empty", box);
    this.view = null;
    this.urls = {}; // "mesh" and "result" -> address of the loaded file
    this.asked = new Set(); // what is on its way: progress comes several times a second
    this.shown = null;
    this.turn = 0; // counts jobs, so that what comes late for an earlier one is dropped
    for (const radio of tools.querySelectorAll("[name=shown]")) radio.addEventListener("change", () => this.show(radio.value));
    find("#turn", tools).addEventListener("change", (event) => this.view?.toggleAttribute("auto-rotate", event.target.checked));
    find("#reset-view", tools).addEventListener("click", () => this.reset());
  }

  clear() {
    this.turn += 1;
    Object.values(this.urls).forEach(URL.revokeObjectURL);
    this.urls = {};
    this.asked.clear();
    this.shown = null;
    this.view?.remove();
    this.view = null;
    this.tools.hidden = true;
    this.box.dataset.shown = "";
    this.empty.dataset.i18n = "viewer.empty";
    this.empty.textContent = t("viewer.empty");
    this.empty.hidden = false;
  }

  /** Fetch "mesh" or "result" from the server and show it, unless the better one is shown already. */
  async load(what, path, name) {
    if (this.asked.has(what)) return;
    this.asked.add(what);
    const turn = this.turn;
    let content;
    try {
      content = await this.api.blob(path);
    } catch (error) {
      if (turn === this.turn) this.asked.delete(what);
      throw error;
    }
    if (turn !== this.turn) return;
    this.urls[what] = URL.createObjectURL(content);
    this.name = name;
    if (what === "result" || !this.urls.result) await this.show(what);
    for (const radio of this.tools.querySelectorAll("[name=shown]")) radio.disabled = !this.urls[radio.value];
  }

  async show(what) {
    this.shown = what; // who asks last is served: two imports of one module do not always end in their order
    try {
      await import("../vendor/model-viewer.min.js");
    } catch {
      this.fail();
      return;
    }
    if (this.shown !== what || !this.urls[what]) return;
    if (!this.view) this.create();
    // Bare white would hardly stand out from a light page.
    this.view.exposure = what === "mesh" ? 0.55 : 1;
    this.view.src = this.urls[what];
    for (const radio of this.tools.querySelectorAll("[name=shown]")) radio.checked = radio.value === what;
  }

  create() {
    this.view = element("model-viewer", {
      "camera-controls": true, "shadow-intensity": "0.6", "interaction-prompt": "none", "touch-action": "pan-y",
      alt: t("viewer.alt", { name: this.name }), "auto-rotate": find("#turn", this.tools).checked, "camera-orbit": "25deg 72deg auto",
    });
    this.view.addEventListener("load", () => { this.box.dataset.shown = this.shown; });
    this.view.addEventListener("error", (event) => { if (event.detail?.type !== "loadfailure" || !this.box.dataset.shown) this.fail(); });
    this.box.append(this.view);
    this.empty.hidden = true;
    this.tools.hidden = false;
  }

  fail() {
    this.view?.remove();
    this.view = null;
    this.tools.hidden = true;
    this.box.dataset.shown = "failed";
    this.empty.dataset.i18n = "viewer.failed";
    this.empty.textContent = t("viewer.failed");
    this.empty.hidden = false;
  }

  render() {
    if (this.view) this.view.alt = t("viewer.alt", { name: this.name });
  }

  reset() {
    if (!this.view) return;
    this.view.cameraOrbit = "25deg 72deg auto";
    this.view.cameraTarget = "auto auto auto";
    this.view.fieldOfView = "auto";
    this.view.resetTurntableRotation?.(0);
    this.view.jumpCameraToGoal?.();
  }
}
