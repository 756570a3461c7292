"""Words to a picture: what is asked of diffusers, and what is said when the weights are not here."""

from __future__ import annotations

import random
import threading
from typing import Any

import diffusers
import numpy as np
import pytest
import torch
from PIL import Image

from hy3dgen import text2image
from hy3dgen.errors import Cancelled, UsageError, WeightsNotFoundError
from hy3dgen.runtime.stages import StageRecord, recording, stage


class Drawer:
    """Stands in for diffusers' pipeline: remembers how it was loaded and called, draws noise from the generator."""

    def __init__(self) -> None:
        self.loaded: dict[str, Any] = {}
        self.called: dict[str, Any] = {}

    def from_pretrained(self, path: str, **options: Any) -> Drawer:
        self.loaded = {"path": path, **options}
        return self

    def to(self, device: torch.device) -> Drawer:
        return self

    def __call__(self, **options: Any) -> Any:
        self.called = options
        for index in range(options["num_inference_steps"]):
            options["callback_on_step_end"](self, index, None, {})
        noise = torch.rand((8, 8, 3), generator=options["generator"]).numpy()
        return ([Image.fromarray((noise * 255).astype(np.uint8))],)


@pytest.fixture
def drawer(monkeypatch: pytest.MonkeyPatch) -> Drawer:
    stand_in = Drawer()
    monkeypatch.setattr(diffusers, "AutoPipelineForText2Image", stand_in)
    return stand_in


def test_the_call_is_the_references(drawer: Drawer) -> None:
    pipeline = text2image.HunyuanDiTPipeline(device="cpu")
    pipeline("x" * 80)
    assert drawer.loaded["enable_pag"] is True
    assert drawer.loaded["pag_applied_layers"] == ["blocks.(16|17|18|19)"]
    assert drawer.loaded["dtype"] is torch.float32, "half precision only where a device is fast at it"
    called = drawer.called
    assert called["prompt"].startswith("x" * 60 + ",") and "x" * 61 not in called["prompt"]
    assert (called["num_inference_steps"], called["pag_scale"]) == (25, 1.3)
    assert (called["width"], called["height"]) == (1024, 1024)


def test_equal_seeds_draw_the_same_and_leave_the_process_alone(drawer: Drawer) -> None:
    pipeline = text2image.HunyuanDiTPipeline(device="cpu")
    before = (random.getstate(), torch.get_rng_state())
    first, again, other = (np.asarray(pipeline("a mug", seed=seed)) for seed in (3, 3, 4))
    assert (first == again).all() and (first != other).any()
    assert random.getstate() == before[0] and torch.equal(torch.get_rng_state(), before[1])


def test_steps_are_counted_and_a_cancel_stops_within_one(drawer: Drawer) -> None:
    pipeline = text2image.HunyuanDiTPipeline(device="cpu")
    with recording() as run, stage("denoise"):
        pipeline("a mug")
    assert (run.stages[0].steps_done, run.stages[0].steps_total) == (25, 25)
    event = threading.Event()
    seen: list[int] = []

    def listener(record: StageRecord) -> None:
        seen.append(record.steps_done)
        if record.steps_done == 2:
            event.set()

    with pytest.raises(Cancelled), recording(cancel_event=event, listener=listener), stage("denoise"):
        pipeline("a mug")
    assert max(seen) == 2


def test_an_empty_prompt_is_refused(drawer: Drawer) -> None:
    with pytest.raises(UsageError, match="empty"):
        text2image.HunyuanDiTPipeline(device="cpu")("  ")


def test_missing_weights_say_where_to_get_them(tmp_path: Any) -> None:
    with pytest.raises(WeightsNotFoundError, match="hf download"):
        text2image.HunyuanDiTPipeline(device="cpu", offline=True)
    (tmp_path / "model_index.json").write_text("{", encoding="utf-8")
    with pytest.raises(WeightsNotFoundError, match="not complete"):
        text2image.HunyuanDiTPipeline(str(tmp_path), device="cpu", offline=True)


def test_seed_everything_does_what_its_name_says() -> None:
    text2image.seed_everything(5)
    first = (random.random(), np.random.rand(), torch.rand(()).item())
    text2image.seed_everything(5)
    assert first == (random.random(), np.random.rand(), torch.rand(()).item())
