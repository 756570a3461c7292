"""Names of results: never over something else, numbered, mirrored, and refused early when they cannot be."""

from __future__ import annotations

import os
from pathlib import Path, PurePath

import pytest

from hy3dgen.errors import OutputError, UsageError
from hy3dgen.jobs.output import Outputs, safe_stem
from hy3dgen.jobs.task import Task


def task(name: str = "mug", folder: str = ".") -> Task:
    return Task(name=name, pictures={"front": Path(f"{name}.png")}, folder=PurePath(folder))


def test_default_names_lie_in_the_output_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a folder of its own: after README's first command the checkout has an output/mug.glb."""
    monkeypatch.chdir(tmp_path)
    target = Outputs().target(task())
    assert target.mesh == Path("output/mug.glb")
    assert (target.preview, target.report) == (Path("output/mug.png"), Path("output/mug.json"))


def test_an_existing_file_of_any_kind_gives_the_whole_set_a_number(tmp_path: Path) -> None:
    (tmp_path / "mug.json").write_text("{}")
    target = Outputs(output=tmp_path).target(task())
    assert [p.name for p in target.paths()] == ["mug-2.glb", "mug-2.png", "mug-2.json"]


def test_overwriting_keeps_the_name_but_never_within_one_run(tmp_path: Path) -> None:
    (tmp_path / "mug.glb").write_bytes(b"old")
    outputs = Outputs(output=tmp_path, many=True, overwrite=True)
    assert outputs.target(task()).mesh.name == "mug.glb"
    assert outputs.target(task()).mesh.name == "mug-2.glb"


def test_sub_folders_are_mirrored(tmp_path: Path) -> None:
    assert Outputs(output=tmp_path, many=True).target(task(folder="a/b")).mesh == tmp_path / "a/b/mug.glb"


@pytest.mark.parametrize("ending", [".glb", ".obj", ".ply", ".stl"])
def test_the_ending_of_the_output_chooses_the_format(tmp_path: Path, ending: str) -> None:
    assert Outputs(output=tmp_path / f"x{ending}").target(task()).mesh == tmp_path / f"x{ending}"


def test_an_obj_also_claims_its_material_and_texture(tmp_path: Path) -> None:
    (tmp_path / "my_x.mtl").write_text("theirs")
    target = Outputs(output=tmp_path / "my x.obj").target(task())
    assert target.mesh.name == "my x-2.obj"


@pytest.mark.parametrize("wrong", ["x.fbx", "x.png", "x.gltf"])
def test_an_unknown_ending_lists_the_known_ones(wrong: str) -> None:
    with pytest.raises(UsageError, match=r"\.glb, \.obj, \.ply, \.stl"):
        Outputs(output=Path(wrong))


def test_a_folder_with_a_dot_is_a_folder() -> None:
    assert Outputs(output=Path("out/v1.2")).target(task()).mesh == Path("out/v1.2/mug.glb")


def test_one_file_cannot_hold_many_results() -> None:
    with pytest.raises(UsageError, match="give a folder"):
        Outputs(output=Path("x.glb"), many=True)
    with pytest.raises(UsageError, match="several results"):
        Outputs(many=True, preview=Path("p.png"))


def test_names_that_file_systems_refuse_are_made_safe(tmp_path: Path) -> None:
    assert Outputs(output=tmp_path).target(task(name='a<b>:"c')).mesh.name == "a_b___c.glb"
    assert len(Outputs(output=tmp_path).target(task(name="x" * 400)).mesh.name) < 140


def test_a_file_in_the_way_of_the_folder_is_found_before_the_work(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("a file")
    with pytest.raises(OutputError, match="cannot make the folder"):
        Outputs(output=tmp_path / "out" / "deeper").check()


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write everywhere")
def test_a_read_only_folder_is_found_before_the_work(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(OutputError, match="may not write"):
        Outputs(output=tmp_path).check()


def test_a_folder_where_a_file_should_be_is_named(tmp_path: Path) -> None:
    (tmp_path / "r.json").mkdir()
    with pytest.raises(OutputError, match=r"r\.json' is a folder"):
        Outputs(output=tmp_path, report=tmp_path / "r.json").check()


def test_an_input_is_never_written_over(tmp_path: Path) -> None:
    """A picture beside the results has the name of the default preview."""
    (tmp_path / "mug.png").write_bytes(b"the only copy")
    outputs = Outputs(output=tmp_path, overwrite=True)
    outputs.protect([tmp_path / "mug.png"])
    assert outputs.target(task()).preview == tmp_path / "mug-2.png"


def test_an_input_of_another_task_or_behind_a_link_is_an_input_too(tmp_path: Path) -> None:
    (tmp_path / "real.png").write_bytes(b"the only copy")
    (tmp_path / "mug.png").symlink_to("real.png")
    outputs = Outputs(output=tmp_path, many=True, overwrite=True)
    outputs.protect([tmp_path / "real.png"])
    assert outputs.target(task()).preview == tmp_path / "mug-2.png"
    assert outputs.free_path(PurePath("mug.png")) == tmp_path / "mug-3.png"


@pytest.mark.parametrize("option", ["output", "preview", "report"])
def test_an_input_named_as_a_file_to_write_is_refused(tmp_path: Path, option: str) -> None:
    given = tmp_path / ("mug.glb" if option == "output" else "mug.png")
    given.write_bytes(b"the only copy")
    outputs = Outputs(overwrite=True, **{option: given})  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="is an input of this run"):
        outputs.protect([given])


def test_two_files_of_a_result_cannot_have_one_name(tmp_path: Path) -> None:
    for outputs in (
        Outputs(output=tmp_path / "a.glb", report=tmp_path / "a.glb"),
        Outputs(output=tmp_path / "a.glb", report=tmp_path / "a.png"),
        Outputs(output=tmp_path, preview=tmp_path / "p.png", report=tmp_path / "p.png"),
    ):
        with pytest.raises(UsageError, match="two files of the result"):
            outputs.target(task())


def test_names_that_some_disks_hold_for_equal_get_a_number(tmp_path: Path) -> None:
    """On Windows and macOS 'Mug' and 'mug' are one file, and so are an accent in one or in two characters."""
    outputs = Outputs(tmp_path, many=True, overwrite=True)
    names = [outputs.target(task(name)).mesh.name for name in ("Mug", "mug", "caf\u00e9", "cafe\u0301")]
    assert names == ["Mug.glb", "mug-2.glb", "caf\u00e9.glb", "cafe\u0301-2.glb"]


def test_names_that_windows_keeps_for_devices_and_names_that_are_too_long(tmp_path: Path) -> None:
    assert safe_stem("con") == "_con" and safe_stem("LPT1.old") == "_LPT1.old" and safe_stem("console") == "console"
    assert len(safe_stem("\uac00" * 200).encode()) <= 200
