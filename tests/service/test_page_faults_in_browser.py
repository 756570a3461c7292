"""The web page when things go wrong around it: servers that go and come back, other tabs, odd names, impatient people.

The work is a stand-in's, so that minutes become seconds. Slow and with a browser all the same, as its neighbour.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from hy3dgen.cli.gradio_app import PAGE
from hy3dgen.service.rest.guard import Access
from hy3dgen.service.settings import Limits
from tests.service.browser import Page, browser_marks, chromium
from tests.service.conftest import PICTURE, Client, serving, settings_for

pytestmark = browser_marks(300)
SHOWN = 24  # of the history at once


@pytest.fixture(scope="module")
def driver(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    with chromium(tmp_path_factory.mktemp("downloads")) as driver:
        yield driver


Opener = Callable[[str], Page]


@pytest.fixture
def open_page(driver: Any, tmp_path: Path) -> Opener:
    def opened(address: str) -> Page:
        page = Page(driver, address, tmp_path)
        driver.get("about:blank")
        driver.get(address)
        page.run("localStorage.clear(); sessionStorage.clear()")
        return page

    return opened


@contextmanager
def server_of(folder: Path, port: int = 0, **more: Any) -> Iterator[Client]:
    with serving(settings_for(folder / "service", **more), page=PAGE, port=port) as client:
        yield client


def choose(page: Page, picture: Path, name: str) -> None:
    """Have a picture and a name in the form."""
    picture.write_bytes(PICTURE)
    page.find("#file-front").send_keys(str(picture))
    page.until(lambda: "transparent" in page.text("#message-front"), 30)
    page.set_options(name=name)


def states(page: Page) -> dict[str, str]:
    """The states in the history, by name."""
    script = (
        "return [...document.querySelectorAll('#history-list li')]"
        ".map((e) => [e.querySelector('.name').textContent, e.querySelector('[class^=state-]').textContent])"
    )
    return dict(page.run(script))


def test_jobs_that_nobody_watches_go_on_in_the_history(open_page: Opener, tmp_path: Path) -> None:
    """Only the job on show was followed: an earlier one stayed 'working' in the list, and another tab's never came."""
    with server_of(tmp_path) as client:
        page = open_page(client.base)
        page.open()
        choose(page, tmp_path / "p.png", "slow-first")
        page.click("#make")
        page.until(lambda: states(page).get("slow-first") == "working", 60)
        page.set_options(name="slow-second")
        page.click("#make")
        page.until(lambda: states(page).get("slow-second") == "waiting", 60)
        jobs = {job["name"]: job["links"]["cancel"] for job in client("GET", "/v1/jobs").json()["jobs"]}
        client("POST", jobs["slow-first"])
        page.until(lambda: states(page)["slow-first"] == "cancelled", 60)
        client.make("quick-elsewhere")
        page.run("document.dispatchEvent(new Event('visibilitychange'))")
        page.until(lambda: "quick-elsewhere" in states(page), 60)
        client("POST", jobs["slow-second"])
        page.until(lambda: states(page)["quick-elsewhere"] == "done", 60)
        page.until(lambda: page.status().startswith("Cancelled"), 60)
        # The viewer cannot show what a stand-in makes.
        assert [words for words in page.errors() if "/vendor/" not in words] == []


def test_a_server_that_goes_away_in_the_middle_of_a_job_and_comes_back(open_page: Opener, tmp_path: Path) -> None:
    """The page says that the connection is lost and goes on by itself; what failed meanwhile does not stay on show."""
    with server_of(tmp_path) as client:
        port = int(client.base.rsplit(":", 1)[1])
        page = open_page(client.base)
        page.open()
        choose(page, tmp_path / "p.png", "slow")
        page.click("#make")
        page.until(lambda: page.status().startswith("Working"), 30)
        assert page.find("#stages-box").get_attribute("open"), "the stages of a job at work are seen"
    page.until(lambda: "lost" in page.status(), 30)
    page.click("#cancel")
    page.until(lambda: "does not answer" in page.text("#job-error"), 30)
    with server_of(tmp_path, port) as client:
        page.until(lambda: page.status().startswith("Working"), 60)
        assert not page.find("#job-error").is_displayed()
        page.until(lambda: not page.find("#banner").is_displayed(), 30)
        page.click("#cancel")
        page.until(lambda: page.status().startswith("Cancelled"), 30)


