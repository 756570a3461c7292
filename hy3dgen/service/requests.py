"""What a client asks for, checked against what a server allows, before anything is stored or any model is loaded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from hy3dgen.errors import UsageError
from hy3dgen.jobs.options import JobOptions, options_from
from hy3dgen.jobs.output import safe_stem
from hy3dgen.jobs.task import VIEW_AZIMUTHS_DEG
from hy3dgen.service.problems import BAD_REQUEST, ServiceError, in_fields
from hy3dgen.service.settings import FORMATS, OPTION_LIMITS, Limits, RunnerSettings

LONGEST_NAME = 80
# Where, with what and whether over a network it runs is the server's business.
OPTIONS = (
    "model", "texture", "steps", "guidance", "octree_resolution", "decoder", "faces", "texture_size", "seed",
    "max_image_size", "rembg", "dtype", "attention", "vram", "vae_slicing", "vae_tiling", "allow_lossy", "delight",
    "paint_steps", "delight_steps", "units", "up", "origin", "unwrap",
)  # fmt: skip


@dataclass(frozen=True)
class Upload:
    """A file that came with a request. suffix: of a mesh, from our own list; its name is nowhere used as a path."""

    role: str
    content: bytes
    suffix: str = ""


@dataclass(frozen=True)
class JobRequest:
    """A job that somebody wants. client: whose turn it takes; None in options means the default."""

    client: str
    uploads: Sequence[Upload] = ()
    text: str | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    formats: Sequence[str] = FORMATS
    name: str | None = None


def blame(fields: str, detail: str) -> ServiceError:
    """A request that makes no sense, with the field to blame."""
    return ServiceError(BAD_REQUEST, detail, [{"field": fields, "detail": detail}])


def ensure_inputs(request: JobRequest, limits: Limits) -> None:
    """Raise ServiceError when the inputs do not make a job."""
    roles = [upload.role for upload in request.uploads]
    views = [role for role in roles if role in VIEW_AZIMUTHS_DEG]
    if request.text is not None and not request.text.strip():
        raise blame("text", "text is empty; say in a few words what to make")
    if request.text is not None and len(request.text) > limits.text_characters:
        raise blame("text", f"text has {len(request.text)} characters; at most {limits.text_characters} are taken")
    if request.text is not None and any("\ud800" <= letter <= "\udfff" for letter in request.text):
        raise blame("text", "text has halves of characters in it; give it in UTF-8")
    if request.text is not None and views:
        raise blame("text", "give a picture or text, not both: the text makes the picture")
    if not views and request.text is None:
        what = "a picture of the mesh's front" if "mesh" in roles else "a picture"
        raise blame("image", f"there is nothing to work from; give {what} as 'image', or words as 'text'")
    if views and "front" not in views:
        raise blame("front", "the front view is missing; every result starts from it, other views are added")
    for upload in request.uploads:
        if not upload.content:
            raise blame(upload.role, f"the file in '{upload.role}' is empty")


def checked_options(options: Mapping[str, Any], runner: RunnerSettings) -> dict[str, Any]:
    """What was asked for, None dropped. Raises ServiceError naming the field that is wrong."""
    asked = {name: value for name, value in options.items() if value is not None}
    for name, value in asked.items():
        if name not in OPTIONS:
            raise blame(name, f"there is no option '{name}'; options are {', '.join(OPTIONS)}")
        _ensure_in_range(name, value)
    if "vram" in asked:
        asked["vram"] = _vram(str(asked["vram"]), runner.vram)
    try:
        options_from(asked)
    except (UsageError, TypeError) as error:
        words = in_fields(str(error))
        raise blame(words.split(" ", 1)[0], words) from error
    return asked


def checked_formats(formats: Sequence[str]) -> list[str]:
    """The formats to make, the GLB always among them. Raises ServiceError for an unknown one."""
    unknown = [name for name in formats if name not in FORMATS]
    if unknown:
        raise blame("formats", f"unknown format '{unknown[0][:20]}'; formats are {', '.join(FORMATS)}")
    return [name for name in FORMATS if name in formats or name == "glb"]


def checked_name(name: str | None, text: str | None = None) -> str:
    """What the object is called: harmless as a file name everywhere."""
    words = name if name and name.strip() else "_".join((text or "mesh").split()[:6])
    words = "".join(c for c in words if c.isprintable())
    return safe_stem(words[:LONGEST_NAME].strip())


def ranges() -> dict[str, dict[str, Any]]:
    """'least', 'most' and 'default' of every number."""
    plain = JobOptions()
    return {
        name: {"least": least, "most": most, "default": getattr(plain, name)}
        for name, (least, most) in OPTION_LIMITS.items()
    }


def _ensure_in_range(name: str, value: Any) -> None:
    if name not in OPTION_LIMITS or not isinstance(value, (int, float)):
        return
    least, most = OPTION_LIMITS[name]
    if not least <= value <= most:
        raise blame(name, f"{name} is {value}; this server takes {least:g} to {most:.16g}")


def _vram(asked: str, ceiling: str | None) -> str:
    """The ceiling of a job: never above the server's. Raises ServiceError."""
    own = _gib(ceiling)
    if asked in ("auto", "max"):
        return asked if own is None else str(ceiling)
    wanted = _gib(asked)
    if wanted is None or not 0 < wanted < float("inf"):
        raise blame("vram", f"vram is '{asked[:20]}'; give GiB above 0, 'auto' or 'max'")
    if own is not None and wanted > own:
        raise blame("vram", f"vram is {asked}; this server uses {ceiling} GiB at most")
    return asked


def _gib(words: str | None) -> float | None:
    try:
        return float(words) if words is not None else None
    except ValueError:
        return None
