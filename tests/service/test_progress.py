"""Stages as clients see them."""

from __future__ import annotations

import itertools
from types import SimpleNamespace

import pytest

from hy3dgen.service import worker
from hy3dgen.service.estimates import Estimates
from hy3dgen.service.progress import Progress, expected_stages
from tests.service.stand_ins import stage


def message(run: int, name: str, **more: object) -> dict[str, object]:
    values = {**stage(run, name), **more, "run": run}
    del values["record"]
    return values


def test_stages_are_waiting_then_running_then_done_and_passed_over_ones_are_skipped() -> None:
    progress = Progress(["cutout", "denoise", "reduce", "export"])
    progress.update(message(1, "cutout"))
    assert progress.snapshot()["stage"] == "cutout"
    progress.update(message(1, "cutout", finished=True, seconds=1.5))
    progress.update(message(2, "denoise", steps=5, total=10))
    progress.update(message(2, "denoise", steps=6, total=10))
    progress.update(message(2, "denoise", finished=True, seconds=2.0))
    progress.update(message(3, "export"))
    found = progress.snapshot()
    assert [s["status"] for s in found["stages"]] == ["done", "done", "skipped", "running"]
    assert [s["seconds"] for s in found["stages"]][:2] == [1.5, 2.0]
    assert found["memory"] == {"device": "cpu", "ceiling_mb": None, "used_mb": None, "peak_mb": None, "host_mb": 10.0}


def test_the_fraction_only_grows() -> None:
    names = expected_stages(has_shape=True, from_words=False, texture="project", delight=True)
    progress = Progress(names)
    seen = []
    for run, name in enumerate(names):
        for step in range(3):
            progress.update(message(run, name, steps=step, total=3))
            seen.append(progress.snapshot()["fraction"])
        progress.update(message(run, name, finished=True, steps=3, total=3))
        seen.append(progress.snapshot()["fraction"])
    assert seen == sorted(seen)
    assert seen[-1] == 1.0


def test_a_stage_that_is_opened_twice_is_shown_as_one() -> None:
    progress = Progress(["load", "denoise"])
    progress.update(message(1, "load", finished=True, seconds=1.0, warnings=["a"]))
    progress.update(message(2, "load", finished=True, seconds=2.0, warnings=["a", "b"]))
    [load, _] = progress.snapshot()["stages"]
    assert (load["seconds"], load["warnings"]) == (3.0, ["a", "b"])


def test_a_stage_that_nobody_expected_appears_in_its_place() -> None:
    progress = Progress(["cutout", "export"])
    progress.update(message(1, "bake"))
    assert [s["name"] for s in progress.snapshot()["stages"]] == ["cutout", "bake", "export"]


def test_words_need_a_picture_first_and_a_given_mesh_needs_no_shape() -> None:
    words = expected_stages(has_shape=True, from_words=True, texture="none", delight=True)
    assert words[:3] == ["load", "denoise", "cutout"]
    assert "bake" not in words
    given = expected_stages(has_shape=False, from_words=False, texture="paint", delight=False)
    assert "decode" not in given
    assert "delight" not in given
    assert given[-1] == "export"


def test_estimates_come_from_the_nearest_kind_that_was_seen() -> None:
    estimates = Estimates()
    assert estimates.seconds("picture/nano/project") is None
    estimates.learn("picture/nano/project", 10, {"bake": 1.0})
    estimates.learn("picture/nano/none", 4, {})
    assert estimates.seconds("picture/nano/project") == 10
    assert estimates.seconds("picture/nano/paint") == 7, "the median of what is alike"
    assert estimates.seconds("mesh/nano/paint") is None
    assert estimates.stages("picture/nano/project") == {"bake": 1.0}


def test_steps_are_told_at_most_four_times_a_second_and_ends_always(monkeypatch: pytest.MonkeyPatch) -> None:
    now, sent = 0.0, []
    monkeypatch.setattr(worker, "time", SimpleNamespace(monotonic=lambda: now))
    voice = worker._Voice(SimpleNamespace(send=lambda message: sent.append((now, message[1]))))  # type: ignore[arg-type]
    for step in range(1000):
        now = step * 0.01
        voice("stage", stage(1, "denoise", steps=step, total=1000))
    voice("stage", stage(1, "denoise", finished=True, steps=1000, total=1000))
    voice("stage", stage(2, "decode"))
    times = [at for at, content in sent if content["name"] == "denoise" and not content["finished"]]
    assert min(later - earlier for earlier, later in itertools.pairwise(times)) >= 0.25
    assert 35 <= len(times) <= 40, "ten seconds"
    assert [(content["name"], content["finished"]) for _, content in sent[-2:]] == [
        ("denoise", True),
        ("decode", False),
    ]