def test_a_server_whose_worker_cannot_start_says_why(open_page: Opener, tmp_path: Path) -> None:
    """The page said 'starting' for ever."""
    with server_of(tmp_path, devices=("broken",)) as client:
        page = open_page(client.base)
        page.driver.get(client.base)
        page.until(lambda: "this device is broken" in page.text("#banner"), 60)
        assert "starting" not in page.text("#server")


def test_nothing_is_sent_twice(open_page: Opener, tmp_path: Path) -> None:
    """Another language in the middle of sending made the button work again."""
    from selenium.webdriver.common.keys import Keys

    with server_of(tmp_path) as client:
        page = open_page(client.base)
        page.open()
        choose(page, tmp_path / "p.png", "quick")
        page.run(
            """const real = window.fetch;
            window.fetch = (path, options) => path === '/v1/jobs' && options.method === 'POST'
                ? new Promise((go) => { (window.held ??= []).push(() => go(real(path, options))); })
                : real(path, options);"""
        )
        page.click("#make")
        page.run(
            "const l = document.querySelector('#language'); l.value = 'ko'; l.dispatchEvent(new Event('change'));"
            "l.value = 'en'; l.dispatchEvent(new Event('change'))"
        )
        assert page.text("#make") == "Sending…"
        page.click("#make")
        page.find("#option-name").send_keys(Keys.CONTROL, Keys.ENTER)
        page.run("window.held.forEach((go) => go())")
        page.until(lambda: page.status().startswith("Done"), 30)
        assert len(client("GET", "/v1/jobs").json()["jobs"]) == 1
        assert page.text("#make") == "Make 3D model"


def test_more_of_the_history_after_a_deletion(open_page: Opener, tmp_path: Path) -> None:
    """The list went on after the last job that was shown; when that was deleted, the older ones were gone from view."""
    with server_of(tmp_path) as client:
        for number in range(SHOWN + 2):
            client.wait(client.make(f"n{number}").json()["id"])
        page = open_page(client.base)
        page.open()
        page.until(lambda: len(states(page)) == SHOWN, 30)
        page.run("window.confirm = () => true")
        page.click("#history-list li:last-child .danger")
        page.until(lambda: len(states(page)) == SHOWN - 1, 30)
        page.click("#history-more")
        page.until(lambda: len(states(page)) == SHOWN + 1, 30)
        assert list(states(page))[-1] == "n0"
        assert not page.find("#history-more").is_displayed()


def test_a_download_that_fails_says_so_with_a_token_too(open_page: Opener, driver: Any, tmp_path: Path) -> None:
    with serving(settings_for(tmp_path / "service"), Access(token="secret"), page=PAGE) as client:
        job = client.wait(client.make().json()["id"])
        page = open_page(f"{client.base}/health")
        page.run("sessionStorage.setItem('hy3dgen-token', 'secret')")
        driver.get(f"{client.base}/#job={job['id']}")
        page.until(lambda: page.status().startswith("Done"), 30)
        client("DELETE", job["links"]["self"])
        page.click(".downloads a")
        page.until(lambda: "no such job" in page.text("#job-error"), 30)


def test_words_about_a_job_that_is_gone_stay(open_page: Opener, tmp_path: Path) -> None:
    """The next look at the server took them away."""
    with server_of(tmp_path) as client:
        page = open_page(client.base)
        page.driver.get("about:blank")
        page.driver.get(f"{client.base}/#job={'0' * 32}")
        page.until(lambda: "no such job" in page.text("#banner"), 30)
        asked = "return performance.getEntriesByType('resource').filter((e) => e.name.endsWith('/v1/server')).length"
        before = page.run(asked)
        page.run("document.dispatchEvent(new Event('visibilitychange'))")
        page.until(lambda: page.run(asked) > before, 30)
        assert "no such job" in page.text("#banner")


