"""What a server can be asked for is what its workers can do."""

from __future__ import annotations

from pathlib import Path

import pytest

from hy3dgen.jobs import choice
from hy3dgen.service import availability
from hy3dgen.service.availability import Availability
from hy3dgen.service.problems import ServiceError
from hy3dgen.service.settings import RunnerSettings


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> set[str]:
    """Names of the weights that are found; fill it."""
    names: set[str] = set()

    def find_folder(name: str) -> Path | None:
        return tmp_path if name in names else None

    for module in (choice, availability):
        monkeypatch.setattr(module, "find_folder", find_folder)
    return names


def ask(texture: str, *, delight: bool = True, enable_texture: bool = True) -> str | None:
    """Why not, None when the request is taken."""
    settings = RunnerSettings(enable_texture=enable_texture)
    try:
        Availability(settings).ensure(model="auto", texture=texture, from_words=False, delight=delight)
    except ServiceError as error:
        return str(error)
    return None


def test_painting_needs_a_delight_model_unless_light_stays(here: set[str]) -> None:
    here.add("paint")
    refused = ask("paint")
    assert refused is not None
    assert refused.endswith("python -m hy3dgen weights get delight")
    assert ask("paint", delight=False) is None
    assert ask("paint-turbo", delight=False) is not None
    here.add("delight")
    assert ask("paint") is None


def test_the_small_paint_model_needs_only_itself(here: set[str]) -> None:
    assert ask("paint-nano") is not None
    here.add("paint-nano")
    assert ask("paint-nano") is None
    assert ask("project") is None


@pytest.mark.parametrize("delight", [True, False])
@pytest.mark.parametrize("texture", ["project", "paint", "paint-turbo", "paint-nano"])
def test_a_server_without_texture_colours_in_no_way(here: set[str], texture: str, delight: bool) -> None:
    here |= {"paint", "paint-turbo", "paint-nano", "delight"}
    refused = ask(texture, delight=delight, enable_texture=False)
    assert refused is not None
    assert "without texture" in refused
    for bare in ("auto", "none"):
        assert ask(bare, delight=delight, enable_texture=False) is None
