"""The semantic patches on synthetic trees: they fit, are idempotent, reversible, and do what their heads say."""

from __future__ import annotations

import ast
import difflib
import functools
import json
import os
import subprocess
import sys
import tempfile
import types
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.patches import trees
from tools import patches
from tools.patching import commands
from tools.patching.model import ALREADY, APPLIES, HEAD_FIELDS, NO_FIT, load_all, run_all, series, verify
from tools.patching.tree import STORE, Tree

ROOT = Path(__file__).resolve().parents[2]


def make(folder: Path, variant: str = "official") -> Path:
    files = trees.older() if variant == "older" else trees.VARIANTS[variant]()
    return trees.write(folder / "tree", files)


def test_series_and_folder_agree():
    modules = {path.stem for path in (ROOT / "patches").glob("[!_]*.py")}
    assert modules == set(series())
    assert len(series()) == len(modules)


@pytest.mark.parametrize("patch", load_all(), ids=lambda patch: patch.name)
def test_head_is_complete(patch):
    assert set(HEAD_FIELDS) <= set(patch.head)
    assert all(patch.head[name] for name in HEAD_FIELDS)
    assert patch.places


@pytest.mark.parametrize("variant", trees.VARIANTS)
def test_round_trip(tmp_path, variant):
    """check, apply, verify, apply again, revert: exit 0 each, twice is once, and revert is exact."""
    tree = make(tmp_path, variant)
    before = trees.snapshot(tree)
    assert patches.main(["check", str(tree)]) == 0
    assert trees.snapshot(tree) == before
    assert patches.main(["apply", str(tree)]) == 0
    applied = trees.snapshot(tree)
    assert patches.main(["verify", str(tree)]) == 0
    assert patches.main(["apply", str(tree)]) == 0
    assert trees.snapshot(tree) == applied
    for name, data in applied.items():
        if name.endswith(".py") and not name.startswith(STORE):
            ast.parse(data)
    assert patches.main(["revert", str(tree)]) == 0
    assert trees.snapshot(tree) == before
    assert not (tree / STORE).exists()


@pytest.mark.parametrize("variant", ["official", "tabs", "crlf"])
def test_untouched_formatting_stays(tmp_path, variant):
    """Lines are only added, but for the few statements that are edited; indentation and line ends follow the file."""
    tree = make(tmp_path, variant)
    before = trees.snapshot(tree)
    work = run_all(Tree(tree), load_all())
    for name, data in work.changed().items():
        old, new = before[name].split(b"\n"), data.split(b"\n")
        removed = [line[2:] for line in difflib.ndiff(_text(old), _text(new)) if line.startswith("- ")]
        assert len(removed) <= 4, (name, removed)
        for line in new[:-1]:
            assert line.endswith(b"\r") == (variant == "crlf"), (name, line)
            assert not (variant == "tabs" and line.startswith(b"    ")), (name, line)


def _text(lines: list[bytes]) -> list[str]:
    return [line.decode() for line in lines]


@settings(max_examples=2, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data(), variant=st.sampled_from(sorted(trees.VARIANTS)))
def test_moved_lines_and_comments_do_not_matter(tmp_path_factory, data, variant):
    """Blank and comment lines anywhere between statements: all fit, apply is idempotent, comments survive."""
    files = trees.VARIANTS[variant]()
    for name, text in files.items():
        lines = text.splitlines(keepends=True)
        at = data.draw(st.integers(0, len(lines)), label=name)
        end = "\r\n" if "\r\n" in text else "\n"
        if not _inside_brackets(lines[:at]):
            lines.insert(at, f"# a comment of a fork{end}{end}")
        files[name] = "".join(lines) if not text.startswith("\ufeff") or at else text
    tree = trees.write(tmp_path_factory.mktemp("moved"), files)
    work = run_all(Tree(tree), load_all())
    assert {f.state for f in work.findings} <= {APPLIES, ALREADY}, [f for f in work.findings if f.state == NO_FIT]
    for name, content in work.changed().items():
        assert content.count(b"# a comment of a fork") == files[name].count("# a comment of a fork")
    trees.write(tree, {name: content.decode() for name, content in work.changed().items()})
    again = run_all(Tree(tree), load_all())
    assert not again.changed()


def _inside_brackets(lines: list[str]) -> bool:
    text = "".join(lines)
    return any(text.count(a) != text.count(b) for a, b in ("()", "[]", "{}")) or text.rstrip().endswith(('"""', ":"))


def test_what_does_not_fit_is_named_with_the_nearest(tmp_path, capsys):
    tree = make(tmp_path, "older")
    assert patches.main(["check", str(tree)]) == 1
    out = capsys.readouterr().out
    assert "no class Light_Shadow_Remover (nearest: Light_Shadow_Remover_V1)" in out
    assert "no file hy3dgen/shapegen/models/autoencoders/volume_decoders.py" in out
    assert patches.main(["apply", str(tree)]) == 1  # the rest is applied
    assert patches.main(["revert", str(tree)]) == 0


