"""--help must be instant, so nothing on the way to the parser may pull in torch and its company."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
HEAVY = ("torch", "diffusers", "transformers", "trimesh", "cv2", "numba", "scipy", "skimage", "rembg", "onnxruntime")
LIGHT_MODULES = (
    "hy3dgen", "hy3dgen.errors", "hy3dgen.cli.options", "hy3dgen.cli.color", "hy3dgen.cli.multiview",
    "hy3dgen.cli.module", "hy3dgen.cli.console", "hy3dgen.cli.api_server", "hy3dgen.service.settings",
    "hy3dgen.service.service", "hy3dgen.service.checks",
    "hy3dgen.jobs.options", "hy3dgen.jobs.output", "hy3dgen.jobs.inputs",
    "hy3dgen.reports.run",
    "hy3dgen.reports.text", "hy3dgen.runtime.stages", "hy3dgen.runtime.device", "hy3dgen.weights.catalogue",
    "hy3dgen.weights.locate",
)  # fmt: skip


def run(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    return done.stdout.strip()


def test_nothing_before_the_parser_is_heavy() -> None:
    imports = "; ".join(f"import {name}" for name in LIGHT_MODULES)
    found = run(f"import sys; {imports}; print([m for m in {HEAVY!r} if m in sys.modules])")
    assert found == "[]"


@pytest.mark.parametrize("script", ["color.py", "multiview.py", "api_server.py"])
def test_help_is_under_a_second(script: str) -> None:
    best_s = float("inf")
    for _ in range(3):  # other work on the machine is not this script's
        started = time.perf_counter()
        done = subprocess.run([sys.executable, script, "--help"], capture_output=True, text=True, cwd=ROOT, check=False)
        best_s = min(best_s, time.perf_counter() - started)
        assert done.returncode == 0
        assert "--device" in done.stdout
    assert best_s < 1.0


def test_importing_the_package_has_no_side_effects_on_random_numbers_or_warnings() -> None:
    """Importing must neither seed the process nor set up logging handlers."""
    code = (
        "import logging, random; random.seed(5); before = random.getstate(); import hy3dgen; "
        "print(random.getstate() == before, logging.getLogger('hy3dgen').handlers, logging.root.handlers)"
    )
    assert run(code) == "True [] []"
