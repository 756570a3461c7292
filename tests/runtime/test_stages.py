"""Stages are measured, observable and cancellable, and need no recording."""

from __future__ import annotations

import threading

import pytest
import torch

from hy3dgen.errors import Cancelled, NumericalError, UsageError
from hy3dgen.runtime import stages
from hy3dgen.runtime.stages import cancelling, current, ensure_finite, recording, stage, steps


def test_stages_work_without_a_recording():
    with stage("decode") as record:
        assert list(steps([1, 2, 3])) == [1, 2, 3]
    assert record.steps_done == record.steps_total == 3
    assert record.seconds > 0


def test_recording_keeps_order_and_reports_progress():
    seen = []
    with recording(listener=lambda r: seen.append((r.name, r.steps_done, r.unit))) as run:
        with stage("denoise"):
            for _ in steps(range(2), unit="move"):
                pass
        with stage("decode"), stage("extract") as inner:
            inner.figures["faces"] = 12
    assert [record.name for record in run.stages] == ["denoise", "decode", "extract"]
    assert run.stages[2].figures["faces"] == 12
    assert ("denoise", 2, "move") in seen


def test_current_is_the_innermost_stage():
    with stage("bake") as outer:
        with stage("fill") as inner:
            assert current() is inner
        assert current() is outer
    assert current() is not outer


def test_warnings_are_kept_once_and_the_last_decision_counts():
    with stage("views") as record:
        record.warn("black")
        record.warn("black")
        record.decide("xformers", True, "asked for")
        record.decide("xformers", False, "not installed")
    assert record.warnings == ["black"]
    assert [(d.technique, d.applied, d.why) for d in record.decisions] == [("xformers", False, "not installed")]


def test_cancelling_stops_within_one_step():
    event, done = threading.Event(), []
    with pytest.raises(Cancelled), recording(cancel_event=event) as run, stage("denoise"):
        for step in steps(range(10)):
            done.append(step)
            if step == 3:
                event.set()
    assert done == [0, 1, 2, 3]
    assert run.stages[0].seconds > 0


def test_cancelled_run_starts_no_further_stage():
    event = threading.Event()
    event.set()
    with cancelling(event), pytest.raises(Cancelled), stage("decode"):
        pytest.fail("the stage ran")
    with stage("decode"):  # the event is out of force again
        pass


def test_inner_none_keeps_the_outer_event():
    event = threading.Event()
    event.set()
    with cancelling(event), cancelling(None), pytest.raises(Cancelled):
        stages.check_cancelled()


def test_a_failed_stage_is_closed():
    with recording() as run:
        with pytest.raises(ZeroDivisionError), stage("clean"):
            raise ZeroDivisionError
        assert current() not in run.stages
    assert run.stages[0].seconds > 0


def test_unknown_stage_is_refused():
    with pytest.raises(UsageError, match="cooking"), stage("cooking"):
        pass


def test_ensure_finite_counts_what_is_wrong():
    ensure_finite(torch.zeros(3), "latents")
    with pytest.raises(NumericalError, match="latents: 2 of 3 values"):
        ensure_finite(torch.tensor([1.0, float("nan"), float("inf")]), "latents")