def test_line_of_the_place_is_reported(tmp_path, capsys):
    tree = make(tmp_path)
    patches.main(["check", str(tree), "--only", "rembg_on_cpu"])
    line = next(i for i, text in enumerate(trees.FILES["hy3dgen/rembg.py"].splitlines(), 1) if "new_session()" in text)
    assert f"hy3dgen/rembg.py:{line}" in capsys.readouterr().out


@pytest.mark.parametrize("variant", ["official", "fork", "no_final_newline"])
def test_export_is_what_apply_does(tmp_path, variant):
    """git am of the exported series gives the tree that apply gives."""
    tree = make(tmp_path, variant)
    git = ["git", "-c", "user.name=t", "-c", "user.email=t@localhost", "-C", str(tree)]
    for command in (["init", "-q"], ["add", "-A"], ["commit", "-qm", "base"]):
        subprocess.run([*git, *command], check=True)
    assert patches.main(["export", str(tree), "--out", str(tmp_path / "out")]) == 0
    mails = sorted((tmp_path / "out").glob("*.patch"))
    assert len(mails) == len(series())
    wanted = {**trees.snapshot(tree), **run_all(Tree(tree), load_all()).changed()}
    subprocess.run([*git, "am", "-q", *map(str, mails)], check=True, capture_output=True)
    assert trees.snapshot(tree) == wanted


def test_dirty_tree_is_refused(tmp_path, capsys):
    tree = make(tmp_path)
    git = ["git", "-c", "user.name=t", "-c", "user.email=t@localhost", "-C", str(tree)]
    for command in (["init", "-q"], ["add", "-A"], ["commit", "-qm", "base"]):
        subprocess.run([*git, *command], check=True)
    (tree / "hy3dgen/rembg.py").write_text(trees.FILES["hy3dgen/rembg.py"] + "# mine\n")
    before = trees.snapshot(tree)
    assert patches.main(["apply", str(tree)]) == 2
    assert "hy3dgen/rembg.py" in capsys.readouterr().err
    assert trees.snapshot(tree) == before
    assert patches.main(["apply", str(tree), "--force"]) == 0


def test_changes_after_apply_are_not_lost(tmp_path):
    tree = make(tmp_path)
    assert patches.main(["apply", str(tree)]) == 0
    path = tree / "hy3dgen/rembg.py"
    path.write_text(path.read_text() + "# mine\n")
    assert patches.main(["revert", str(tree)]) == 2
    assert path.read_text().endswith("# mine\n")
    assert patches.main(["revert", str(tree), "--force"]) == 0


def test_stopped_apply_can_be_reverted(tmp_path, monkeypatch):
    """The originals are kept before the first file changes: a full disk in the middle loses nothing."""
    tree = make(tmp_path)
    before = trees.snapshot(tree)
    write, written = Tree.write, []

    def fail_at_third(self, name, data):
        if not name.startswith(STORE):
            written.append(name)
            if len(written) == 3:
                raise commands.TreeError("disk full")
        return write(self, name, data)

    monkeypatch.setattr(Tree, "write", fail_at_third)
    assert patches.main(["apply", str(tree)]) == 2
    monkeypatch.setattr(Tree, "write", write)
    assert trees.snapshot(tree) != before
    assert patches.main(["revert", str(tree)]) == 0
    assert trees.snapshot(tree) == before


def test_record_notes_tree_and_hashes(tmp_path, monkeypatch):
    tree = make(tmp_path)
    target = tmp_path / "VERIFIED.json"
    monkeypatch.setattr(commands, "VERIFIED", target)
    assert patches.main(["record", str(tree), "--name", "synthetic"]) == 0
    assert patches.main(["record", str(tree), "--name", "again"]) == 0
    (entry,) = json.loads(target.read_text())["trees"]
    assert entry["name"] == "again"
    assert set(entry["before"]) == set(entry["after"])
    assert all(entry["before"][name] != entry["after"][name] for name in entry["before"])


def test_verified_ships_valid():
    assert isinstance(json.loads((ROOT / "patches/VERIFIED.json").read_text())["trees"], list)


# hostile and broken trees ------------------------------------------------------------------------------------------


def test_not_an_upstream_tree(tmp_path):
    assert patches.main(["check", str(tmp_path / "missing")]) == 3
    assert patches.main(["check", str(tmp_path)]) == 3
    (tmp_path / "hy3dgen").mkdir()
    assert patches.main(["apply", str(tmp_path)]) == 3


def test_usage_errors(tmp_path):
    with pytest.raises(SystemExit) as stop:
        patches.main(["frobnicate"])
    assert stop.value.code == 2
    assert patches.main(["check", str(make(tmp_path)), "--only", "nothing"]) == 2


