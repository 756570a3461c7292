"""The nine techniques in the report of a run."""

from __future__ import annotations

from typing import Any

from hy3dgen.jobs.options import JobOptions
from hy3dgen.jobs.techniques import decide
from hy3dgen.runtime.stages import Decision, StageRecord

ON_CPU = {"device": "cpu", "dtype": "float32", "attention": "sdpa"}
ON_GPU = {"device": "cuda", "dtype": "float16", "attention": "xformers"}


def applied(compute: dict[str, str], stages: list[StageRecord], **options: Any) -> dict[str, tuple[bool, str]]:
    found = decide(JobOptions(**options), compute, stages)
    assert [d.technique.split()[0] for d in found] == [str(n) for n in range(1, 10)]
    assert all(d.why for d in found)
    return {d.technique.split()[0]: (d.applied, d.why) for d in found}


def cutout(method: str, reduced: bool) -> StageRecord:
    return StageRecord("cutout", figures={"method_front": method, "reduced_front": reduced})


def test_a_run_on_the_cpu() -> None:
    found = applied(ON_CPU, [cutout("alpha", False)])
    assert {n for n, (done, _) in found.items() if done} == {"4", "8"}
    assert "cut out already" in found["2"][1] and "1024 px already" in found["3"][1]
    assert "CUDA devices only" in found["7"][1]


def test_a_run_on_a_gpu_with_everything() -> None:
    views = StageRecord(
        "views", decisions=[Decision("VAE slicing", True, "on"), Decision("VAE tiling", False, "lossy")]
    )
    stages = [cutout("u2net", True), views]
    found = applied(ON_GPU, stages, texture="paint", compile=True)
    assert {n for n, (done, _) in found.items() if done} == {"1", "2", "3", "4", "5", "7", "8", "9"}
    assert found["5"][1] == "VAE slicing"
    assert applied({**ON_GPU, "attention": "sliced"}, stages)["6"][0]


def test_what_was_kept_and_what_was_strict() -> None:
    assert "earlier run" in applied(ON_CPU, [])["2"][1]
    assert not applied(ON_GPU, [cutout("u2net", False)], rembg="gpu")["2"][0]
    assert "without a network" in applied(ON_CPU, [cutout("grabcut", False)])["2"][1]
