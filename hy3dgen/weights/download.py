"""Exact files from the hub: licence and disk asked first, transfers resumed, foreign errors mapped.

The only module that talks to ``huggingface_hub``, which is imported when it is needed.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from hy3dgen.errors import DownloadError, WeightsDamagedError, WeightsNotFoundError
from hy3dgen.runtime.files import sha256_of_file, write_atomic
from hy3dgen.weights.catalogue import CatalogueEntry, in_repo
from hy3dgen.weights.licence import Accept, ensure_accepted

Progress = Callable[[str, int, int | None], None]
_SPARE_BYTES = 256 << 20  # so that a download never fills the disk to the last byte


@dataclass(frozen=True)
class DownloadOptions:
    """accept: asks the user about a licence (see ``licence.ensure_accepted``).

    progress: called with (file name, bytes done, bytes in all or None); None shows the hub's own bar.
    """

    accept: Accept | None = None
    progress: Progress | None = None


def hub_cache_folder() -> Path:
    """Where the Hugging Face cache lies (``HF_HUB_CACHE``, ``HF_HOME``, else its default)."""
    from huggingface_hub.constants import HF_HUB_CACHE

    return Path(HF_HUB_CACHE)


def cached_file(repo: str, path: str) -> Path | None:
    """This file of a repository when the Hugging Face cache has it; asks nobody."""
    from huggingface_hub import try_to_load_from_cache

    found = try_to_load_from_cache(repo, path)
    return Path(found) if isinstance(found, str) else None


def download_file(
    repo: str, path: str, root: Path, entry: CatalogueEntry | None, options: DownloadOptions
) -> Path | None:
    """Fetch one file to root/repo/path; None when the repository lacks it.

    What an earlier try left is kept and continued; a large file's SHA-256 is compared with the hub's record before the
    file gets its name. (The hub's own cache starts from nothing after a broken transfer.)
    entry: the catalogue's entry, whose licence is asked for first; None for a repository it does not know.
    Raises LicenceError before any transfer when the licence is not accepted, WeightsNotFoundError for an unknown
    repository, WeightsDamagedError when the file is not what the hub recorded, and DownloadError when the hub cannot
    be reached, the transfer breaks off or the disk is too small.
    """
    known = [entry] if entry is not None else in_repo(repo)  # folders we have no entry for have the same owner
    if known:
        ensure_accepted(known[0].licence, options.accept, name=known[0].name)
    from huggingface_hub.errors import EntryNotFoundError, GatedRepoError, HfHubHTTPError, RepositoryNotFoundError

    target = root / repo / path
    try:
        return _transfer(repo, path, target, options)
    except EntryNotFoundError:
        return None
    except GatedRepoError as error:
        raise DownloadError(
            f"repository {repo} asks for a login and its owner's consent; see its page on the hub, then log in with "
            "'hf auth login' or set HF_TOKEN"
        ) from error
    except RepositoryNotFoundError as error:
        raise WeightsNotFoundError(f"the hub has no repository {repo}, or it is private; check the name") from error
    except (HfHubHTTPError, OSError) as error:
        raise _unreachable(repo, path, error) from error
    except Exception as error:
        if _is_transport_error(error):
            raise _unreachable(repo, path, error) from error
        raise


def ensure_room(repo: str, files: Mapping[str, int], root: Path, what: str) -> None:
    """Raise DownloadError before the first of several transfers when the disk cannot take what is still missing.

    files: path inside the repository -> published bytes; what has arrived earlier counts as there
    """
    missing = 0
    for path, size_bytes in files.items():
        target = root / repo / path
        parts = target.parent.glob(f"{target.name}*") if target.parent.is_dir() else ()
        there = max((part.stat().st_size for part in parts if part.suffix != ".lock"), default=0)
        missing += max(size_bytes - there, 0)
    _ensure_disk(missing, root / repo, what)


def _transfer(repo: str, path: str, target: Path, options: DownloadOptions) -> Path:
    from filelock import FileLock
    from huggingface_hub import get_hf_file_metadata, hf_hub_url
    from huggingface_hub.file_download import http_get
    from huggingface_hub.utils import build_hf_headers

    url = hf_hub_url(repo, path)
    about = get_hf_file_metadata(url)
    target.parent.mkdir(parents=True, exist_ok=True)
    # One process at a time; a part belongs to one version of the file.
    part = target.with_name(f"{target.name}.{(about.etag or 'unknown')[:12]}.part")
    with FileLock(target.with_name(target.name + ".lock")):
        if target.is_file() and target.stat().st_size == about.size:
            return target
        done = part.stat().st_size if part.exists() else 0
        _ensure_disk((about.size or 0) - done, target.parent, f"{repo}/{path}")
        headers = build_hf_headers()
        if urlsplit(about.location).netloc != urlsplit(url).netloc:
            headers.pop("authorization", None)  # a signed address at a mirror: the login is none of its business
        with part.open("ab") as file:
            http_get(
                about.location,
                file,
                resume_size=done,
                headers=headers,
                expected_size=about.size,
                displayed_filename=path,
                tqdm_class=_bar(options.progress, path) if options.progress is not None else None,
            )
        _ensure_as_recorded(part, about.etag)
        if _is_sha256(about.etag):  # for ``weights verify``, long after the transfer
            write_atomic(_record_of(target), f"{about.etag}  {target.name}\n")
        part.replace(target)
    return target


def _ensure_as_recorded(part: Path, etag: str | None) -> None:
    """Large files are recorded by their SHA-256. A file that differs is removed, so that the next try starts anew."""
    if not _is_sha256(etag):
        return
    digest = sha256_of_file(part)
    if digest != etag:
        part.unlink()
        raise WeightsDamagedError(f"{part.name} arrived damaged (SHA-256 {digest}, the hub recorded {etag}); run again")


def recorded_sha256(path: Path) -> str | None:
    """The SHA-256 that the hub recorded for a file, kept beside it or, in the Hugging Face cache, as its name."""
    record = _record_of(path)
    words = record.read_text(encoding="utf-8", errors="replace").split() if record.is_file() else []
    known = words[0] if words else path.resolve().name
    return known if _is_sha256(known) else None


def _record_of(path: Path) -> Path:
    return path.with_name(path.name + ".sha256")


def _is_sha256(words: str | None) -> bool:
    return words is not None and len(words) == 64 and set(words) <= set("0123456789abcdef")


def _is_transport_error(error: Exception) -> bool:
    """httpx's errors (the hub's client) do not derive from OSError, and httpx is no dependency of ours."""
    return type(error).__module__.startswith(("httpx", "httpcore", "hf_xet", "requests"))


def _unreachable(repo: str, path: str, error: Exception) -> DownloadError:
    reason = (str(error).strip() or type(error).__name__).splitlines()[0]
    return DownloadError(
        f"{repo}/{path} could not be downloaded: {reason}. Check the network and run again; what has arrived is kept "
        "and the transfer goes on from there"
    )


def _ensure_disk(size_bytes: int, folder: Path, what: str) -> None:
    """Raise DownloadError when the disk of ``folder`` cannot take this many bytes."""
    existing = next(place for place in (folder, *folder.parents) if place.exists())
    free_bytes = shutil.disk_usage(existing).free
    if free_bytes < size_bytes + _SPARE_BYTES:
        raise DownloadError(
            f"{what} takes {size_bytes / 1e9:.1f} GB but the disk of {folder} has {free_bytes / 1e9:.1f} GB free; "
            "free some space, or set HF_HOME to a folder on another disk"
        )


def _bar(progress: Progress, name: str) -> type[Any]:
    """The hub reports through a tqdm class; this one passes the figures on and draws nothing."""
    from tqdm.auto import tqdm

    class Forward(tqdm):
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            kwargs.pop("name", None)  # the hub's own addition to tqdm's arguments
            # A disabled bar counts nothing; a null file makes one that counts and draws nothing.
            super().__init__(*args, **{**kwargs, "disable": False, "file": _Nowhere()})

        def update(self, n: float | None = 1) -> bool | None:
            shown = super().update(n)
            progress(name, int(self.n), int(self.total) if self.total else None)
            return shown

    return Forward


class _Nowhere:
    """A text file that keeps nothing."""

    def write(self, _text: str) -> int:
        return 0

    def flush(self) -> None: ...
