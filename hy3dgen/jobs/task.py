"""One thing to make: its name and what it is made from. Values only."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePath
from typing import TYPE_CHECKING

from hy3dgen.errors import UsageError

if TYPE_CHECKING:
    from hy3dgen.images.load import PictureSource
    from hy3dgen.meshes.mesh import Mesh

# Azimuths as in rendering/cameras.py: 0 looks from +z at the front, 90 from +x at the object's own left side.
VIEW_AZIMUTHS_DEG = {"front": 0.0, "left": 90.0, "back": 180.0, "right": 270.0}


@dataclass(frozen=True)
class Task:
    """One mesh to make.

    name: stem of the files to write
    pictures: view name (front, left, back, right) -> path, bytes, PIL image or array; front first
    mesh: a mesh to colour instead of making a shape, or its path
    prompt: words to make the front picture from
    folder: sub-folder of the output, mirrored from where the input lay
    seed: instead of the options' seed, for variations of one input
    mesh_sha256: hash of the mesh's file, for a ``mesh`` that was read on another machine
    variation_of: number of the input that this is a variation of; names alone do not tell inputs apart
    """

    name: str
    pictures: Mapping[str, PictureSource] = field(default_factory=dict)
    mesh: Path | Mesh | None = None
    prompt: str | None = None
    folder: PurePath = field(default_factory=PurePath)
    seed: int | None = None
    variation_of: int | None = None
    mesh_sha256: str | None = None

    def __post_init__(self) -> None:
        unknown = [view for view in self.pictures if view not in VIEW_AZIMUTHS_DEG]
        if unknown:
            raise UsageError(f"unknown view '{unknown[0]}'; views are {', '.join(VIEW_AZIMUTHS_DEG)}")
        if self.prompt is not None and self.pictures:
            raise UsageError("give a picture or --prompt, not both: the prompt makes the picture")
        if not self.pictures and self.prompt is None:
            raise UsageError(
                "there is no picture to work from; give one with --input (or --front), or words with --prompt"
            )
        if self.pictures and "front" not in self.pictures:
            raise UsageError("the front view is missing; every result starts from --front, other views are added to it")
        if self.prompt is not None and not self.prompt.strip():
            raise UsageError("--prompt is empty; say in a few words what to make")

    def files(self) -> list[Path]:
        """The files that it is made from; things in memory have none."""
        sources = (*self.pictures.values(), self.mesh)
        return [Path(source) for source in sources if isinstance(source, (str, Path))]
