"""Which model runs: what was asked for, else the best that is here, else the built-in one."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from hy3dgen.errors import UsageError, WeightsNotFoundError
from hy3dgen.images import matting
from hy3dgen.jobs.choice import AUTO_ORDER, AUTO_ORDER_MANY_VIEWS, choose, num_views
from hy3dgen.jobs.models import Models, filled, plan_without_weights, weights_sha256
from hy3dgen.jobs.options import JobOptions
from hy3dgen.jobs.texture import weight_paths
from hy3dgen.runtime.files import sha256_of_file
from hy3dgen.weights import catalogue
from hy3dgen.weights.config import read_yaml
from hy3dgen.weights.locate import MANY_VIEWS_SUBFOLDER, locate_model


@pytest.fixture(autouse=True)
def models_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HY3DGEN_MODELS", str(tmp_path / "models"))
    return tmp_path / "models"


def put(folder: Path, name: str, *, folder_name: str | None = None) -> None:
    """Empty files where the weights of a model would lie."""
    entry = catalogue.entry(name)
    for file in entry.files:
        place = folder / str(entry.repo) / entry.subfolder if folder_name is None else folder / folder_name
        path = place / file.path
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")


def test_auto_takes_the_best_that_is_here_and_never_downloads(models_folder: Path) -> None:
    assert choose("auto") == choose("auto", many_views=True) == "nano"
    put(models_folder, "2mini")
    assert choose("auto") == "2mini"
    put(models_folder, "2")
    put(models_folder, "2mv-turbo")
    assert choose("auto") == "2"
    assert choose("auto", many_views=True) == "2mv-turbo", "several views want a model that looks at them all"
    assert set(AUTO_ORDER) | set(AUTO_ORDER_MANY_VIEWS) | {"nano"} == set(catalogue.names("shape"))


def test_what_was_asked_for_is_taken_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    assert choose("2-turbo") == "2-turbo"
    assert choose("owner/model") == "owner/model"
    assert choose("~/mine") == str(Path("~/mine").expanduser())


def test_painting_is_the_default_only_where_its_weights_are(models_folder: Path) -> None:
    entry = catalogue.entry("2")
    assert filled(JobOptions(), entry).texture == "project"
    put(models_folder, "paint")
    assert filled(JobOptions(), entry).texture == "project", "its light remover is missing"
    assert filled(JobOptions(delight=False), entry).texture == "paint"
    put(models_folder, "delight")
    assert filled(JobOptions(), entry).texture == "paint"
    assert filled(JobOptions(texture="none"), entry).texture == "none"


def test_nano_paints_only_where_its_paint_weights_are(models_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    entry = catalogue.entry("nano")
    monkeypatch.setattr("hy3dgen.weights.locate._PACKAGE_MODELS", models_folder / "nothing here")
    assert filled(JobOptions(), entry).texture == "project"
    with pytest.raises(WeightsNotFoundError, match="--texture project needs none"):
        Models(JobOptions(model="nano", texture="paint-nano", device="cpu"))
    put(models_folder, "paint-nano", folder_name="paint-nano")
    assert filled(JobOptions(), entry).texture == "paint-nano"
    assert filled(JobOptions(delight=False), entry).texture == "paint-nano"
    assert filled(JobOptions(texture="project"), entry).texture == "project"
    assert filled(JobOptions(), catalogue.entry("2")).texture == "project", "official models wait for official paint"
    assert len(weight_paths(JobOptions(texture="paint-nano"))) == 2


def test_the_models_defaults_are_the_catalogues() -> None:
    models = Models(JobOptions(model="nano", device="cpu", steps=3))
    defaults = catalogue.entry("nano").defaults
    assert (models.options.steps, models.options.guidance) == (3, defaults.guidance)
    assert models.options.octree_resolution == defaults.octree_resolution
    assert models.is_built_in and not models.takes_many_views
    assert models.compute()["device"] == "cpu" and models.machine()["torch"]


@pytest.fixture
def nano_of_four_views(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The package's own model with a second config for several views, as one that was trained on them has it."""
    shipped = locate_model("nano").folder
    home = tmp_path / "assets" / "nano"
    home.mkdir(parents=True)
    for file in shipped.glob("*.*"):
        (home / file.name).symlink_to(file)
    config = read_yaml(shipped / "config.yaml")
    encoder = config["conditioner"]["params"]["main_image_encoder"]
    encoder["type"], encoder["kwargs"]["view_num"] = "DinoImageEncoderMV", 4
    config["image_processor"]["target"] = "hy3dgen.shapegen.preprocessors.MVImageProcessorV2"
    config["weights"] = "../model.fp16.safetensors"
    inner = home / MANY_VIEWS_SUBFOLDER
    inner.mkdir()
    (inner / "config.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")
    monkeypatch.setattr("hy3dgen.weights.locate._PACKAGE_MODELS", home.parent)
    return inner


