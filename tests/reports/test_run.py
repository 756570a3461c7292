"""The report: versioned, valid against its schema, split into what repeats and what does not."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest

from hy3dgen.errors import InputError
from hy3dgen.reports.run import (
    Circumstances,
    Facts,
    OutputFile,
    Source,
    WeightFile,
    as_json,
    build_report,
    plain,
    read_report,
)
from hy3dgen.reports.text import describe, summary
from hy3dgen.runtime.stages import STAGE_NAMES, Decision, StageRecord

ROOT = Path(__file__).resolve().parents[2]
SCHEMA = json.loads((ROOT / "docs" / "report.schema.json").read_text(encoding="utf-8"))
HASH = "0" * 64


def facts() -> Facts:
    options = {
        "model": "nano", "texture": "project", "steps": 20, "guidance": 4.0, "octree_resolution": 192,
        "decoder": "hierarchical", "faces": 40000, "texture_size": 1024, "seed": 3,
    }  # fmt: skip
    mesh = {"vertices": 10, "faces": 16, "watertight": True, "extent": [1.0, 2.0, 0.5], "texture_px": 1024}
    return Facts(
        version="0.1.0", model="nano", options=options,
        compute={"device": "cpu", "dtype": "float32", "attention": "sdpa"},
        inputs=[Source("front", HASH, "/somewhere/mug.png")], weights=[WeightFile("nano/model.safetensors", HASH, 5)],
        mesh={**mesh, "coverage": {"seen": 0.5, "blended": 0.2, "filled": 0.3}},
    )  # fmt: skip


def report() -> dict[str, Any]:
    record = StageRecord("decode", seconds=1.25, peak_allocated_bytes=3 << 20, steps_done=4, levers=["chunked"])
    record.warn("something odd")
    record.decide("attention slicing", False, "SDPA is leaner")
    record.figures.update(finished=True, points=np.int64(7))
    circumstances = Circumstances(
        techniques=[Decision("3 input size cap", True, "reduced")],
        command=["color.py", "--input", "mug.png"],
        machine={"device": "CPU, 2 cores", "system": "Linux", "python": "3.11", "torch": "2.13"},
    )
    return build_report(facts(), circumstances, [record], [OutputFile("mesh", "output/mug.glb", HASH, 12)])


def test_a_report_is_valid() -> None:
    jsonschema.validate(json.loads(as_json(report())), SCHEMA)


def test_the_schema_refuses_what_is_not_described() -> None:
    for change in ({"extra": 1}, {"seed": -1}, {"stages": [{"name": "decode"}]}):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate({**report(), **change}, SCHEMA)


def test_the_schema_knows_the_stage_names() -> None:
    assert SCHEMA["properties"]["stages"]["items"]["properties"]["name"]["enum"] == list(STAGE_NAMES)


def test_the_repeating_part_has_no_times_no_paths_and_no_machine() -> None:
    words = json.dumps(facts().as_dict())
    assert "somewhere" not in words and "second" not in words and "started" not in words
    assert facts().as_dict() == facts().as_dict()


def test_stage_figures_are_plain_and_complete() -> None:
    [stage] = report()["stages"]
    assert stage["figures"] == {"points": 7}
    assert (stage["peak_allocated_mb"], stage["steps"], stage["levers"]) == (3.0, 4, ["chunked"])
    assert stage["techniques"] == [{"technique": "attention slicing", "applied": False, "why": "SDPA is leaner"}]
    assert report()["warnings"] == ["something odd"]


def test_plain_turns_arrays_tuples_and_paths_into_json() -> None:
    assert plain({"a": (np.float32(0.5), Path("x")), 3: None}) == {"a": [0.5, "x"], "3": None}


def test_it_reads_back_what_was_written(tmp_path: Path) -> None:
    path = tmp_path / "r.json"
    path.write_text(as_json(report()), encoding="utf-8")
    assert read_report(path) == report()


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", '{"schema": "1", "options": {}}'])
def test_what_is_no_report_says_so(tmp_path: Path, content: str) -> None:
    path = tmp_path / "r.json"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(InputError, match="not a report"):
        read_report(path)


def _edited(place: str, value: object) -> dict[str, Any]:
    """The report with another value at a place such as 'inputs.0.role'; None takes the entry away."""
    whole = json.loads(as_json(report()))
    *way, last = place.split(".")
    part = whole
    for step in way:
        part = part[int(step) if step.isdigit() else step]
    if value is None:
        del part[last]
    else:
        part[last] = value
    return whole


EDITS = (
    ("options", []), ("inputs", "mug.png"), ("inputs.0.path", 5), ("inputs.0.role", None), ("outputs", [1]),
    ("stages.0.seconds", None), ("stages.0.techniques", [{}]), ("seconds", "long"), ("seconds", True),
    ("mesh.faces", "lots"), ("mesh.coverage", {"seen": "half"}), ("techniques.0.applied", "yes"),
    ("command", "color.py"),
)  # fmt: skip


@pytest.mark.parametrize(("place", "value"), EDITS, ids=[f"{place}={value}" for place, value in EDITS])
def test_a_damaged_report_names_its_part(tmp_path: Path, place: str, value: object) -> None:
    """A report that was edited by hand ended with 'a fault of the program' and exit code 1."""
    path = tmp_path / "r.json"
    path.write_text(json.dumps(_edited(place, value)), encoding="utf-8")
    with pytest.raises(InputError, match=f"is damaged or was edited: its part '{place.split('.', maxsplit=1)[0]}'"):
        read_report(path)


def test_a_newer_schema_and_a_missing_file_say_so(tmp_path: Path) -> None:
    path = tmp_path / "r.json"
    path.write_text(json.dumps({**report(), "schema": 2}), encoding="utf-8")
    with pytest.raises(InputError, match="update the program"):
        read_report(path)
    with pytest.raises(InputError, match="cannot read the report"):
        read_report(tmp_path / "gone.json")


def test_words_for_people_hold_the_figures() -> None:
    words = describe(report())
    for part in (
        "model nano",
        "seed 3",
        "16 faces",
        "watertight",
        "decode",
        "1.25",
        "something odd",
        "output/mug.glb",
        "SDPA",
    ):
        assert part in words
    assert "seen 50%" in summary(report())


def test_the_command_can_be_typed_again() -> None:
    """A path with a space came out without quotes."""
    assert "command: color.py --input 'my mug.png'" in describe(
        {**report(), "command": ["color.py", "--input", "my mug.png"]}
    )
    assert "allow-lossy -" in describe({**report(), "options": {"allow_lossy": []}})


def test_the_part_inside_a_glb_can_be_described_too() -> None:
    assert "16 faces" in describe(facts().as_dict())