@pytest.mark.parametrize(
    "text",
    ["class BackgroundRemover(:\n", "x = 1\0\n", "x = " + "(" * 5000 + ")" * 5000, "x = " + "-" * 100_000 + "1"],
    ids=["syntax", "null byte", "brackets", "signs"],
)
def test_broken_source_is_reported_not_touched(tmp_path, text, capsys):
    tree = make(tmp_path)
    (tree / "hy3dgen/rembg.py").write_text(text)
    before = trees.snapshot(tree)
    assert patches.main(["check", str(tree)]) == 1
    assert "does not fit     rembg_on_cpu  hy3dgen/rembg.py" in capsys.readouterr().out
    assert patches.main(["apply", str(tree)]) == 1
    assert trees.snapshot(tree)["hy3dgen/rembg.py"] == before["hy3dgen/rembg.py"]


def test_deep_but_valid_source_does_not_crash(tmp_path):
    """A long sum is valid Python and nests a thousand levels: refused or handled, in a process of its own."""
    tree = make(tmp_path)
    deep = trees.FILES["hy3dgen/rembg.py"] + "x = " + " + ".join(["1"] * 3000) + "\n"
    (tree / "hy3dgen/rembg.py").write_text(deep)
    command = [sys.executable, str(ROOT / "tools/patches.py"), "check", str(tree)]
    answer = subprocess.run(command, capture_output=True, text=True, check=False)
    assert answer.returncode in (0, 1), answer.stderr
    assert "hy3dgen/rembg.py" in answer.stdout


@pytest.mark.skipif(os.name == "nt", reason="links need a privilege on Windows")
@pytest.mark.parametrize("what", ["file", "folder", "store"])
def test_links_are_not_followed(tmp_path, what, capsys):
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "rembg.py").write_text(trees.FILES["hy3dgen/rembg.py"])
    tree = make(tmp_path)
    if what == "file":
        (tree / "hy3dgen/rembg.py").unlink()
        (tree / "hy3dgen/rembg.py").symlink_to(outside / "rembg.py")
    elif what == "folder":
        (tree / "hy3dgen/texgen").rename(outside / "texgen")
        (tree / "hy3dgen/texgen").symlink_to(outside / "texgen")
    else:
        (tree / STORE).symlink_to(outside)
    before = trees.snapshot(outside)
    assert patches.main(["apply", str(tree)]) in (1, 2)
    said = capsys.readouterr()
    assert "symbolic link" in said.out + said.err
    assert trees.snapshot(outside) == before


def test_huge_file_is_refused(tmp_path, capsys):
    tree = make(tmp_path)
    with open(tree / "hy3dgen/rembg.py", "ab") as file:
        file.write(b"#" * (3 << 20))
    assert patches.main(["check", str(tree)]) == 1
    assert "too large" in capsys.readouterr().out


def test_damaged_store_is_refused(tmp_path, capsys):
    tree = make(tmp_path)
    patches.main(["apply", str(tree)])
    (tree / STORE / "manifest.json").write_text("{")
    assert patches.main(["revert", str(tree)]) == 2
    assert "damaged" in capsys.readouterr().err


# what the patched code does ----------------------------------------------------------------------------------------


@functools.cache
def patched_files() -> dict[str, bytes]:
    """The official tree with every patch, as one run leaves it in memory."""
    with tempfile.TemporaryDirectory() as folder:
        return run_all(Tree(make(Path(folder))), load_all()).now


def patched(tmp_path: Path, name: str, **modules: types.ModuleType) -> dict[str, object]:
    """Names defined by a patched file, run with stand-ins for the modules it imports."""
    source = patched_files()[name].decode()
    saved = {key: sys.modules.get(key) for key in modules}
    sys.modules.update(modules)
    try:
        space: dict[str, object] = {"__name__": "patched", "__file__": str(tmp_path / "x.py")}
        exec(compile(source, name, "exec"), space)
    finally:
        for key, module in saved.items():
            sys.modules.pop(key) if module is None else sys.modules.__setitem__(key, module)
    return space


def stand_in(name: str, **names: object) -> types.ModuleType:
    module = types.ModuleType(name)
    module.__dict__.update(names)
    return module


def test_patched_remover_names_model_and_provider_and_caps_size(tmp_path):
    from PIL import Image

    calls: list[tuple] = []
    rembg = stand_in(
        "rembg",
        new_session=lambda *args, **kwargs: calls.append((args, kwargs)),
        remove=lambda image, **kwargs: image,
    )
    remover = patched(tmp_path, "hy3dgen/rembg.py", rembg=rembg)["BackgroundRemover"]
    out = remover()(Image.new("RGB", (3000, 1500)))
    assert calls == [(("u2net",), {"providers": ["CPUExecutionProvider"]})]
    assert out.size == (1024, 512)
    remover(use_cpu=False)
    assert calls[1][1]["providers"][0] == "CUDAExecutionProvider"


