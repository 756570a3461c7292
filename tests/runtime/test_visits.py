"""Where a stage's time goes: one row a visit, on the host's clock unless somebody wants to wait for the device."""

from __future__ import annotations

import logging

import pytest
import torch
from torch import nn

from hy3dgen.runtime import graphs, visits
from hy3dgen.runtime.device import CPU
from hy3dgen.runtime.graphs import Replayed
from hy3dgen.runtime.stages import recording, stage
from hy3dgen.runtime.visits import VISITS, Visit
from hy3dgen.shapegen.placement import Placement
from hy3dgen.texgen.residency import OnDemand

DEVICE = torch.device(CPU)


def test_marks_add_up_in_the_record_of_the_open_stage() -> None:
    with recording() as run, stage("views"):
        for name in ("a", "b"):
            visit = Visit(name, DEVICE)
            for what in ("arrive_s", "run_s", "run_s"):
                visit.mark(what)
    [record] = run.stages
    rows = record.figures[VISITS]
    assert [row["network"] for row in rows] == ["a", "b"]
    assert all(set(row) == {"network", "arrive_s", "run_s"} and row["run_s"] >= 0 for row in rows)


def test_the_device_is_waited_for_only_by_those_who_debug(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    waited: list[torch.device] = []
    monkeypatch.setattr(visits, "synchronize", waited.append)
    Visit("a", DEVICE).mark("run_s")
    assert waited == []
    with caplog.at_level(logging.DEBUG, "hy3dgen"):
        Visit("a", DEVICE).mark("run_s")
    assert waited == [DEVICE]


def test_networks_of_both_halves_are_timed() -> None:
    network = nn.Linear(2, 2)
    with recording() as run:
        with stage("denoise"), Placement({"model": network}, from_file=False).using("model"):
            pass
        with stage("views"), OnDemand(DEVICE, torch.float32).visit("paint_unet", network):
            pass
    for record, name in zip(run.stages, ("model", "paint_unet"), strict=True):
        [row] = record.figures[VISITS]
        assert list(row) == ["network", "arrive_s", "run_s", "leave_s"] and row["network"] == name


def test_first_calls_and_the_recording_of_a_step_are_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Replayed, "_record", lambda self, inputs: None)
    with recording() as run, stage("denoise"):
        replayed = Replayed(lambda x: x + 1, visit=Visit("steps", DEVICE))
        for _ in range(4):
            assert replayed(torch.ones(1)) == 2
        replayed.close()
    [row] = run.stages[0].figures[VISITS]
    assert list(row) == ["network", "between_s", "call_1_s", "call_2_s", "record_s", "replays_s", "close_s"]


def test_the_wait_for_the_last_replays_is_not_taken_for_the_closing(monkeypatch: pytest.MonkeyPatch) -> None:
    """A denoising loop's close_s of 0.26 s, four steps of it, was what the device had still to compute."""
    done: list[str] = []

    class Graph:
        def replay(self) -> None:
            done.append("replay")

        def reset(self) -> None:
            done.append("reset")

    def record(self: Replayed, inputs: tuple[torch.Tensor, ...]) -> None:
        self._graph, self._inputs, self._output = Graph(), inputs, inputs[0]

    monkeypatch.setattr(Replayed, "_record", record)
    monkeypatch.setattr(graphs, "synchronize", lambda device: done.append("wait"))
    monkeypatch.setattr(Visit, "mark", lambda self, what: done.append(what))
    with recording(), stage("denoise"):
        replayed = Replayed(lambda x: x + 1, visit=Visit("steps", DEVICE))
        for _ in range(3):
            replayed(torch.ones(1))
        replayed.close()
    assert done[-5:] == ["replay", "wait", "replays_s", "reset", "close_s"]