@contextmanager
def a_phone(page: Page) -> Iterator[None]:
    size = {"width": 390, "height": 844, "deviceScaleFactor": 1, "mobile": True}
    page.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    try:
        yield
    finally:
        page.driver.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def test_an_opened_job_is_in_view_on_a_phone(open_page: Opener, tmp_path: Path) -> None:
    """The lower end of a long result was brought into view, and the model, which loads when it is seen, never came."""
    with server_of(tmp_path) as client:
        page = open_page(client.base)
        with a_phone(page):
            page.open()
            choose(page, tmp_path / "p.png", "quick")
            page.run("document.querySelector('#make').click()")
            page.until(lambda: page.status().startswith("Done"), 60)
            top = "return document.querySelector('#job-title').getBoundingClientRect().top"
            assert 0 <= page.run(top) < 422
            page.run("scrollTo(0, document.body.scrollHeight); document.querySelector('#history-list button').click()")
            page.until(lambda: 0 <= page.run(top) < 422, 10)


def test_odd_names_are_only_words_and_fit_a_phone(open_page: Opener, tmp_path: Path) -> None:
    with server_of(tmp_path) as client:
        page = open_page(client.base)
        with a_phone(page):
            page.open()
            name = "<img src=x onerror='document.title=1'>" + "long" * 45 + ".png"
            choose(page, tmp_path / name.replace("/", "_"), "<b>x</b>" + "y" * 60)
            page.click("#make")
            page.until(lambda: page.status().startswith("Done"), 30)
            assert page.run("return document.querySelectorAll('#form img[src=x], #job b, #history b').length") == 0
            assert page.driver.title == "Hunyuan3D low-VRAM"
            assert page.run("return document.documentElement.scrollWidth") <= 390
            for value in ("views", "mesh", "text"):
                page.click(f"[name=kind][value={value}]")
                assert page.run("return document.documentElement.scrollWidth") <= 390, value


def test_a_page_that_nobody_sees_holds_no_connection(open_page: Opener, tmp_path: Path) -> None:
    """A browser has six for all tabs of a server: with as many jobs watched in other tabs, nothing loaded any more."""
    with server_of(tmp_path) as client:
        page = open_page(client.base)
        page.open()
        choose(page, tmp_path / "p.png", "slow")
        page.click("#make")
        page.until(lambda: page.status().startswith("Working"), 60)
        [job] = client("GET", "/v1/jobs").json()["jobs"]
        bus = client.service.bus  # type: ignore[attr-defined]
        assert bus.has_listeners(job["id"])
        turn = (
            "Object.defineProperty(document, 'hidden', {value: arguments[0], configurable: true});"
            "document.dispatchEvent(new Event('visibilitychange'))"
        )
        page.run(turn, True)
        page.until(lambda: not bus.has_listeners(job["id"]), 60)
        assert page.status().startswith("Working"), "the connection is not lost but let go"
        client("POST", job["links"]["cancel"])
        client.wait(job["id"])
        page.run(turn, False)
        page.until(lambda: page.status().startswith("Cancelled"), 60)


def test_a_file_over_the_limit_is_not_even_sent(open_page: Opener, tmp_path: Path) -> None:
    with server_of(tmp_path, limits=Limits(body_bytes=1 << 20)) as client:
        page = open_page(client.base)
        page.open()
        huge = tmp_path / "huge.png"
        huge.write_bytes(PICTURE + bytes(2 << 20))
        page.find("#file-front").send_keys(str(huge))
        assert page.text("#message-front") == "This file has 2.1 MB; the server takes 1 MB at most."
        page.click("#make")
        assert page.text("#form-error") == "One of the files cannot be used; choose another."
        assert page.run("return performance.getEntriesByName(location.origin + '/v1/cutout').length") == 0
        page.click("[name=kind][value=views]")  # each within the limit, and too much together
        half = tmp_path / "half.png"
        half.write_bytes(PICTURE + bytes(700_000))
        for role in ("front", "back"):
            page.find(f"#file-{role}").send_keys(str(half))
        page.click("#make")
        page.until(lambda: "1 MiB at most" in page.text("#form-error"), 60)


def test_the_server_s_blame_leads_to_the_field(open_page: Opener, tmp_path: Path) -> None:
    with server_of(tmp_path) as client:
        page = open_page(client.base)
        page.open()
        choose(page, tmp_path / "p.png", "quick")
        page.run("const f = document.querySelector('#option-steps'); f.type = 'text'; f.value = '12x'")
        page.click("#make")
        page.until(lambda: "Steps: " in page.text("#form-error"), 30)
        page.until(lambda: page.driver.switch_to.active_element.get_attribute("id") == "option-steps", 10)
        assert page.find("#option-steps").get_attribute("aria-invalid") == "true"