def test_patched_attention_follows_the_environment(tmp_path, monkeypatch):
    import torch

    name = "hy3dgen/shapegen/models/denoisers/hunyuan3ddit.py"
    q, k, v = torch.randn(3, 1, 2, 5, 8)
    wanted = torch.nn.functional.scaled_dot_product_attention(q, k, v)

    def efficient(q, k, v):
        score = torch.einsum("bnhd,bmhd->bhnm", q, k) / q.shape[-1] ** 0.5
        return torch.einsum("bhnm,bmhd->bnhd", score.softmax(-1), v)

    ops = stand_in("xformers.ops", memory_efficient_attention=efficient)
    for backend in ("auto", "sdpa", "xformers"):
        monkeypatch.setenv("ATTN_BACKEND", backend)
        monkeypatch.setitem(sys.modules, "xformers", stand_in("xformers", ops=ops))
        monkeypatch.setitem(sys.modules, "xformers.ops", ops)
        space = patched(tmp_path / backend, name)
        torch.testing.assert_close(space["attention"](q, k, v), wanted)
    monkeypatch.setenv("ATTN_BACKEND", "magic")
    with pytest.raises(ValueError, match="magic"):
        patched(tmp_path / "magic", name)


def test_patched_reference_stream_runs_once(tmp_path):
    """The features survive the steps; another picture computes its own; results do not change."""
    import torch

    runs: list[float] = []

    class Dual(torch.nn.Module):
        def forward(self, latents, store):
            runs.append(float(latents.sum()))
            store["feature"] = latents.sum()

    class Unet(torch.nn.Module):
        def forward(self, sample, features):
            return sample * features["feature"]

    network = patched(tmp_path / "a", "hy3dgen/texgen/hunyuanpaint/unet/modules.py")["UNet2p5DConditionModel"]
    pipeline_class = patched(tmp_path / "b", "hy3dgen/texgen/hunyuanpaint/pipeline.py")["HunyuanPaintPipeline"]
    unet = network(Unet(), Dual())
    pipeline_class.progress_bar = lambda self, total: __import__("contextlib").nullcontext()
    pipeline = pipeline_class(None, lambda s, t, encoder_hidden_states, return_dict, **kw: unet(s, t, None, **kw), None)
    for picture in (1.0, 2.0):
        given = {"latents": torch.ones(2), "ref_latents": torch.full((3,), picture)}
        out = pipeline.denoise(num_inference_steps=4, **given)
        torch.testing.assert_close(out, torch.ones(2) * (1 + 3 * picture) ** 4)
    assert runs == [3.0, 6.0]


def test_patched_loops_can_be_cancelled(tmp_path):
    tqdm = stand_in("tqdm", tqdm=lambda items, **_: items)
    space = patched(tmp_path, "hy3dgen/shapegen/pipelines.py", tqdm=tqdm)

    class Event:
        def __init__(self, steps: int) -> None:
            self.left = steps

        def is_set(self) -> bool:
            self.left -= 1
            return self.left < 0

    for name in ("Hunyuan3DDiTPipeline", "Hunyuan3DDiTFlowMatchingPipeline"):
        pipeline = space[name](None, None, None, None, None, device="cpu")
        assert pipeline(image=0, num_inference_steps=5) == 10
        with pytest.raises(InterruptedError):
            pipeline(image=0, num_inference_steps=5, cancel_event=Event(2))


def test_patched_offload_finds_its_components(tmp_path):
    import torch

    tqdm = stand_in("tqdm", tqdm=lambda items, **_: items)
    space = patched(tmp_path, "hy3dgen/shapegen/pipelines.py", tqdm=tqdm)
    model = torch.nn.Linear(1, 1)
    pipeline = space["Hunyuan3DDiTPipeline"](None, model, None, None, None, device="cpu")
    assert pipeline.enable_model_cpu_offload() == {"model": model}


def test_patched_coordinates_are_not_rounded(tmp_path):
    import torch

    decoder = patched(tmp_path, "hy3dgen/shapegen/models/autoencoders/volume_decoders.py")["HierarchicalVolumeDecoding"]
    seen = decoder()(torch.zeros(1), lambda queries, latents: queries, bounds=1.0, octree_resolution=4)
    assert sorted(set(seen.flatten().tolist())) == [-1.0, -0.5]


def test_post_conditions_fail_on_the_unpatched_tree(tmp_path):
    """Every post-condition asks for something that the original does not have."""
    wrong = {(patch, file): why for patch, file, why in verify(Tree(make(tmp_path)), load_all())}
    assert all(wrong.values()), [key for key, why in wrong.items() if not why]
