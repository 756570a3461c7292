"""Import directions of the house, read from the source: imports go down only."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "hy3dgen"

MIDDLE = {"images", "meshes", "rendering", "baking", "weights", "runtime"}
# room -> rooms whose modules it may import; its own and errors are always allowed
ALLOWED: dict[str, set[str]] = {
    "cli": {"service", "jobs", "reports", "shapegen", "texgen", "text2image", "api"} | MIDDLE,
    "service": {"jobs", "reports", "shapegen", "texgen", "api"} | MIDDLE,
    "api": {"jobs", "reports"} | MIDDLE,
    "jobs": {"reports", "shapegen", "texgen", "text2image"} | MIDDLE,
    "reports": {"runtime"},
    "shapegen": MIDDLE,
    "texgen": MIDDLE,
    "text2image": MIDDLE,
    "rembg": {"images"},
    "images": set(),
    "meshes": set(),
    "rendering": {"meshes"},
    "baking": {"rendering", "meshes"},
    "weights": {"runtime"},
    "runtime": set(),
    "errors": set(),
}
# The package itself: version and the lazy facade, importable from everywhere above the middle floor.
FACADES = {"__init__": {"api"}, "__main__": {"cli"}}
# Small files of the runtime (stages, files, clock, …) that any room may use: progress, cancelling, atomic files.
NETWORK_ROOMS = ("shapegen/models", "texgen/hunyuanpaint")
# texgen.attention is the same door as diffusers' blocks ask for it; the others stand behind upstream's from_pretrained.
NETWORK_IMPORTS = (
    "hy3dgen.runtime.attention", "hy3dgen.errors", "hy3dgen.texgen.attention", "hy3dgen.texgen.loading",
    "hy3dgen.shapegen.vae_files",
)  # fmt: skip


def modules() -> list[Path]:
    return sorted(p for p in PACKAGE.rglob("*.py") if "__pycache__" not in p.parts)


def imported(path: Path) -> Iterator[tuple[str, int]]:
    """Absolute names of our own modules that a file imports, with the line."""
    parts = ["hy3dgen", *path.relative_to(PACKAGE).with_suffix("").parts]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            for alias in node.names:
                if alias.name.split(".")[0] == "hy3dgen":
                    yield alias.name, node.lineno
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                anchor = parts[: len(parts) - node.level]
                base = ".".join([*anchor, base]) if base else ".".join(anchor)
            if base.split(".")[0] == "hy3dgen":
                for alias in node.names:
                    yield f"{base}.{alias.name}", node.lineno


def room_of(name: str) -> str:
    """'hy3dgen.jobs.run.run_task' -> 'jobs'; a name that the package itself exports -> ''."""
    parts = name.split(".")
    if len(parts) < 2:
        return ""
    is_module = (PACKAGE / parts[1]).is_dir() or (PACKAGE / f"{parts[1]}.py").is_file()
    return parts[1] if is_module else ""


def room_of_file(path: Path) -> str:
    first = path.relative_to(PACKAGE).parts[0]
    return first.removesuffix(".py")


def violations(path: Path) -> list[str]:
    room = room_of_file(path)
    found = []
    for name, line in imported(path):
        target = room_of(name)
        if target in ("", "errors", room):
            continue
        allowed = FACADES.get(room, ALLOWED.get(room))
        if allowed is None or target not in allowed:
            found.append(f"{path.relative_to(ROOT)}:{line} imports {name}: {room} may not import {target}")
    return found


def test_imports_go_down_only() -> None:
    found = [words for path in modules() for words in violations(path)]
    assert not found, "\n".join(found)


def test_shape_and_texture_generation_do_not_know_each_other() -> None:
    for room, other in (("shapegen", "texgen"), ("texgen", "shapegen")):
        for path in (PACKAGE / room).rglob("*.py"):
            assert not [n for n, _ in imported(path) if n.startswith(f"hy3dgen.{other}")], path


@pytest.mark.parametrize("room", NETWORK_ROOMS)
def test_networks_import_attention_and_no_other_machinery(room: str) -> None:
    """Loops in decoders may also report progress; surface extractors may also use meshes.io."""
    found = []
    for path in (PACKAGE / room).rglob("*.py"):
        for name, line in imported(path):
            own = name.startswith(("hy3dgen.shapegen.models", "hy3dgen.texgen.hunyuanpaint"))
            progress = name.startswith("hy3dgen.runtime.stages")
            meshes = name.startswith("hy3dgen.meshes") and "surface" in path.stem
            if not (own or progress or meshes or name.startswith(NETWORK_IMPORTS)):
                found.append(f"{path.relative_to(ROOT)}:{line} imports {name}")
    assert not found, "\n".join(found)


def test_reports_know_the_stage_records_and_nothing_else() -> None:
    for path in (PACKAGE / "reports").rglob("*.py"):
        names = [n for n, _ in imported(path) if not n.startswith(("hy3dgen.reports", "hy3dgen.errors"))]
        assert all(n.startswith("hy3dgen.runtime.stages") for n in names), (path, names)


def test_scripts_call_the_command_line_and_nothing_else() -> None:
    for script in ("color.py", "multiview.py", "api_server.py"):
        tree = ast.parse((ROOT / script).read_text(encoding="utf-8"))
        ours = [
            n.module
            for n in ast.walk(tree)
            if isinstance(n, ast.ImportFrom) and n.module and n.module.startswith("hy3dgen")
        ]
        assert ours == [f"hy3dgen.cli.{script.removesuffix('.py')}"] or all(
            m.startswith(("hy3dgen.cli", "hy3dgen.images")) for m in ours
        )


def test_no_device_is_named_outside_its_home() -> None:
    """Device names are strings equal to a kind; messages and docstrings that mention one are fine."""
    found = []
    for path in modules():
        if path.relative_to(PACKAGE).as_posix() == "runtime/device.py":
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Constant) and node.value == "cuda":
                found.append(f"{path.relative_to(ROOT)}:{node.lineno}")
    assert not found, "\n".join(found)


def test_the_checker_sees_a_wrong_import(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The test of the test: a mesh module that imports a job is found."""
    room = tmp_path / "hy3dgen" / "meshes"
    room.mkdir(parents=True)
    (tmp_path / "hy3dgen" / "jobs").mkdir()
    wrong = room / "wrong.py"
    wrong.write_text("from hy3dgen.jobs import run\n", encoding="utf-8")
    monkeypatch.setitem(globals(), "PACKAGE", tmp_path / "hy3dgen")
    monkeypatch.setitem(globals(), "ROOT", tmp_path)
    assert len(violations(wrong)) == 1
