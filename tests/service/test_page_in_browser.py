"""The web page in a real Chromium over the real server: look at a cut-out, make, watch, cancel, download, wrong files.

Slow and with an optional browser, so outside the default command: python -m pytest -m slow tests/service
SCREENSHOTS=FOLDER in the environment keeps pictures of what was seen.
"""

from __future__ import annotations

import io
import os
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
import trimesh

from hy3dgen.cli import gradio_app
from tests.service.browser import ROOT, SMALL, Page, browser_marks, chromium, make_gpu_stand_in, program
from tests.service.conftest import Client, serving, settings_for, until

pytestmark = browser_marks(900)
MUG = ROOT / "assets" / "examples" / "mug.png"


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    folder = tmp_path_factory.mktemp("page")
    downloads = folder / "downloads"
    downloads.mkdir()
    with program("gradio_app.py", folder) as address, chromium(downloads) as driver:
        yield Page(driver, address, downloads)


@pytest.fixture
def fresh(page: Page) -> Page:
    """The page newly opened, in English, with small options."""
    page.new_tab()
    page.driver.get(page.address)
    page.run("localStorage.clear()")
    page.open()
    page.set_options(**SMALL)
    return page


def keep(page: Page, name: str) -> None:
    folder = os.environ.get("SCREENSHOTS")
    if folder:
        page.driver.save_screenshot(str(Path(folder) / f"{name}.png"))


def test_upload_watch_and_download(fresh: Page) -> None:
    """One picture from the cut-out to every file; the bare shape is shown before the colours are there."""
    page = fresh
    page.find("#file-front").send_keys(str(MUG))
    page.until(lambda: page.text("#message-front") == "The picture has a transparent background already.")
    page.until(lambda: page.run("return document.querySelector('.drop img.checker')?.naturalWidth > 0"))
    page.click("#make")
    page.until(lambda: page.status().startswith("Working"))
    seen: set[str] = set()

    def ended() -> bool:
        stages = page.driver.find_elements("css selector", "#stages tr")
        seen.update(["stages"] if len(stages) > 5 else [])
        seen.update(["memory"] if "no GPU in use" in page.text("#memory-text") else [])
        return page.status().startswith(("Done", "Failed", "Cancelled"))

    page.until(ended)
    assert page.status().startswith("Done in "), page.text("#job")
    page.until(lambda: page.shown() == "result", 60)
    keep(page, "done")
    assert seen == {"stages", "memory"}
    # How long the bare shape is seen is up to the machine; that it was fetched before the colours is not.
    times = page.run(
        "return performance.getEntriesByType('resource').filter((e) => /[/](mesh|result[?].*)$/.test(e.name))"
        ".map((e) => [e.name.includes('/mesh') ? 'mesh' : 'result', e.startTime]).sort((a, b) => a[1] - b[1])"
    )
    assert [what for what, _ in times] == ["mesh", "result"]
    assert page.text("[data-stat=faces]") == page.text(".downloads small").split(" ")[0]
    assert "seen in a picture" in page.text(".legend")

    for suffix in (".glb", ".zip", ".ply", ".stl"):
        page.click(f'.downloads a[download="mug{suffix}"]')
    files = until(lambda: len(found := sorted(page.downloads.glob("mug*.[gzps]*[!d]"))) == 4 and found, 60)
    faces = int(page.text("[data-stat=faces]").replace(",", ""))
    for file in files:
        if file.suffix == ".zip":
            assert any(name.endswith(".obj") for name in zipfile.ZipFile(file).namelist())
        else:
            assert len(trimesh.load(io.BytesIO(file.read_bytes()), file.suffix[1:], force="mesh").faces) == faces

    page.click("[name=shown][value=mesh]")
    page.until(lambda: page.shown() == "mesh", 30)
    address = page.driver.current_url
    for _ in range(15):  # an address with a job shows it again, and not the bare shape: it did in one of five times
        page.driver.refresh()
        page.until(lambda: page.status().startswith("Done in ") and page.shown() == "result", 60)
    assert page.driver.current_url == address
    assert "mug" in page.text("#history-list")
    assert page.errors() == []
    assert page.foreign_requests() == []


