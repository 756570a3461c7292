"""From what was typed after --input to tasks."""

from __future__ import annotations

from pathlib import Path, PurePath

import numpy as np
import pytest
from PIL import Image

from hy3dgen.errors import ImageError, UsageError
from hy3dgen.images.mark import marked
from hy3dgen.jobs.inputs import tasks_from_inputs, views_in_folder
from hy3dgen.jobs.result import encode_picture
from hy3dgen.jobs.task import Task
from tests.cli.pictures import save_mug


def touch(*paths: Path) -> None:
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")


def test_one_file_is_no_batch(tmp_path: Path) -> None:
    touch(tmp_path / "a.png")
    tasks, is_batch = tasks_from_inputs([str(tmp_path / "a.png")])
    assert ([t.name for t in tasks], is_batch) == (["a"], False)


def test_a_folder_is_walked_and_mirrored_without_hidden_and_other_files(tmp_path: Path) -> None:
    touch(tmp_path / "b.PNG", tmp_path / "sub/a.jpg", tmp_path / ".thumbs/c.png", tmp_path / "notes.txt")
    tasks, is_batch = tasks_from_inputs([str(tmp_path)])
    assert is_batch
    assert {(t.name, t.folder) for t in tasks} == {("b", PurePath(".")), ("a", PurePath("sub"))}


def test_a_glob_mirrors_from_its_fixed_part(tmp_path: Path) -> None:
    touch(tmp_path / "x/1/a.png", tmp_path / "x/2/a.png", tmp_path / "x/2/a.txt")
    tasks, is_batch = tasks_from_inputs([str(tmp_path / "x" / "*" / "a.*")])
    assert is_batch
    assert [t.folder for t in tasks] == [PurePath("1"), PurePath("2")]


def test_the_same_picture_twice_is_one_task(tmp_path: Path) -> None:
    touch(tmp_path / "a.png")
    tasks, is_batch = tasks_from_inputs([str(tmp_path / "a.png"), str(tmp_path)])
    assert (len(tasks), is_batch) == (1, True)


def test_a_missing_file_stays_a_task_so_that_it_fails_alone(tmp_path: Path) -> None:
    touch(tmp_path / "a.png")
    tasks, _ = tasks_from_inputs([str(tmp_path / "a.png"), str(tmp_path / "gone.png")])
    assert [t.name for t in tasks] == ["a", "gone"]


def test_a_file_name_with_brackets_is_a_file_not_a_pattern(tmp_path: Path) -> None:
    touch(tmp_path / "a[1].png")
    tasks, is_batch = tasks_from_inputs([str(tmp_path / "a[1].png")])
    assert ([t.name for t in tasks], is_batch) == (["a[1]"], False)


def test_an_empty_folder_and_an_empty_glob_say_so(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="holds no pictures"):
        tasks_from_inputs([str(tmp_path)])
    with pytest.raises(ImageError, match="no picture fits"):
        tasks_from_inputs([str(tmp_path / "*.png")])


def test_views_are_found_by_name(tmp_path: Path) -> None:
    touch(tmp_path / "Front.png", tmp_path / "back.jpg", tmp_path / "other.png")
    assert {view: path.name for view, path in views_in_folder(tmp_path).items()} == {
        "front": "Front.png",
        "back": "back.jpg",
    }


def test_a_missing_or_doubled_view_is_explained(tmp_path: Path) -> None:
    touch(tmp_path / "left.png")
    with pytest.raises(ImageError, match="no front view"):
        views_in_folder(tmp_path)
    touch(tmp_path / "front.png", tmp_path / "front.jpg")
    with pytest.raises(UsageError, match="two pictures of the front view"):
        views_in_folder(tmp_path)


def test_a_task_needs_a_front_view_or_words() -> None:
    with pytest.raises(UsageError, match="front view is missing"):
        Task(name="x", pictures={"left": Path("l.png")})
    with pytest.raises(UsageError, match="no picture"):
        Task(name="x")
    with pytest.raises(UsageError, match="not both"):
        Task(name="x", pictures={"front": Path("f.png")}, prompt="a mug")
    with pytest.raises(UsageError, match="unknown view 'top'"):
        Task(name="x", pictures={"front": Path("f.png"), "top": Path("t.png")})


def test_an_empty_name_is_not_the_current_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    touch(tmp_path / "a.png")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match="is empty"):
        tasks_from_inputs(["a.png", ""])


def test_results_of_earlier_runs_are_no_inputs(tmp_path: Path) -> None:
    """The second 'color.py --input .' made meshes of the previews of the first, the third of theirs, and so on."""
    save_mug(tmp_path / "a.png")
    preview = encode_picture(np.zeros((16, 16, 3), np.uint8))
    for name in ("a-2.png", "results/a.png", "other/a.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(preview)
    save_mug(tmp_path / "results" / "texture.png")
    with Image.open(tmp_path / "a-2.png") as image:
        assert image.size == (16, 16) and image.text["Software"] == "hy3dgen"  # type: ignore[attr-defined]
    for words in (str(tmp_path), str(tmp_path / "**" / "a*.png")):
        tasks, is_batch = tasks_from_inputs([words], results=[tmp_path / "results"])
        assert ([t.pictures["front"] for t in tasks], is_batch) == ([tmp_path / "a.png"], True)
    (tmp_path / "a.png").unlink()
    with pytest.raises(ImageError, match="but 4 that this program has written"):
        tasks_from_inputs([str(tmp_path)], results=[tmp_path / "results"])
    assert tasks_from_inputs([str(tmp_path / "a-2.png")])[0], "a picture that is named is taken, whoever made it"
    assert marked(marked(preview)) == preview and marked(b"no PNG") == b"no PNG"
