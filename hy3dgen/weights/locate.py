"""Where a model's files are on this machine, and, failing that, from the hub.

Search order: the folder given; the package's own models by name; ``HY3DGEN_MODELS``; ``~/.cache/hy3dgen``; the
Hugging Face cache; the hub, unless offline, whose files go into the first of these models folders. A place that lacks
a needed file is passed over and named in the error.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from hy3dgen.errors import UsageError, WeightsDamagedError, WeightsNotFoundError
from hy3dgen.weights import catalogue
from hy3dgen.weights.catalogue import CatalogueEntry
from hy3dgen.weights.config import read_yaml
from hy3dgen.weights.download import DownloadOptions, cached_file, download_file, ensure_room, hub_cache_folder

CONFIG_NAME = "config.yaml"
DEFAULT_SUBFOLDER = "hunyuan3d-dit-v2-0"
MANY_VIEWS_SUBFOLDER = "hunyuan3d-dit-v2-mv"
# What a config may say under 'weights': a file beside its own folder, which the model around it has, too.
_SHARED_WEIGHTS = re.compile(r"^\.\./([\w-][\w.-]*\.safetensors)$")
_HUB_ID = re.compile(r"^[\w.-]+/[\w.-]+$")
_PACKAGE_MODELS = Path(__file__).resolve().parent.parent / "assets"


@dataclass(frozen=True)
class FoundModel:
    """A model folder of one checkpoint: its config and its weight file. source says which place it came from."""

    config: Path
    weights: Path
    source: str

    @property
    def folder(self) -> Path:
        return self.config.parent


@dataclass
class _Search:
    """What is looked for, and the places tried so far, for the error message."""

    model: str
    subfolder: str
    entry: CatalogueEntry | None
    tried: list[str] = field(default_factory=list)

    @property
    def repo(self) -> str | None:
        if self.entry is not None:
            return self.entry.repo
        return self.model if _HUB_ID.match(self.model) else None

    @property
    def in_root(self) -> tuple[str, ...]:
        """The folders this model may have below a models folder, most exact first."""
        entry = self.entry
        if entry is not None and entry.repo is not None:
            return f"{entry.repo}/{entry.subfolder}", entry.subfolder, entry.name
        return f"{self.model}/{self.subfolder}", self.model

    def missing(self, offline: bool) -> WeightsNotFoundError:
        places = "".join(f"\n  {place}" for place in self.tried)
        return WeightsNotFoundError(
            f"weights of '{self.model}' ({self.subfolder}) were not found. Tried:{places}\n{self._advice(offline)}"
        )

    def _advice(self, offline: bool) -> str:
        if self.entry is not None and self.entry.repo is not None:
            command = f"get them with: python -m hy3dgen weights get {self.entry.name}"
            return command + (" (on a machine with a network, without --offline or HF_HUB_OFFLINE)" if offline else "")
        others = catalogue.in_repo(self.model)
        if others:
            return "this repository has the folders " + ", ".join(entry.subfolder for entry in others)
        known = ", ".join(catalogue.names("shape"))
        return f"give a folder with {CONFIG_NAME}, a hub repository (owner/name), or one of {known}"


def model_roots() -> tuple[Path, ...]:
    """Folders that hold models by name: ``HY3DGEN_MODELS`` when it is set, then ``~/.cache/hy3dgen``."""
    chosen = os.environ.get("HY3DGEN_MODELS")
    roots = [Path(chosen).expanduser()] if chosen else []
    return (*roots, Path("~/.cache/hy3dgen").expanduser())


def is_offline(offline: bool | None = None) -> bool:
    """What was asked for, else whether ``HF_HUB_OFFLINE`` is set."""
    return os.environ.get("HF_HUB_OFFLINE", "").upper() in {"1", "ON", "YES", "TRUE"} if offline is None else offline


def weight_file_names(variant: str | None = "fp16", use_safetensors: bool | None = True) -> tuple[str, ...]:
    """File names to accept, best first: the wanted container and variant, then what is as good.

    use_safetensors: False prefers ``.ckpt``; anything else prefers safetensors.
    """
    containers = ("ckpt", "safetensors") if use_safetensors is False else ("safetensors", "ckpt")
    variants = [variant] + [other for other in (None, "fp16") if other != variant]
    stems = ["model" if name is None else f"model.{name}" for name in variants]
    return tuple(f"{stem}.{container}" for stem in stems for container in containers)


def locate_model(
    model: str | os.PathLike[str],
    subfolder: str | None = None,
    *,
    variant: str | None = "fp16",
    use_safetensors: bool | None = True,
    offline: bool | None = None,
    download: DownloadOptions | None = None,
) -> FoundModel:
    """Find, or fetch, the config and the weight file of a shape model or VAE.

    model: a folder (relative, absolute or with ~), a name of the catalogue, or a hub repository 'owner/name'.
    subfolder: folder inside the repository; not used for a catalogue name nor for a folder that has a config.yaml,
    unless the model's folder has this one inside (``find_inside``).
    download: what to do before and during a download; None forbids no download but accepts no licence.
    Raises WeightsNotFoundError with every place tried, and what ``download_file`` raises.
    """
    search = _start(model, subfolder)
    names = weight_file_names(variant, use_safetensors)
    found = find_inside(model, subfolder, names) or _on_this_machine(search, model, names)
    if found is not None:
        return found
    stay_offline = is_offline(offline)
    if search.repo is None:
        raise search.missing(stay_offline)
    if stay_offline:
        search.tried.append(f"the hub, repository {search.repo}: not asked (offline)")
        raise search.missing(True)
    options, root = download or DownloadOptions(), model_roots()[0]
    _ensure_room(search, root, [file.path for file in search.entry.files] if search.entry is not None else ())
    config = download_file(search.repo, f"{search.subfolder}/{CONFIG_NAME}", root, search.entry, options)
    if config is not None:
        for name in _expected_first(search.entry, names):
            weights = download_file(search.repo, f"{search.subfolder}/{name}", root, search.entry, options)
            if weights is not None:
                return FoundModel(config, weights, "hub")
    search.tried.append(
        f"the hub, repository {search.repo}: it has no {search.subfolder}/{CONFIG_NAME} with {' or '.join(names)}"
    )
    raise search.missing(False)


def find_model(
    model: str | os.PathLike[str],
    subfolder: str | None = None,
    *,
    variant: str | None = "fp16",
    use_safetensors: bool | None = True,
) -> FoundModel | None:
    """As ``locate_model``, on this machine only; None when it is not here."""
    names = weight_file_names(variant, use_safetensors)
    return find_inside(model, subfolder, names) or _on_this_machine(_start(model, subfolder), model, names)


def find_inside(
    model: str | os.PathLike[str], subfolder: str | None, names: Sequence[str] | None = None
) -> FoundModel | None:
    """A second way to run a model: a folder of this name inside the model's own, such as MANY_VIEWS_SUBFOLDER in that
    of 'nano', with weights of its own or those of the folder around it. None where the model has none.

    model: as for ``locate_model``; a repository of several models is not one model, so nothing is inside it
    """
    if subfolder is None or subfolder == DEFAULT_SUBFOLDER:
        return None
    search = _start(model, subfolder)
    for folder, source in _own_folders(search, model):
        if (folder / CONFIG_NAME).is_file() and (folder / subfolder / CONFIG_NAME).is_file():
            return _complete(folder / subfolder, names or weight_file_names(), source, search.tried)
    return None


def locate_folder(
    model: str | os.PathLike[str],
    subfolder: str | None = None,
    files: Sequence[str] | None = None,
    *,
    offline: bool | None = None,
    download: DownloadOptions | None = None,
) -> Path:
    """Find, or fetch, a folder of several files (texture models).

    files: paths inside the folder that must be there; None takes the required ones of the catalogue. For a weight
    file the other container (.bin for .safetensors and the reverse) is as good.
    Raises WeightsNotFoundError with every place tried, and what ``download_file`` raises.
    """
    search = _start(model, subfolder)
    wanted = list(files) if files is not None else _required(search.entry)
    if not wanted:
        raise UsageError(f"say which files of '{model}' are needed; the catalogue does not know this model")
    found = _folder_on_this_machine(search, model, wanted)
    if found is not None:
        return found
    stay_offline = is_offline(offline)
    if search.repo is None or stay_offline:
        raise search.missing(stay_offline)
    options, root = download or DownloadOptions(), model_roots()[0]
    _ensure_room(search, root, wanted)
    for name in wanted:
        candidates = (
            download_file(search.repo, f"{search.subfolder}/{option}", root, search.entry, options)
            for option in _containers(name)
        )
        path = next((candidate for candidate in candidates if candidate is not None), None)
        if path is None:
            search.tried.append(f"the hub, repository {search.repo}: it has no {search.subfolder}/{name}")
            raise search.missing(False)
        folder = path.parents[len(Path(name).parts) - 1]
    return folder


def find_folder(
    model: str | os.PathLike[str], subfolder: str | None = None, files: Sequence[str] | None = None
) -> Path | None:
    """As ``locate_folder``, on this machine only; None when it is not here or not complete."""
    search = _start(model, subfolder)
    return _folder_on_this_machine(search, model, list(files) if files is not None else _required(search.entry))


def _start(model: str | os.PathLike[str], subfolder: str | None) -> _Search:
    name = os.fspath(model)
    if not name:
        raise UsageError("the model's name is empty; give a folder, a name of the catalogue or a hub repository")
    by_name = catalogue.find(name)
    if by_name is not None:
        return _Search(name, by_name.subfolder, by_name)
    subfolder = subfolder or DEFAULT_SUBFOLDER
    return _Search(name, subfolder, catalogue.find(name, subfolder))


def _on_this_machine(search: _Search, model: str | os.PathLike[str], names: Sequence[str]) -> FoundModel | None:
    for folder, source in _local_folders(search, model):
        found = _complete(folder, names, source, search.tried)
        if found is not None:
            return found
    if search.repo is None:
        return None
    config = cached_file(search.repo, f"{search.subfolder}/{CONFIG_NAME}")
    for name in names if config is not None else ():
        weights = cached_file(search.repo, f"{search.subfolder}/{name}")
        if config is not None and weights is not None:
            return FoundModel(config, weights, "Hugging Face cache")
    search.tried.append(f"{hub_cache_folder()} (Hugging Face cache): no complete {search.repo}/{search.subfolder}")
    return None


def _folder_on_this_machine(search: _Search, model: str | os.PathLike[str], wanted: Sequence[str]) -> Path | None:
    for folder, _ in _local_folders(search, model):
        lacking = [name for name in wanted if not any((folder / option).is_file() for option in _containers(name))]
        if folder.is_dir() and wanted and not lacking:
            return folder
        search.tried.append(f"{folder}: " + (f"lacks {', '.join(lacking)}" if folder.is_dir() else "no such folder"))
    if search.repo is None or not wanted:
        return None
    folders = []
    for name in wanted:
        paths = (cached_file(search.repo, f"{search.subfolder}/{option}") for option in _containers(name))
        path = next((candidate for candidate in paths if candidate is not None), None)
        if path is None:
            search.tried.append(
                f"{hub_cache_folder()} (Hugging Face cache): no complete {search.repo}/{search.subfolder}"
            )
            return None
        folders.append(path.parents[len(Path(name).parts) - 1])
    return folders[0] if len(set(folders)) == 1 else None


def _local_folders(search: _Search, model: str | os.PathLike[str]) -> list[tuple[Path, str]]:
    """Folders to look into, in the order of the search, with a word for each place."""
    given = Path(model).expanduser()
    own, *package = _own_folders(search, model)
    folders = [own, (given / search.subfolder, "folder"), *package]
    if not given.is_absolute():
        folders += [(root / place, "models folder") for root in model_roots() for place in search.in_root]
    return folders


def _own_folders(search: _Search, model: str | os.PathLike[str]) -> Iterator[tuple[Path, str]]:
    """Folders that hold just this model: the one given, and that of the package's own."""
    yield Path(model).expanduser(), "folder"
    if search.entry is not None and search.entry.repo is None:
        yield _PACKAGE_MODELS / search.entry.subfolder, "package"