def test_cancel(fresh: Page) -> None:
    page = fresh
    page.click("[data-example=robot]")
    page.until(lambda: page.text("#message-front") != "" and "…" not in page.text("#message-front"))
    page.set_options(steps="200", octree_resolution="256")
    page.click("#make")
    page.until(lambda: page.status() == "Working: form the shape")
    page.click("#cancel")
    page.until(lambda: page.status().startswith("Cancelled"))
    assert not page.find("#progress").is_displayed()
    assert page.text("#history-list .state-cancelled") == "cancelled"
    assert page.errors() == []


def test_wrong_files(fresh: Page, tmp_path: Path) -> None:
    """A text file is refused at once, a file that only looks like a picture by the server; neither makes a job."""
    page = fresh
    words, broken = tmp_path / "notes.txt", tmp_path / "broken.png"
    words.write_text("no picture")
    broken.write_bytes(b"\x89PNG\r\n\x1a\n but no picture")
    before = len(Client(page.address)("GET", "/v1/jobs").json()["jobs"])
    page.find("#file-front").send_keys(str(words))
    page.until(lambda: "notes.txt" in page.text("#message-front"), 5)
    assert page.find("#file-front").get_attribute("aria-invalid") == "true"
    page.find("#file-front").send_keys(str(broken))
    page.until(lambda: "picture" in page.text("#message-front") and "…" not in page.text("#message-front"))
    assert page.find("#file-front").get_attribute("aria-invalid") == "true"
    page.click("#make")
    assert page.text("#form-error") == "One of the files cannot be used; choose another."
    keep(page, "wrong-file")
    assert page.driver.switch_to.active_element.get_attribute("id") == "file-front"
    page.find("#file-front").send_keys(str(MUG))
    page.until(lambda: page.find("#file-front").get_attribute("aria-invalid") == "false", 30)
    page.set_options(steps="0")
    page.click("#make")
    assert page.text("#form-error") == "Steps must be from 1 to 200."
    assert len(Client(page.address)("GET", "/v1/jobs").json()["jobs"]) == before
    assert page.errors() == []


def test_own_mesh_and_several_views(fresh: Page, tmp_path: Path) -> None:
    """A mesh keeps its faces and gets colours from the picture; views are sent under their own names."""
    page, ball = fresh, tmp_path / "ball.glb"
    ball.write_bytes(trimesh.creation.icosphere(subdivisions=2).export(file_type="glb"))
    page.click("[name=kind][value=mesh]")
    page.find("#file-mesh").send_keys(str(ball))
    page.find("#file-front").send_keys(str(MUG))
    page.click("#make")
    page.until(lambda: page.status().startswith(("Done", "Failed")))
    assert page.text("[data-stat=faces]") == "320", page.text("#job")
    page.until(lambda: page.shown() == "result", 60)
    keep(page, "own-mesh")
    page.click("[name=kind][value=views]")
    page.find("#file-back").send_keys(str(MUG))
    page.until(lambda: page.text("#message-back") != "" and "…" not in page.text("#message-back"))
    page.set_options(steps="200")
    page.click("#make")
    page.until(lambda: page.find("#cancel").is_displayed())
    keep(page, "views")
    page.click("#cancel")
    page.until(lambda: page.status().startswith("Cancelled"))
    [job] = Client(page.address)("GET", "/v1/jobs?limit=1").json()["jobs"]
    assert job["kind"] == "views"
    assert [entry["role"] for entry in job["inputs"]] == ["front", "back"]
    assert page.errors() == []


def test_drop_and_kinds(fresh: Page) -> None:
    """A file dropped on a field is taken; each kind shows what it needs; text says why it is not there."""
    page = fresh
    page.run(
        """const bytes = new Uint8Array([1, 2, 3]), transfer = new DataTransfer();
        transfer.items.add(new File([bytes], 'shape.txt'));
        document.querySelector('[name=kind][value=mesh]').click();
        const box = document.querySelector('.drop[data-role=mesh]');
        box.dispatchEvent(new DragEvent('drop', {dataTransfer: transfer, bubbles: true, cancelable: true}))"""
    )
    assert "shape.txt" in page.text("#message-mesh")
    shown = (
        "return [...document.querySelectorAll('.drop')].filter((b) => b.checkVisibility()).map((b) => b.dataset.role)"
    )
    assert page.run(shown) == ["mesh", "front"]
    page.click("[name=kind][value=views]")
    assert page.run(shown) == ["front", "left", "back", "right"]
    facts = requests.get(f"{page.address}/v1/server", timeout=10).json()
    page.click("[name=kind][value=text]")
    assert page.find("#text").is_enabled() == facts["features"]["text2image"]
    if not facts["features"]["text2image"]:
        assert facts["why_not"]["text2image"] in page.text("#text-why")
        assert not page.find("#make").is_enabled()
    keep(page, "text")


