"""Where weights are looked for, in which order, and what is said when they are nowhere."""

from __future__ import annotations

from pathlib import Path

import pytest

from hy3dgen.errors import LicenceError, UsageError, WeightsNotFoundError
from hy3dgen.weights import inventory, licence
from hy3dgen.weights.catalogue import TENCENT_20
from hy3dgen.weights.locate import (
    MANY_VIEWS_SUBFOLDER,
    find_folder,
    find_inside,
    find_model,
    locate_folder,
    locate_model,
    weight_file_names,
)

SUBFOLDER = "hunyuan3d-dit-v2-0"


def put_model(folder: Path, *names: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("config.yaml", *(names or ("model.fp16.safetensors",))):
        (folder / name).write_bytes(b"x")
    return folder


def put_in_hub_cache(home: Path, repo: str, folder: str, *names: str) -> Path:
    """The layout of the Hugging Face cache: refs/main names the snapshot."""
    store = home / "hub" / ("models--" + repo.replace("/", "--"))
    (store / "refs").mkdir(parents=True)
    (store / "refs" / "main").write_text("abc")
    return put_model(store / "snapshots" / "abc" / folder, *names)


def test_the_packages_own_model_is_found_by_name_whatever_the_subfolder() -> None:
    found = locate_model("nano", SUBFOLDER)
    assert found.source == "package" and found.weights.name == "model.fp16.safetensors" and found.config.is_file()


def put_many_views(model: Path, weights: str = "../model.fp16.safetensors") -> Path:
    folder = model / MANY_VIEWS_SUBFOLDER
    folder.mkdir()
    (folder / "config.yaml").write_text(f"weights: {weights}\n", encoding="utf-8")
    return folder


def test_a_second_way_to_run_a_model_shares_its_weights(tmp_path: Path) -> None:
    """One file of weights, two configs: several views are a folder inside the model's, asked for by its name."""
    model = put_model(tmp_path / "mine")
    assert find_inside(model, MANY_VIEWS_SUBFOLDER) is None
    assert locate_model(model, MANY_VIEWS_SUBFOLDER).folder == model, "without one the subfolder is ignored, as before"
    inner = put_many_views(model)
    for found in (
        find_inside(model, MANY_VIEWS_SUBFOLDER),
        locate_model(model, MANY_VIEWS_SUBFOLDER),
        find_model(model, MANY_VIEWS_SUBFOLDER),
        locate_model(inner),
    ):
        assert found is not None and (found.folder, found.weights) == (inner, model / "model.fp16.safetensors")
    for other in (None, SUBFOLDER, "hunyuan3d-dit-v2-mv-turbo"):
        assert locate_model(model, other).folder == model
    (inner / "model.fp16.safetensors").write_bytes(b"own")
    assert locate_model(inner).weights.parent == inner, "weights of its own come first"


def test_the_packages_own_model_has_its_second_way_inside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hy3dgen.weights.locate._PACKAGE_MODELS", tmp_path)
    inner = put_many_views(put_model(tmp_path / "nano"))
    assert locate_model("nano").folder == tmp_path / "nano"
    assert locate_model("nano", MANY_VIEWS_SUBFOLDER).folder == inner


def test_a_config_reaches_no_further_than_the_folder_above(tmp_path: Path) -> None:
    put_model(tmp_path, "secret.safetensors", "model.ckpt")
    for number, words in enumerate(
        ("../../secret.safetensors", "/etc/passwd", "../model.ckpt", "../absent.safetensors", "[1]")
    ):
        model = put_model(tmp_path / str(number))
        inner = put_many_views(model, words)
        with pytest.raises(WeightsNotFoundError, match="none of"):
            locate_model(inner)


def test_a_repository_of_several_models_has_nothing_inside(tmp_path: Path) -> None:
    put_model(tmp_path / "repo" / MANY_VIEWS_SUBFOLDER)
    assert find_inside(tmp_path / "repo", MANY_VIEWS_SUBFOLDER) is None
    assert locate_model(tmp_path / "repo", MANY_VIEWS_SUBFOLDER).folder.name == MANY_VIEWS_SUBFOLDER


def test_a_relative_folder_is_found_below_the_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The reference looked relative folders up under its models folder only (C25)."""
    put_model(tmp_path / "here" / "mine")
    monkeypatch.chdir(tmp_path / "here")
    assert (
        locate_model("mine", SUBFOLDER).weights.resolve() == (tmp_path / "here/mine/model.fp16.safetensors").resolve()
    )
    assert locate_model("./mine").source == "folder"


def test_a_folder_may_begin_with_a_tilde(home: Path) -> None:
    put_model(home / "models" / "mine")
    assert locate_model("~/models/mine").folder == home / "models" / "mine"


def test_a_folder_with_subfolders_is_a_repository(tmp_path: Path) -> None:
    put_model(tmp_path / "repo" / "hunyuan3d-dit-v2-mini")
    assert locate_model(tmp_path / "repo", "hunyuan3d-dit-v2-mini").folder.name == "hunyuan3d-dit-v2-mini"


def test_places_are_tried_in_order(tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A given folder, the environment's models folder, the one in the cache, the Hugging Face cache."""
    repo = "tencent/Hunyuan3D-2"
    hub = put_in_hub_cache(home, repo, SUBFOLDER)
    assert locate_model(repo, SUBFOLDER).folder == hub
    cache = put_model(home / ".cache" / "hy3dgen" / repo / SUBFOLDER)
    assert locate_model(repo, SUBFOLDER).folder == cache
    monkeypatch.setenv("HY3DGEN_MODELS", str(tmp_path / "models"))
    chosen = put_model(tmp_path / "models" / repo / SUBFOLDER)
    assert locate_model(repo, SUBFOLDER).folder == chosen
    assert locate_model("2").folder == chosen  # the catalogue's name for the same folder
    monkeypatch.chdir(tmp_path)
    given = put_model(tmp_path / repo / SUBFOLDER)
    assert locate_model(repo, SUBFOLDER).folder.resolve() == given.resolve()


def test_an_incomplete_folder_does_not_win(tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The reference took any existing folder, also an empty one, and failed later (C25)."""
    repo = "tencent/Hunyuan3D-2"
    monkeypatch.setenv("HY3DGEN_MODELS", str(tmp_path / "models"))
    (tmp_path / "models" / repo / SUBFOLDER).mkdir(parents=True)
    hub = put_in_hub_cache(home, repo, SUBFOLDER)
    assert locate_model(repo, SUBFOLDER).folder == hub


def test_the_container_and_variant_that_exist_are_taken(tmp_path: Path) -> None:
    """Published 2.1 folders hold a .ckpt only, which the reference's defaults did not find."""
    folder = put_model(tmp_path / "a", "model.fp16.ckpt")
    assert locate_model(folder).weights.name == "model.fp16.ckpt"
    put_model(folder, "model.safetensors")
    assert locate_model(folder, variant=None).weights.name == "model.safetensors"
    put_model(folder, "model.fp16.safetensors")
    assert locate_model(folder).weights.name == "model.fp16.safetensors"
    assert locate_model(folder, use_safetensors=False).weights.name == "model.fp16.ckpt"
    assert weight_file_names("fp16", True)[:2] == ("model.fp16.safetensors", "model.fp16.ckpt")


def test_the_error_lists_every_place_and_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HY3DGEN_MODELS", str(tmp_path / "models"))
    put_model(tmp_path / "models" / "tencent/Hunyuan3D-2mini" / "hunyuan3d-dit-v2-mini", "notes.txt")
    with pytest.raises(WeightsNotFoundError) as caught:
        locate_model("2mini")
    text = str(caught.value)
    assert "none of model.fp16.safetensors" in text and ".cache/hy3dgen" in text and "Hugging Face cache" in text
    assert "not asked (offline)" in text and "python -m hy3dgen weights get 2mini" in text
    assert isinstance(caught.value, FileNotFoundError)  # what callers of the reference catch


def test_a_wrong_subfolder_is_answered_with_the_right_ones() -> None:
    with pytest.raises(WeightsNotFoundError, match="hunyuan3d-dit-v2-mini-turbo"):
        locate_model("tencent/Hunyuan3D-2mini", SUBFOLDER)


def test_a_name_that_is_nothing(home: Path) -> None:
    with pytest.raises(WeightsNotFoundError, match="owner/name"):
        locate_model("my_modle")
    with pytest.raises(UsageError):
        locate_model("")
    assert find_model("2mini") is None


def test_a_download_of_official_weights_waits_for_the_licence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    with pytest.raises(LicenceError, match="European Union, United Kingdom, South Korea") as caught:
        locate_model("2mini")
    assert "'2mini'" in str(caught.value) and "weights get 2mini --accept-licence" in str(caught.value)


def test_a_licence_is_accepted_once(home: Path) -> None:
    asked = []

    def accept(shown: licence.Licence) -> bool:
        asked.append(licence.text(shown))
        return len(asked) > 1

    with pytest.raises(LicenceError, match="not accepted"):
        licence.ensure_accepted(TENCENT_20, accept)
    licence.ensure_accepted(TENCENT_20, accept)
    licence.ensure_accepted(TENCENT_20, None)
    assert len(asked) == 2 and "South Korea" in asked[0]
    assert licence.is_accepted(TENCENT_20) and list((home / ".cache/hy3dgen/licences").iterdir())


def test_texture_folders_are_found_in_either_container(home: Path) -> None:
    files = [
        "model_index.json",
        "scheduler/scheduler_config.json",
        "unet/config.json",
        "unet/diffusion_pytorch_model.bin",
    ]
    files += ["vae/config.json", "vae/diffusion_pytorch_model.safetensors"]
    root = home / ".cache/hy3dgen/tencent/Hunyuan3D-2/hunyuan3d-paint-v2-0"
    for name in files:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"x")
    assert find_folder("paint") == locate_folder("tencent/Hunyuan3D-2", "hunyuan3d-paint-v2-0") == root
    (root / "unet/config.json").unlink()
    assert find_folder("paint") is None
    with pytest.raises(WeightsNotFoundError, match=r"lacks unet/config\.json"):
        locate_folder("paint")


def test_the_list_says_what_is_here() -> None:
    listed = {status.entry.name: status for status in inventory.list_models()}
    assert listed["nano"].folder is not None and listed["nano"].licence_accepted
    assert listed["2"].folder is None and not listed["2"].licence_accepted and listed["2"].size_bytes > 4 << 30
    assert inventory.is_here("nano") and not inventory.is_here("2")
    assert inventory.path_of("nano") == inventory.get("nano")
    with pytest.raises(WeightsNotFoundError, match="weights get 2mv"):
        inventory.path_of("2mv")


def test_verify_names_a_truncated_file(tmp_path: Path) -> None:
    [config, weights] = inventory.verify("nano")
    assert config.problem is None and weights.problem is None and len(weights.sha256) == 64
    folder = put_model(tmp_path / "broken")
    (folder / "model.fp16.safetensors").write_bytes(weights.path.read_bytes()[:-1000])
    problems = [check.problem for check in inventory.verify(folder) if check.problem]
    assert len(problems) == 1 and "its header says 46514674" in problems[0]


def test_verify_compares_with_the_hash_that_the_hub_recorded(tmp_path: Path) -> None:
    """The Hugging Face cache names a large file by its SHA-256."""
    blob = tmp_path / ("0" * 64)
    blob.write_bytes(b"not what was promised")
    link = tmp_path / "model.ckpt"
    link.symlink_to(blob)
    problem = inventory.check_file(link).problem
    assert problem is not None and "the hub recorded 0000" in problem
