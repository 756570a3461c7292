"""Every way in which the command line says no: exit code and sentence. In process, without a model."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from hy3dgen.cli import color, module, multiview
from hy3dgen.cli.exit_codes import EXIT_CODES, WORST_FIRST, exit_code, worst
from hy3dgen.errors import (
    Cancelled,
    DownloadError,
    LicenceError,
    MeshError,
    MissingExtraError,
    NoPlanError,
    NoSurfaceError,
    NumericalError,
    OutOfMemoryError,
    OutputError,
    UsageError,
    WeightsDamagedError,
)

Capture = pytest.CaptureFixture[str]


@pytest.fixture(autouse=True)
def in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("HY3DGEN_MODELS", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")


@pytest.fixture
def mug() -> str:
    pixels = np.zeros((64, 64, 4), np.uint8)
    pixels[16:48, 16:48] = (200, 40, 40, 255)
    Image.fromarray(pixels).save("mug.png")
    return "mug.png"


def says(capsys: Capture, code: int, words: str, *argv: str, main: object = color.main) -> str:
    """The program ends with ``code`` and one error that holds ``words``, without a traceback."""
    assert callable(main)
    assert main(list(argv)) == code
    err = capsys.readouterr().err
    errors = [line for line in err.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1, err
    assert words in err
    assert "Traceback" not in err
    return err


EMPTY_PATHS = ("--mesh", "--output", "--report", "--preview", "--keep")
"""An unset variable in a script used to mean the current folder: '.' was said to be no mesh, or was written into."""
USAGE = [
    ([], "there is nothing to work from; give a picture with --input"),
    (["--mesh", "m.glb"], "give a picture of the mesh's front"),
    (["--input", "a.png", "--prompt", "mug"], "not both"),
    (["--inptu", "a.png"], "unknown argument '--inptu'; did you mean '--input'?"),
    (["--input", "a.png", "--steps", "many"], "'many' is not a whole number"),
    (["--input", "a.png", "--guidance", "high"], "'high' is not a number"),
    (["--input", "a.png", "--steps", "0"], "--steps is 0; it must be a whole number from 1 to 1000"),
    (["--input", "a.png", "--octree-resolution", "5"], "--octree-resolution is 5"),
    (["--input", "a.png", "--faces", "-1"], "--faces is -1"),
    (["--input", "a.png", "--texture-size", "9000"], "--texture-size is 9000"),
    (["--input", "a.png", "--seed", "-1"], "--seed is -1"),
    (["--input", "a.png", "--count", "0"], "--count is 0"),
    (["--input", "a.png", "--texture", "gold"], "invalid choice: 'gold'"),
    (["--input", "a.png", "--rembg", "magic"], "invalid choice: 'magic'"),
    (["--input", "a.png", "--units", "inch"], "invalid choice: 'inch'"),
    (["--input", "a.png", "--output", "a.fbx"], ".glb, .obj, .ply, .stl"),
    (["--input", "a.png", "b.png", "--output", "a.glb"], "give a folder"),
    (["--input", "a.png", "b.png", "--report", "r.json"], "several results"),
    (["--input", "a.png", "--preview", "p.gif"], "--preview is 'p.gif'"),
    (["--input", "a.png", "--resume"], "--resume is for batches and --count"),
    (["--input", "a.png", "--replay", "r.json"], "leave out --input"),
    (["--input", "a.png", "b.png", "--mesh", "m.glb"], "one mesh with one picture"),
    (["--prompt", "  "], "--prompt is empty"),
    (["--input", "a.png", "--mesh", "a.glb", "--mesh", "b.glb"], "argument --mesh: is given twice"),
    *((["--input", "a.png", option, ""], f"argument {option}: the path is empty") for option in EMPTY_PATHS),
]


@pytest.mark.parametrize(("argv", "words"), USAGE, ids=[" ".join(argv) or "nothing" for argv, _ in USAGE])
def test_usage_is_exit_2(capsys: Capture, argv: list[str], words: str) -> None:
    says(capsys, 2, words, *argv)


def test_unknown_models_devices_and_attention_are_exit_2(capsys: Capture, mug: str) -> None:
    says(capsys, 2, "unknown device 'gpu'", "--input", mug, "--device", "gpu")
    says(capsys, 2, "invalid choice: 'fast'", "--input", mug, "--attention", "fast")
    if not torch.cuda.is_available():
        says(capsys, 2, "cannot use it here", "--input", mug, "--device", "cuda")
    says(capsys, 2, "flash", "--input", mug, "--device", "cpu", "--attention", "flash")
    says(capsys, 2, "exclude each other", "--input", mug, "--vram", "4", "--scenario", "b")
    says(capsys, 2, "--allow-lossy has 'fog'", "--input", mug, "--allow-lossy", "tiling,fog")
    says(capsys, 2, "--ray is for batches", "--input", mug, "--ray")


def test_ray_without_the_package_is_exit_2(capsys: Capture, monkeypatch: pytest.MonkeyPatch, mug: str) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    says(capsys, 2, "pip install", "--input", mug, mug, "--device", "cpu", "--ray")


def test_pictures_that_cannot_be_used_are_exit_3(capsys: Capture, mug: str) -> None:
    whole = Path(mug).read_bytes()
    Path("text.png").write_text("no picture")
    Path("cut.png").write_bytes(whole[: len(whole) // 2])
    Image.new("RGBA", (64, 64), (9, 9, 9, 0)).save("clear.png")
    Image.new("RGB", (1, 1)).save("dot.png")
    Path("folder").mkdir()
    says(capsys, 3, "'gone.png' does not exist", "--input", "gone.png")
    says(capsys, 3, "not a picture", "--input", "text.png")
    says(capsys, 3, "damaged or truncated", "--input", "cut.png")
    says(capsys, 3, "fully transparent", "--input", "clear.png")
    says(capsys, 3, "too small: 1 x 1", "--input", "dot.png")
    says(capsys, 3, "holds no pictures", "--input", "folder")
    says(capsys, 3, "no picture fits '*.jpg'", "--input", "*.jpg")
    assert not Path("output").exists(), "nothing is made for an input that cannot be used"


def test_a_mesh_that_is_not_there_is_exit_3(capsys: Capture, mug: str) -> None:
    says(capsys, 3, "'gone.glb' does not exist", "--input", mug, "--mesh", "gone.glb")


def test_a_report_that_is_none_is_exit_3(capsys: Capture, mug: str) -> None:
    says(capsys, 3, "not a report", "--replay", mug)
    says(capsys, 3, "cannot read the report", "--replay", "gone.json")


def test_missing_weights_are_exit_4(capsys: Capture, mug: str) -> None:
    err = says(capsys, 4, "weights of '2mini'", "--input", mug, "--model", "2mini")
    assert "Tried:" in err and "python -m hy3dgen weights get 2mini" in err
    says(capsys, 4, "--texture paint needs", "--input", mug, "--texture", "paint")
    says(capsys, 4, "weights of 'nowhere/folder'", "--input", mug, "--model", "nowhere/folder")
    says(capsys, 4, "hf download", "--prompt", "a red mug")


def test_an_output_that_cannot_be_written_is_exit_6(capsys: Capture, mug: str) -> None:
    Path("afile").write_text("in the way")
    says(capsys, 6, "cannot make the folder", "--input", mug, "--output", "afile/deeper/x.glb")


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write everywhere")
def test_a_read_only_output_folder_is_exit_6(capsys: Capture, mug: str) -> None:
    Path("locked").mkdir(mode=0o500)
    says(capsys, 6, "may not write", "--input", mug, "--output", "locked")


def test_views_are_explained(capsys: Capture, mug: str) -> None:
    main = multiview.main
    says(capsys, 2, "the front view is missing", "--left", mug, main=main)
    says(capsys, 2, "not both", "--front", mug, "--input", ".", main=main)
    says(capsys, 2, "argument --left: the path is empty", "--front", mug, "--left", "", main=main)
    # Two files for one view: the first used to be dropped without a word.
    says(capsys, 2, "argument --front: is given twice", "--front", mug, "--front", "b.png", main=main)
    says(capsys, 3, "is not a folder", "--input", mug, main=main)
    says(capsys, 3, "has no front view", "--input", ".", main=main)
    says(capsys, 3, "back view: 'gone.png' does not exist", "--front", mug, "--back", "gone.png", main=main)
    Image.fromarray(np.full((64, 400, 3), 90, np.uint8)).save("wide.png")
    says(capsys, 3, "very different proportions", "--front", mug, "--left", "wide.png", main=main)


def test_the_module_says_no_as_well(capsys: Capture) -> None:
    main = module.main
    says(capsys, 2, "required: COMMAND", main=main)
    says(capsys, 2, "invalid choice: 'lits'", "weights", "lits", main=main)
    says(capsys, 2, "did you mean 'nano'?", "weights", "path", "nan", main=main)
    says(capsys, 4, "is not on this machine", "weights", "path", "2", main=main)
    says(capsys, 4, "were not found", "weights", "get", "2", "--offline", main=main)
    says(capsys, 3, "cannot read the report", "report", "gone.json", main=main)


def test_glbs_without_a_report_are_exit_3(capsys: Capture) -> None:
    foreign = b'{"asset": {"version": "2.0"}}   '
    head = b"glTF" + (2).to_bytes(4, "little") + (20 + len(foreign)).to_bytes(4, "little")
    Path("foreign.glb").write_bytes(head + len(foreign).to_bytes(4, "little") + b"JSON" + foreign)
    Path("cut.glb").write_bytes(head + (999).to_bytes(4, "little") + b"JSON")
    Path("newer.json").write_text('{"schema": 99, "options": {}}')
    says(capsys, 3, "no report inside, so another program wrote it", "report", "foreign.glb", main=module.main)
    says(capsys, 3, "the GLB is damaged", "report", "cut.glb", main=module.main)
    says(capsys, 3, "report schema 99, this version knows", "report", "newer.json", main=module.main)
    says(capsys, 3, "does not say where", "--replay", _report_without_paths())


def _report_without_paths() -> str:
    Path("inside.json").write_text('{"schema": 1, "options": {}, "inputs": [{"role": "front", "sha256": "0"}]}')
    return "inside.json"


def test_weights_that_cannot_be_looked_through_are_exit_4(capsys: Capture) -> None:
    Path("empty").mkdir()
    says(capsys, 4, "holds no weight files", "weights", "verify", "empty", main=module.main)
    Path("bad").mkdir()
    Path("bad/x.safetensors").write_bytes((40).to_bytes(8, "little") + b"x" * 40)
    assert module.main(["weights", "verify", "bad"]) == 4
    assert "unreadable safetensors header" in capsys.readouterr().out


def test_a_licence_that_is_refused_or_cannot_be_stored(
    capsys: Capture, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from hy3dgen.cli import weights

    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    monkeypatch.delenv("HY3DGEN_ACCEPT_LICENCE", raising=False)
    monkeypatch.setattr(weights, "licence_prompt", lambda accepted: lambda licence: accepted)
    get = ("weights", "get", "2mini")
    says(capsys, 4, "the licence was not accepted, so nothing was downloaded", *get, main=module.main)
    (tmp_path / "home").write_text("a file where the home should be")
    says(capsys, 6, "the acceptance of the licence cannot be stored", *get, "--accept-licence", main=module.main)


def test_a_folder_where_a_file_should_go_is_exit_6(capsys: Capture, mug: str) -> None:
    Path("r.json").mkdir()
    says(capsys, 6, "'r.json' is a folder; give the name of a file", "--input", mug, "--report", "r.json")


def test_packages_that_do_not_fit_are_exit_2(
    capsys: Capture, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, mug: str
) -> None:
    from hy3dgen.cli import installed

    ranges = tmp_path / "ranges.txt"
    ranges.write_text("# a comment\nnumpy>=99\npillow>=1\nno-such-package>=1\n", encoding="utf-8")
    monkeypatch.setattr(installed.ensure_installed, "__defaults__", (ranges,))
    err = says(capsys, 2, "numpy>=99 (found ", "--input", mug)
    assert "no-such-package>=1 (found none)" in err and "pip install -r requirements.txt" in err
    assert "pillow" not in err


def test_our_own_fault_is_exit_1_and_says_how_to_report_it(
    capsys: Capture, monkeypatch: pytest.MonkeyPatch, mug: str
) -> None:
    def broken(*args: object, **kwargs: object) -> None:
        raise ZeroDivisionError("oops")

    monkeypatch.setattr(color, "fulfil", broken)
    assert color.main(["--input", mug]) == 1
    err = capsys.readouterr().err
    assert "error: ZeroDivisionError: oops" in err and "please report it" in err and "Traceback" not in err
    assert color.main(["--input", mug, "-v"]) == 1
    assert "Traceback" in capsys.readouterr().err


def test_help_and_version_are_exit_0(capsys: Capture) -> None:
    for main in (color.main, multiview.main, module.main):
        assert main(["--help"]) == 0
        assert "usage:" in capsys.readouterr().out
        assert main(["--version"]) == 0
        assert capsys.readouterr().out.startswith("hy3dgen ")


def test_every_option_says_what_it_does() -> None:
    for make_parser in (color.make_parser, multiview.make_parser):
        for action in make_parser()._actions:
            assert action.help, action.option_strings
            assert action.default in (None, "==SUPPRESS=="), f"{action.option_strings} has a default of its own"


def test_exit_codes_of_every_error() -> None:
    expected = {
        UsageError("x"): 2, MissingExtraError("x"): 2, MeshError("x"): 3, NoSurfaceError("x"): 3,
        WeightsDamagedError("x"): 4, DownloadError("x"): 4, LicenceError("x"): 4, OutOfMemoryError("x"): 5,
        NoPlanError("x"): 5, MemoryError("x"): 5, OutputError("x"): 6, Cancelled("x"): 130, KeyboardInterrupt(): 130,
        NumericalError("x"): 1, ValueError("x"): 1, OSError("x"): 1,
    }  # fmt: skip
    assert {type(e): exit_code(e) for e in expected} == {type(e): code for e, code in expected.items()}


def test_torchs_own_memory_error_is_known_without_importing_torch() -> None:
    class OutOfMemoryError(RuntimeError):
        pass

    assert exit_code(OutOfMemoryError("CUDA out of memory")) == 5


def test_the_worst_code_of_a_batch() -> None:
    assert worst([]) == 0
    assert worst([0, 3, 4]) == 4
    assert worst([6, 1, 5]) == 1
    assert worst([1, 130, 0]) == 130
    assert set(EXIT_CODES.values()) <= set(WORST_FIRST)


def test_running_out_of_memory_is_exit_5(capsys: Capture, monkeypatch: pytest.MonkeyPatch, mug: str) -> None:
    def full(*args: object, **kwargs: object) -> None:
        raise MemoryError

    monkeypatch.setattr(color, "fulfil", full)
    says(capsys, 5, "out of memory: the machine could not give more", "--input", mug)


def test_a_field_without_a_surface_is_exit_3(capsys: Capture, monkeypatch: pytest.MonkeyPatch, mug: str) -> None:
    from hy3dgen.jobs import making

    monkeypatch.setattr(making, "sample_latents", lambda *args, **kwargs: torch.zeros((1, 256, 16)))
    monkeypatch.setattr(making, "decode_latents", _no_surface)
    says(capsys, 3, "no surface in this picture; try another --seed", "--input", mug)
    assert list(Path("output").iterdir()) == []


def _no_surface(pipeline: object, latents: object, options: object) -> None:
    from types import SimpleNamespace

    from hy3dgen.jobs.shape import decode_latents

    nothing = SimpleNamespace(_export=lambda latents, **kwargs: [None])
    decode_latents(nothing, latents, options)  # type: ignore[arg-type]


def test_a_disk_that_fills_up_while_writing_is_exit_6(
    capsys: Capture, monkeypatch: pytest.MonkeyPatch, mug: str
) -> None:
    import errno

    from hy3dgen.runtime import files
    from tests.cli.pictures import QUICK

    def full(*args: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(files.os, "fsync", full)
    says(capsys, 6, "the disk is full", "--input", mug, "--texture", "none", "--no-preview", *QUICK)
    assert list(Path("output").iterdir()) == []
