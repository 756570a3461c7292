"""The multipart forms of our own routes."""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import Annotated, Any, Literal

from fastapi import UploadFile
from pydantic import BaseModel, ConfigDict, Field, WithJsonSchema

from hy3dgen.jobs.output import MESH_SUFFIXES
from hy3dgen.service.problems import BAD_MESH, ServiceError
from hy3dgen.service.requests import OPTIONS, JobRequest, Upload
from hy3dgen.service.settings import FORMATS, OPTION_LIMITS


def _number(name: str, what: str) -> Any:
    least, most = OPTION_LIMITS[name]
    return Field(None, ge=least, le=most, description=f"{what} (default: the model's own)")


# In the document a file that may be left out is no file that may be null, which forms cannot say.
OptionalFile = Annotated[UploadFile | None, WithJsonSchema({"type": "string", "format": "binary"})]


class JobForm(BaseModel):
    """A job: a picture, several views, or words; with a mesh when that is to be coloured; and options."""

    model_config = ConfigDict(extra="forbid")

    image: OptionalFile = Field(None, description="the picture; the same as 'front'")
    front: OptionalFile = None
    left: OptionalFile = Field(None, description="from the object's own left side")
    back: OptionalFile = None
    right: OptionalFile = None
    mesh: OptionalFile = Field(None, description=f"colour this mesh ({', '.join(MESH_SUFFIXES)})")
    text: str | None = Field(None, description="words to make the picture from", examples=["a red toy car"])
    name: str | None = Field(None, description="what the object and the downloads are called", examples=["mug"])
    formats: str | None = Field(None, description="comma list of glb, obj, ply, stl", examples=["glb,obj"])

    model: str | None = Field(None, description="a name from GET /v1/server that is here, or auto", examples=["nano"])
    texture: Literal["auto", "project", "none", "paint", "paint-turbo", "paint-nano"] | None = None
    vram: str | None = Field(None, description="GiB of device memory, auto or max", examples=["4"])
    seed: int | None = Field(None, ge=0, le=OPTION_LIMITS["seed"][1], examples=[7])
    steps: int | None = _number("steps", "sampling steps")
    guidance: float | None = _number("guidance", "guidance scale")
    octree_resolution: int | None = _number("octree_resolution", "cells along each axis")
    decoder: Literal["hierarchical", "dense", "flashvdm"] | None = None
    faces: int | None = _number("faces", "most triangles")
    texture_size: int | None = _number("texture_size", "pixels along one side")
    max_image_size: int | None = _number("max_image_size", "longer side of the picture at most, in pixels")
    rembg: Literal["auto", "cpu", "gpu", "off"] | None = None
    delight: bool | None = None
    paint_steps: int | None = _number("paint_steps", "sampling steps of the texture model")
    delight_steps: int | None = _number("delight_steps", "sampling steps of the light removal")
    units: Literal["m", "cm", "mm"] | None = None
    up: Literal["y", "z"] | None = None
    origin: Literal["centre", "base", "keep"] | None = None
    unwrap: bool | None = None
    dtype: Literal["auto", "fp32", "fp16", "bf16"] | None = None
    attention: Literal["auto", "sdpa", "xformers", "sage", "flash", "sliced"] | None = None
    vae_slicing: bool | None = None
    vae_tiling: int | None = _number("vae_tiling", "VAEs in tiles of this many pixels (lossy)")
    allow_lossy: str | None = Field(None, description="comma list of tiling, flashvdm")

    async def as_request(self, client: str) -> JobRequest:
        """The request with its files read. Raises ServiceError for a mesh of unknown type."""
        front = self.image if self.image is not None else self.front
        pictures = {"front": front, "left": self.left, "back": self.back, "right": self.right}
        uploads = [Upload(role, await file.read()) for role, file in pictures.items() if file is not None]
        if self.mesh is not None:
            content = await self.mesh.read()
            uploads.append(Upload("mesh", content, mesh_suffix(self.mesh.filename or "", content)))
        options = {name: getattr(self, name) for name in OPTIONS}
        if self.allow_lossy is not None:
            options["allow_lossy"] = words_of(self.allow_lossy)
        source = self.mesh or front
        return JobRequest(
            client=client,
            uploads=uploads,
            text=self.text,
            options=options,
            formats=FORMATS if self.formats is None else words_of(self.formats),
            name=self.name or (stem_of(source.filename or "") if source is not None else None),
        )


class CutoutForm(BaseModel):
    """A picture whose cut-out is to be looked at."""

    model_config = ConfigDict(extra="forbid")

    image: UploadFile
    rembg: Literal["auto", "cpu", "gpu", "off"] = "auto"
    max_image_size: int = Field(1024, ge=64, le=4096)


def mesh_suffix(filename: str, content: bytes) -> str:
    """Which kind of mesh this is: by its first bytes, else by its name. Raises ServiceError for another kind."""
    if content[:4] == b"glTF":
        return ".glb"
    if content[:4] in (b"ply\n", b"ply\r"):
        return ".ply"
    suffix = PurePosixPath(filename.replace("\\", "/")).suffix.lower()
    if suffix not in MESH_SUFFIXES or suffix == ".glb":
        detail = f"the mesh is none of {', '.join(MESH_SUFFIXES)}; name its file with one of these endings"
        raise ServiceError(BAD_MESH, detail, [{"field": "mesh", "detail": detail}])
    return suffix


def words_of(text: str) -> list[str]:
    """The words of a comma list."""
    return [word.strip() for word in text.split(",") if word.strip()]


def stem_of(filename: str) -> str:
    """The name of an uploaded file without folders and ending. It is shown, and never used as a path."""
    return PurePosixPath(filename.replace("\\", "/")).stem
