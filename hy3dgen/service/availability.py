"""What this server can be asked for: models, ways of colouring and text to image, as far as their weights are here.

Looks for files only. A request can never make the server download, so what is not here is refused with the command.
"""

from __future__ import annotations

import threading
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from hy3dgen.jobs.choice import PAINTED, choose, colour_models, how_to_get_words, is_here, num_views
from hy3dgen.service.problems import FEATURE_UNAVAILABLE, ServiceError
from hy3dgen.service.settings import RunnerSettings
from hy3dgen.weights import catalogue, inventory
from hy3dgen.weights.catalogue import BUILT_IN_PAINT
from hy3dgen.weights.locate import find_folder

LOOK_AGAIN_S = 30.0
NO_TEXTURE = "this server was started without texture and makes bare shapes"


class Availability:
    """Looks at the machine now and then; answers from what it saw."""

    def __init__(self, settings: RunnerSettings) -> None:
        self._settings = settings
        self._lock = threading.Lock()
        self._seen: dict[str, Any] | None = None
        self._seen_at = 0.0

    def facts(self) -> dict[str, Any]:
        """'model', 'models', 'textures', 'features' and 'why_not', as clients see them."""
        with self._lock:
            if self._seen is None or time.monotonic() - self._seen_at > LOOK_AGAIN_S:
                self._seen, self._seen_at = self._look(), time.monotonic()
            return self._seen

    def ensure(self, *, model: str, texture: str, from_words: bool, delight: bool = True) -> None:
        """Raise ServiceError, with what to do, for something that is not here."""
        facts = self.facts()
        here = {entry["name"]: entry["here"] for entry in facts["models"]}
        if model != "auto" and model not in here:
            names = ", ".join(name for name, is_here in here.items() if is_here)
            raise ServiceError(FEATURE_UNAVAILABLE, f"there is no model '{model[:80]}' on this server; it has {names}")
        if model != "auto" and not here[model]:
            raise ServiceError(FEATURE_UNAVAILABLE, f"the model '{model}' is not on this server; {_command(model)}")
        why = self._why_not_coloured(texture, delight=delight)
        if why is not None:
            raise ServiceError(FEATURE_UNAVAILABLE, f"texture '{texture}': {why}")
        if from_words and not facts["features"]["text2image"]:
            raise ServiceError(FEATURE_UNAVAILABLE, facts["why_not"]["text2image"])

    def own_model(self) -> str:
        """What clients call the model that 'auto' means."""
        chosen = choose(self._settings.model)
        return chosen if catalogue.find(chosen) is not None else Path(chosen).name

    def _look(self) -> dict[str, Any]:
        models = [_model(status) for status in inventory.list_models() if status.entry.kind == "shape"]
        own = self.own_model()
        if own not in [model["name"] for model in models]:
            models.insert(0, _unknown_model(own))
        textures = [self._texture(name) for name in ("project", BUILT_IN_PAINT, *PAINTED, "none")]
        words = self._why_no_words()
        features = {"picture": True, "views": True, "mesh": True}
        features |= {"texture": self._settings.enable_texture, "text2image": words is None}
        why_not = {} if words is None else {"text2image": words}
        if not self._settings.enable_texture:
            why_not["texture"] = NO_TEXTURE
        return {"model": own, "models": models, "textures": textures, "features": features, "why_not": why_not}

    def _texture(self, name: str) -> dict[str, Any]:
        why = self._why_not_coloured(name, delight=True)
        return {"name": name, "here": why is None, "why": why}

    def _why_not_coloured(self, texture: str, *, delight: bool) -> str | None:
        """Why this server cannot colour in this way; None when it can, as it always can with 'auto' and 'none'."""
        if texture in ("auto", "none"):
            return None
        if not self._settings.enable_texture:
            return NO_TEXTURE
        if is_here(texture, delight=delight):
            return None
        if texture == BUILT_IN_PAINT:
            return "its weights are not in this installation; project needs none"
        missing = [name for name in colour_models(texture, delight=delight) if find_folder(name) is None]
        commands = " and ".join(f"python -m hy3dgen weights get {name}" for name in missing)
        return f"its weights are not on this server; its owner can get them with: {commands}"

    def _why_no_words(self) -> str | None:
        if not self._settings.text2image:
            return "this server was started without text to image; give a picture"
        command = how_to_get_words()
        if command is None:
            return None
        return f"the text-to-image weights are not here; the server's owner gets them with: {command}; give a picture"


def _model(status: inventory.ModelStatus) -> dict[str, Any]:
    entry = status.entry
    defaults = asdict(entry.defaults)
    texture = defaults.pop("texture")
    here = entry.kind == "shape" and status.folder is not None
    return {
        "name": entry.name,
        "title": entry.title,
        "here": status.folder is not None,
        "download_gb": round(entry.download_bytes / 1e9, 2),
        "num_views": num_views(entry.name) if here else entry.num_views,
        "texture": texture,
        "defaults": defaults,
    }


def _unknown_model(name: str) -> dict[str, Any]:
    """The server's own model when the catalogue does not know it: it has the official defaults."""
    defaults = asdict(catalogue.Defaults())
    texture = defaults.pop("texture")
    about = {"title": f"{name}, this server's own", "here": True, "download_gb": 0.0, "num_views": 1}
    return {"name": name, **about, "texture": texture, "defaults": defaults}


def _command(model: str) -> str:
    return f"its owner can get it with: python -m hy3dgen weights get {model}"