def test_nano_looks_at_several_views_when_it_was_trained_on_them(nano_of_four_views: Path) -> None:
    options = JobOptions(model="nano", device="cpu")
    one, several = Models(options), Models(options, many_views=True)
    assert not one.takes_many_views and one.found.folder == nano_of_four_views.parent
    assert several.takes_many_views and several.is_built_in and several.found.folder == nano_of_four_views
    assert one.found.weights.samefile(several.found.weights)
    assert one.shape_identity() != several.shape_identity(), "a kept shape of the front alone is another shape"
    plans = [plan_without_weights(options.with_(vram="4"), many_views=many) for many in (False, True)]
    few, many = (plan.stage("denoise") for plan in plans)
    assert few is not None and many is not None and few.predicted_peak_bytes < many.predicted_peak_bytes


def test_without_a_second_config_the_front_view_is_the_picture() -> None:
    models = Models(JobOptions(model="nano", device="cpu"), many_views=True)
    assert models.takes_many_views == (num_views("nano") > 1)
    assert Models(JobOptions(model="nano", device="cpu")).takes_many_views is False
    assert num_views("2mv") == 4 and num_views("2") == 1 and num_views("no such folder") == 1


def test_a_multi_view_model_takes_all_views_even_when_none_were_announced(models_folder: Path) -> None:
    put(models_folder, "2mv")
    assert Models(JobOptions(model="2mv", device="cpu", texture="none")).takes_many_views


def test_a_folder_says_by_its_config_how_many_views_it_takes(nano_of_four_views: Path) -> None:
    """Several views of one object gave a local folder of a multi-view model its front alone."""
    (nano_of_four_views / "model.fp16.safetensors").symlink_to(nano_of_four_views.parent / "model.fp16.safetensors")
    for folder in (nano_of_four_views, nano_of_four_views.parent):
        models = Models(JobOptions(model=str(folder), device="cpu"), many_views=True)
        assert models.takes_many_views and models.found.folder == nano_of_four_views


def test_nothing_is_loaded_before_it_is_needed_and_then_once() -> None:
    models = Models(JobOptions(model="nano", device="cpu"))
    assert models._pipeline is None
    assert models.shape_pipeline() is models.shape_pipeline()
    models.forget()
    assert models._pipeline is None


def test_the_next_job_takes_over_the_networks_that_fit() -> None:
    first = Models(JobOptions(model="nano", device="cpu"))
    pipeline = first.shape_pipeline()
    second = Models(JobOptions(model="nano", device="cpu", steps=7, decoder="dense"))
    second.take_over(first)
    assert second.shape_pipeline() is pipeline
    assert type(pipeline.vae.volume_decoder).__name__ == "VanillaVolumeDecoder", "the new job's decoder"
    assert first._pipeline is None
    other = Models(JobOptions(model="nano", device="cpu", dtype="bf16"))
    other.take_over(second)
    assert other._pipeline is None, "another number format needs the weights again"
    assert second._pipeline is None, "and nothing is held twice"


def test_the_background_network_is_kept_for_the_next_job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Services and Ray workers opened it again for every picture: only the serial batch kept it."""
    opened: list[Path] = []

    def open_session(path: Path, *, gpu: bool) -> None:
        opened.append(path)

    monkeypatch.setattr(matting, "_open_session", open_session)
    monkeypatch.setenv("U2NET_HOME", str(tmp_path))
    net = tmp_path / "u2netp.onnx"
    net.write_bytes(b"")
    options = JobOptions(model="nano", device="cpu")
    first, second = (Models(options, keep_background=True) for _ in range(2))
    assert first.background.get() is first.background.get()
    second.take_over(first)
    second.background.get()
    assert opened == [net]
    better = tmp_path / "u2net.onnx"
    better.write_bytes(b"")
    third = Models(options, keep_background=True)
    third.take_over(second)
    third.background.get()
    assert opened == [net, better], "a better one that has been installed meanwhile is used"
    fourth = Models(options)
    fourth.take_over(third)
    fourth.background.get()
    fourth.background.get()
    assert opened == [net, better, better, better], "a single run holds no memory for it"


def test_missing_weights_and_back_ends_are_found_at_once() -> None:
    with pytest.raises(WeightsNotFoundError, match="weights get 2mini"):
        Models(JobOptions(model="2mini", device="cpu"))
    with pytest.raises(WeightsNotFoundError, match="--texture project needs none"):
        Models(JobOptions(model="nano", texture="paint", device="cpu"))
    with pytest.raises(UsageError):
        Models(JobOptions(model="nano", device="cpu", attention="flash"))


def test_the_hash_of_a_cached_file_is_its_name(tmp_path: Path) -> None:
    digest = "ab" * 32
    (tmp_path / digest).write_bytes(b"x")
    (tmp_path / "plain").write_bytes(b"x")
    assert weights_sha256(tmp_path / digest) == digest
    assert weights_sha256(tmp_path / "plain") == sha256_of_file(tmp_path / "plain")
