"""A real Chromium on the page, and a real server with the embedded model under it."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")
WAIT_S = 240
# The smallest job that passes every stage.
SMALL = {"steps": "4", "octree_resolution": "32", "faces": "800", "texture_size": "128", "seed": "7"}


def why_no_browser() -> str | None:
    """What is missing for these tests; None when they can run."""
    if importlib.util.find_spec("selenium") is None:
        return "selenium is not installed: python -m pip install selenium"
    if browser_path() is None or shutil.which("chromedriver") is None:
        return "no chromium with chromedriver: on Debian, apt-get install chromium chromium-driver"
    return None


def browser_path() -> str | None:
    return next((found for name in BROWSERS if (found := shutil.which(name))), None)


def browser_marks(timeout_s: int) -> list[pytest.MarkDecorator]:
    """The ``pytestmark`` of a module that needs a browser."""
    missing = why_no_browser()
    return [
        pytest.mark.slow,
        pytest.mark.extra,
        pytest.mark.timeout(timeout_s),
        pytest.mark.skipif(missing is not None, reason=str(missing)),
    ]


@contextmanager
def program(script: str, folder: Path, *arguments: str) -> Iterator[str]:
    """A server in a process of its own, with a folder of its own; gives its address."""
    command = [sys.executable, str(ROOT / script), "--port", "0", "--device", "cpu", "--cache-path", str(folder)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(
        [*command, *arguments], stdout=subprocess.PIPE, text=True, encoding="utf-8", cwd=folder, env=environment
    )
    try:
        assert process.stdout is not None
        lines = iter(process.stdout.readline, "")
        yield next(line.strip() for line in lines if re.match(r"https?://", line))
    finally:
        process.terminate()
        process.communicate(timeout=60)


@contextmanager
def chromium(downloads: Path) -> Iterator[Any]:
    """A headless Chromium that saves to ``downloads``; it draws WebGL in software."""
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    options.binary_location = browser_path() or ""
    # Its watchdog takes a busy machine for a hanging one and ends the process that draws.
    switches = (
        "--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--use-angle=swiftshader",
        "--enable-unsafe-swiftshader", "--window-size=1400,1200", "--lang=en-US", "--disable-gpu-watchdog",
    )  # fmt: skip
    for switch in switches:
        options.add_argument(switch)
    several = "profile.default_content_setting_values.automatic_downloads"
    options.add_experimental_option("prefs", {"download.default_directory": str(downloads), several: 1})
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options, Service(shutil.which("chromedriver")))
    driver.set_script_timeout(60)
    try:
        yield driver
    finally:
        driver.quit()


class Page:
    """The page as a person uses it."""

    def __init__(self, driver: Any, address: str, downloads: Path) -> None:
        self.driver, self.address, self.downloads = driver, address, downloads

    def open(self) -> None:
        self.driver.get("about:blank")
        self.driver.get(self.address)
        self.until(lambda: "model" in self.text("#server") or "모델" in self.text("#server"))

    def new_tab(self) -> None:
        """A tab that has shown nothing yet, instead of this one: what one test drew is no burden on the next."""
        old = self.driver.current_window_handle
        self.driver.switch_to.new_window("tab")
        new = self.driver.current_window_handle
        self.driver.switch_to.window(old)
        self.driver.close()
        self.driver.switch_to.window(new)

    def find(self, selector: str) -> Any:
        return self.driver.find_element("css selector", selector)

    def text(self, selector: str) -> str:
        return self.find(selector).text

    def run(self, script: str, *arguments: Any) -> Any:
        return self.driver.execute_script(script, *arguments)

    def click(self, selector: str) -> None:
        """Click whatever covers it visually: radio buttons lie under their labels."""
        self.run("arguments[0].scrollIntoView({block: 'center'}); arguments[0].click()", self.find(selector))

    def until(self, condition: Callable[[], Any], timeout_s: float = WAIT_S) -> Any:
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            if found := condition():
                return found
            time.sleep(0.1)
        raise AssertionError(f"it did not happen in time; the page says: {self.text('#job')}")

    def set_options(self, **values: str) -> None:
        self.run("document.querySelector('#options').open = true")
        for name, value in values.items():
            field = self.find(f"#options [name={name}]")
            field.clear()
            field.send_keys(value)

    def status(self) -> str:
        return self.text("#job-status")

    def shown(self) -> str | None:
        return self.find("#viewer").get_attribute("data-shown")

    def errors(self) -> list[str]:
        """Errors of the page's own code and policy; answers with an error status are the server's to give."""
        return [
            entry["message"]
            for entry in self.driver.get_log("browser")
            if entry["level"] == "SEVERE" and "the server responded with a status of" not in entry["message"]
        ]

    def foreign_requests(self) -> list[str]:
        """Addresses outside the server that the page asked for."""
        entries = " ".join(entry["message"] for entry in self.driver.get_log("performance"))
        asked = re.findall(r'"Network\.requestWillBeSent".*?"request":\{.*?"url":"([^"]+)"', entries)
        return [url for url in asked if not url.startswith((self.address, "blob:", "data:", "about:", "chrome"))]


def make_gpu_stand_in(settings: Any) -> Any:
    """A stand-in that says it holds device memory: 1900 of 2048 MiB, 1950 at most. Importable by the worker process."""
    from tests.service.stand_ins import make_stand_in

    runner = make_stand_in(settings)
    run = runner.run
    figures = {"device": "cuda", "host_mb": 10.0, "ceiling_mb": 2048.0, "used_mb": 1900.0, "peak_mb": 1950.0}

    def run_with_memory(order: Any, tell: Callable[[str, Any], None], cancel_event: Any) -> Any:
        def told(kind: str, content: Any) -> None:
            tell(kind, {**content, "memory": figures} if kind == "stage" else content)

        return run(order, told, cancel_event)

    runner.run = run_with_memory
    return runner