def _complete(folder: Path, names: Sequence[str], source: str, tried: list[str]) -> FoundModel | None:
    """The model in this folder, or a line in ``tried`` that says what it lacks."""
    config = folder / CONFIG_NAME
    if not folder.is_dir():
        tried.append(f"{folder}: no such folder")
        return None
    if not config.is_file():
        tried.append(f"{folder}: no {CONFIG_NAME} in it")
        return None
    for name in names:
        if (folder / name).is_file():
            return FoundModel(config, folder / name, source)
    if (shared := _shared_weights(config)) is not None:
        return FoundModel(config, shared, source)
    tried.append(f"{folder}: has {CONFIG_NAME} but none of {', '.join(names)}")
    return None


def _shared_weights(config: Path) -> Path | None:
    """The weight file in the folder above that a config names, None when it names none or it is not there."""
    with suppress(WeightsDamagedError):  # a folder without weights is passed over, whatever its config
        named = _SHARED_WEIGHTS.match(str(read_yaml(config).get("weights", "")))
        if named is not None and (path := config.parent.parent / named[1]).is_file():
            return path
    return None


def _ensure_room(search: _Search, root: Path, wanted: Sequence[str]) -> None:
    """Look at the disk before the first of a model's files, not before the last."""
    if search.entry is None or search.repo is None:
        return
    sizes = {
        f"{search.subfolder}/{file.path}": file.size_bytes or 0 for file in search.entry.files if file.path in wanted
    }
    ensure_room(search.repo, sizes, root, f"the model '{search.entry.name}'")


def _required(entry: CatalogueEntry | None) -> list[str]:
    return [file.path for file in entry.files if file.required] if entry is not None else []


def _expected_first(entry: CatalogueEntry | None, names: Sequence[str]) -> list[str]:
    """The file that the catalogue says the hub has comes first, so that no request is wasted."""
    known = {file.path for file in entry.files} if entry is not None else set()
    return sorted(names, key=lambda name: name not in known)


def _containers(name: str) -> tuple[str, ...]:
    """The same weight file in either container: 'x.safetensors' and 'x.bin'."""
    stem, dot, suffix = name.rpartition(".")
    other = {"safetensors": "bin", "bin": "safetensors"}.get(suffix)
    return (name, f"{stem}{dot}{other}") if other else (name,)
