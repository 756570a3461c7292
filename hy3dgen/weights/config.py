"""``config.yaml`` of a model folder: read, checked, never executed."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from hy3dgen.errors import WeightsDamagedError

PIPELINE_SECTIONS = ("model", "vae", "conditioner", "scheduler", "image_processor")


@dataclass(frozen=True)
class Target:
    """One ``target`` (dotted class path, a name to look up, nothing to import) with its keyword arguments."""

    target: str
    params: dict[str, Any] = field(default_factory=dict)


def read_yaml(path: Path) -> dict[str, Any]:
    """The mapping in this file. Raises WeightsDamagedError when it is no YAML mapping or cannot be read."""
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise WeightsDamagedError(f"{path} cannot be read as YAML ({error}); fetch the file again") from error
    if not isinstance(content, dict):
        raise WeightsDamagedError(f"{path} should hold a mapping, found {type(content).__name__}; fetch the file again")
    return content


def read_pipeline_config(path: Path) -> dict[str, Target]:
    """The five component sections of a pipeline folder's config.

    The section 'pipeline' is ignored: the class on which ``from_pretrained`` is called decides.
    Raises WeightsDamagedError when a section is missing or has no target.
    """
    content = read_yaml(path)
    missing = [name for name in PIPELINE_SECTIONS if name not in content]
    if missing:
        raise WeightsDamagedError(
            f"{path} has no section {', '.join(missing)}; a pipeline config has {', '.join(PIPELINE_SECTIONS)}"
            + (" (this looks like the config of a VAE folder)" if "target" in content else "")
        )
    return {name: _target(content[name], path, name) for name in PIPELINE_SECTIONS}


def read_component_config(path: Path, section: str | None = None) -> Target:
    """The target of a single-network folder (target at top level), or one section of a pipeline config."""
    content = read_yaml(path)
    if "target" in content or "params" in content:
        return _target({"target": "", **content}, path, "top level")
    if section is not None and section in content:
        return _target(content[section], path, section)
    raise WeightsDamagedError(
        f"{path} has neither 'target' at top level" + (f" nor a section '{section}'" if section else "")
    )


def _target(section: Any, path: Path, name: str) -> Target:
    if not isinstance(section, dict) or not isinstance(section.get("target"), str):
        raise WeightsDamagedError(f"{path}: section '{name}' has no 'target'; fetch the file again")
    params = section.get("params") or {}
    if not isinstance(params, dict):
        raise WeightsDamagedError(
            f"{path}: 'params' of section '{name}' should be a mapping, found {type(params).__name__}"
        )
    return Target(section["target"], dict(params))
