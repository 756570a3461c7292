// The page: form, job and history around one API. An address ending in #job=ID opens that job.
import { Api } from "./api.js";
import { find, setText, showError } from "./dom.js";
import { MakeForm } from "./form.js";
import { History } from "./history.js";
import { currentLanguage, errorLines, number, setLanguage, t, translate } from "./i18n.js";
import { JobView } from "./job.js";
import { Viewer } from "./viewer.js";

const LOOK_MS = 15_000;
const STARTING_MS = 1_000;
const OTHERS_MS = 3_000; // jobs that go on unwatched

const api = new Api();
api.askForToken = askForToken;
let facts = null;
let bannerFor = null; // what the banner is about: only who wrote there takes it away
let nextLook = null;

const viewer = new Viewer(find("#viewer"), find("#viewer-tools"), api);
const history = new History(api, { onopen: open, ondelete: deleted, onerror: (error) => showBanner("history", error && errorLines(error)) });
const view = new JobView(api, viewer, (job) => history.put(job));
const form = new MakeForm(api, open);

function showBanner(about, lines) {
  if (!lines && bannerFor !== about) return;
  bannerFor = lines ? about : null;
  showError(find("#banner"), lines);
}

function open(job) {
  showBanner("job", null);
  view.open(job);
  history.mark(job.id);
  window.history.replaceState(null, "", `#job=${job.id}`);
  if (history.othersAtWork()) lookIn(OTHERS_MS);
  find("#job").focus({ preventScroll: true });
  // The title in the upper half has the view below it; the section itself may be longer than a screen.
  const top = find("#job-title").getBoundingClientRect().top;
  if (top < 0 || top > window.innerHeight / 2) find("#job").scrollIntoView();
}

function deleted(job) {
  if (view.job?.id !== job.id) return;
  view.close();
  history.mark(null);
  window.history.replaceState(null, "", location.pathname);
}

/** One dialog however many requests were refused. Resolves true once there is a token to try. */
let asking = null;
function askForToken(wasWrong) {
  asking ??= new Promise((resolve) => {
    const dialog = find("#token-dialog");
    find("#token-wrong").hidden = !wasWrong;
    find("#token").value = "";
    dialog.addEventListener("close", () => {
      asking = null;
      const given = find("#token").value.trim();
      if (given) api.setToken(given);
      resolve(Boolean(given));
    }, { once: true });
    dialog.showModal();
  });
  return asking;
}

/** Look at the server now and then: it may have been starting, or have gone away. */
async function lookAtServer() {
  try {
    const before = facts;
    facts = await api.server();
    const back = bannerFor === "server";
    showBanner("server", facts.status === "failed" ? facts.failures : null);
    const changed = !before || before.status !== facts.status || JSON.stringify([before.models, before.features, before.limits]) !== JSON.stringify([facts.models, facts.features, facts.limits]);
    if (changed) form.setFacts(facts);
    drawServer();
    if (back || history.othersAtWork()) await history.refresh();
  } catch (error) {
    showBanner("server", errorLines(error));
  }
  lookIn(facts?.status === "starting" || !facts ? STARTING_MS : history.othersAtWork() ? OTHERS_MS : LOOK_MS);
}

function lookIn(ms) {
  clearTimeout(nextLook);
  nextLook = setTimeout(lookAtServer, ms);
}

/** The page is hidden, or seen again: then another tab may have done something meanwhile. */
function turned() {
  if (document.hidden) {
    view.pause();
    return;
  }
  view.resume();
  lookIn(0);
  history.refresh();
}

function drawServer() {
  if (!facts) return;
  if (facts.status !== "ready") {
    setText(find("#server"), t(`server.${facts.status}`));
    return;
  }
  const ceiling = Math.min(...facts.devices.map((device) => device.ceiling_gib ?? Infinity));
  setText(find("#server"), t("server.ready", {
    devices: facts.devices.map((device) => device.name).join(", "), model: facts.model, waiting: number(facts.queue.waiting),
    ceiling: Number.isFinite(ceiling) ? t("server.ceiling", { gib: number(ceiling, 2) }) : "",
  }));
}

function speak() {
  translate();
  form.render();
  view.render();
  history.render();
  drawServer();
}

async function openFromAddress() {
  const found = /^#job=([0-9a-f]{32})$/.exec(location.hash);
  if (!found || view.job?.id === found[1]) return;
  try {
    open(await api.job(found[1]));
  } catch (error) {
    showBanner("job", errorLines(error));
  }
}

find("#language").value = currentLanguage();
find("#language").addEventListener("change", (event) => { setLanguage(event.target.value); speak(); });
window.addEventListener("hashchange", openFromAddress);
document.addEventListener("visibilitychange", turned);
speak();
await lookAtServer();
await history.refresh();
await openFromAddress();