def test_keyboard_alone(fresh: Page) -> None:
    """Tab reaches the skip link first, then an example, which Enter takes; Ctrl+Enter makes, Enter on Cancel stops."""
    from selenium.webdriver.common.action_chains import ActionChains
    from selenium.webdriver.common.keys import Keys

    page = fresh
    page.open()  # so that nothing has been focused yet
    page.run("document.querySelector('#options [name=steps]').value = '200'")

    def press(*keys: str) -> Any:
        chain = ActionChains(page.driver)
        for key in keys[:-1]:
            chain = chain.key_down(key)
        chain = chain.send_keys(keys[-1])
        for key in keys[:-1]:
            chain = chain.key_up(key)
        chain.perform()
        return page.driver.switch_to.active_element

    passed: list[str] = []
    assert press(Keys.TAB).get_attribute("class") == "skip"
    while (name := press(Keys.TAB).get_attribute("data-example")) != "mug":
        passed.append(name)
        assert len(passed) < 60
    press(Keys.ENTER)
    page.until(lambda: "transparent" in page.text("#message-front"), 60)
    press(Keys.CONTROL, Keys.ENTER)
    page.until(lambda: page.find("#cancel").is_displayed())
    assert page.driver.switch_to.active_element.get_attribute("id") == "job"
    assert press(Keys.TAB).get_attribute("id") == "cancel"
    press(Keys.ENTER)
    page.until(lambda: page.status().startswith("Cancelled"))


def test_names_and_korean(fresh: Page) -> None:
    """Every field has a name; Korean leaves no English label behind."""
    page = fresh
    unnamed = page.run(
        """return [...document.querySelectorAll('button, input, select, textarea, meter, progress')]
        .filter((e) => !(e.labels?.length || e.getAttribute('aria-label') || e.getAttribute('aria-labelledby')
        || e.textContent.trim())).map((e) => e.outerHTML)"""
    )
    assert unnamed == []
    page.run("const l = document.querySelector('#language'); l.value = 'ko'; l.dispatchEvent(new Event('change'))")
    assert page.driver.execute_script("return document.documentElement.lang") == "ko"
    assert page.text("#make") == "3D 모델 만들기"
    left = page.run(
        "return [...document.querySelectorAll('[data-i18n], .grid label')].map((e) => e.textContent)"
        ".filter((w) => /[A-Za-z]{4}/.test(w.replace(/JavaScript|VRAM|WebGL|token|Ctrl|Enter|JSON/g, '')))"
    )
    assert left == []
    keep(page, "korean")


def test_vram_against_the_ceiling(tmp_path: Path) -> None:
    """With a device the meter shows what is held against what is allowed; no real GPU is needed to see that."""
    settings = settings_for(tmp_path, make_runner=make_gpu_stand_in)
    with serving(settings, page=gradio_app.PAGE) as client, chromium(tmp_path) as driver:
        page = Page(driver, client.base, tmp_path)
        page.open()
        page.find("#file-front").send_keys(str(MUG))
        page.set_options(name="slow")
        page.click("#make")
        page.until(lambda: page.find("#meter").is_displayed(), 60)
        assert page.text("#memory-label") == "VRAM"
        assert page.text("#memory-text") == "1.86 GiB of 2 GiB (peak 1.9 GiB)"
        shown = "const m = document.querySelector('#meter'); return [m.value, m.max, m.high < m.value]"
        assert page.run(shown) == [1900, 2048, True]
        keep(page, "vram")
        page.click("#cancel")
        page.until(lambda: page.status().startswith("Cancelled"), 60)


def test_token(tmp_path: Path) -> None:
    """With a token the page asks for it once, says when it is wrong, and works with the right one."""
    with program("gradio_app.py", tmp_path, "--token", "secret") as address, chromium(tmp_path) as driver:
        page = Page(driver, address, tmp_path)
        driver.get(address)
        for token in ("wrong", "secret"):
            page.until(lambda: page.find("#token-dialog").is_displayed(), 30)
            page.find("#token").send_keys(token)
            page.find("#token-form button").click()
            if token == "wrong":
                page.until(lambda: page.find("#token-wrong").is_displayed(), 30)
        page.until(lambda: "model" in page.text("#server"))
        assert "secret" not in driver.current_url
