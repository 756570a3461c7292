"""The catalogue: sizes that agree with what is published, defaults for every model, no heavy import."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from hy3dgen.errors import UsageError
from hy3dgen.weights import catalogue
from hy3dgen.weights.load import open_weights
from hy3dgen.weights.locate import find_model


@pytest.mark.parametrize(
    ("name", "millions"),
    [
        ("2", 2463.97),
        ("2-turbo", 2465.28),
        ("2mini", 1909.89),
        ("2mini-turbo", 1911.20),
        ("2mv", 2463.97),
        ("2.1", 3682.87),
    ],
)
def test_parameter_counts_reproduce_the_published_totals(name: str, millions: float) -> None:
    parameters = sum(component.parameters for component in catalogue.entry(name).components)
    assert parameters / 1e6 == pytest.approx(millions, abs=0.01)


def test_paint_sizes_reproduce_the_published_file() -> None:
    entry = catalogue.entry("paint")
    sizes = entry.component_bytes
    published = next(file.size_bytes for file in entry.files if file.path.startswith("unet/diff"))
    assert published is not None
    assert 0 < published - sizes["unet"] - sizes["unet_dual"] < 1 << 20  # the rest is the file's header


def test_nano_is_as_large_as_its_file_says() -> None:
    found = find_model("nano")
    assert found is not None
    with open_weights(found.weights) as source:
        counted: dict[str, int] = {}
        for key in source:
            elements = 1
            for length in source.shape(key):
                elements *= length
            counted[key.split(".")[0]] = counted.get(key.split(".")[0], 0) + elements
    assert {part.name: part.parameters for part in catalogue.entry("nano").components} == counted


def test_every_model_can_be_planned_without_its_weights() -> None:
    for entry in catalogue.ENTRIES:
        assert entry.weights_bytes > 0 and entry.download_bytes >= 0.95 * entry.weights_bytes, entry.name
        assert entry.defaults.steps > 0 and entry.licence.line
        assert (entry.repo is None) == (entry.name in {"nano", "paint-nano"})
        if entry.is_official:
            assert entry.licence.excluded_territories == ("European Union", "United Kingdom", "South Korea")
        assert entry.defaults.texture in {"project", *catalogue.names("texture")}


def test_folders_are_found_by_repository() -> None:
    for entry in catalogue.ENTRIES:
        if entry.repo is not None:
            assert catalogue.find(entry.repo, entry.subfolder) is entry
    assert catalogue.find("tencent/Hunyuan3D-2", "hunyuan3d-dit-v2-9") is None
    assert catalogue.find("somebody/else", "hunyuan3d-dit-v2-0") is None


def test_a_mistyped_name_is_answered_with_the_nearest() -> None:
    with pytest.raises(UsageError, match="did you mean '2mini-turbo'"):
        catalogue.entry("2mini-turob")


def test_the_catalogue_needs_no_torch() -> None:
    code = "import sys, hy3dgen.weights.catalogue, hy3dgen.weights.licence; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[2])
