"""A tree of somebody else's: reading and writing its files without leaving it or trusting it."""

from __future__ import annotations

import hashlib
import os
import stat
import subprocess
import warnings
from functools import lru_cache
from pathlib import Path

import libcst as cst

from tools.patching.syntax import DoesNotFit

MAX_FILE_BYTES = 2 << 20
STORE = ".hy3dgen-patches"

# Places that every descendant of the official tree has most of; two are enough to call a folder one.
LANDMARKS = {
    "hy3dgen/rembg.py": "BackgroundRemover",
    "hy3dgen/shapegen/pipelines.py": "Hunyuan3DDiTPipeline",
    "hy3dgen/texgen/pipelines.py": "Hunyuan3DPaintPipeline",
    "hy3dgen/texgen/utils/dehighlight_utils.py": "Light_Shadow_Remover",
    "hy3dgen/texgen/utils/multiview_utils.py": "Multiview_Diffusion_Net",
    "hy3dgen/texgen/differentiable_renderer/mesh_render.py": "MeshRender",
}


class TreeError(Exception):
    """The folder is not an upstream tree, or something in it must not be touched. The message is for the user."""


class Unsafe(TreeError):
    """A file that leaves the tree, is a link, or is too large to be source code."""


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


class Tree:
    """A folder that holds ``hy3dgen/``. Paths are relative to it, with forward slashes."""

    def __init__(self, root: Path) -> None:
        if not root.is_dir():
            raise TreeError(f"{root}: no such folder; give the folder that holds hy3dgen/")
        self.root = root.resolve()
        if not (self.root / "hy3dgen").is_dir():
            raise TreeError(f"{root}: holds no hy3dgen/ folder; give the root of an upstream checkout")

    def path(self, name: str) -> Path:
        """The file ``name`` inside the tree. Raises Unsafe when it, or a folder on the way, is a link."""
        path = self.root.joinpath(*name.split("/"))
        for part in [path, *path.parents]:
            if part == self.root:
                break
            if part.is_symlink():
                raise Unsafe(f"{name}: {part.relative_to(self.root)} is a symbolic link; links are not followed")
        if not path.resolve().is_relative_to(self.root):
            raise Unsafe(f"{name}: leads outside the tree")
        return path

    def read(self, name: str) -> bytes:
        """The bytes of a file. Raises DoesNotFit when it is missing, Unsafe when it must not be read."""
        path = self.path(name)
        if not path.is_file():
            raise DoesNotFit(f"no file {name}", self._nearest(path))
        size = path.stat().st_size
        if size > MAX_FILE_BYTES:
            raise Unsafe(f"{name}: {size >> 20} MiB is too large to be source code")
        try:
            return path.read_bytes()
        except OSError as error:
            raise Unsafe(f"{name}: cannot be read: {error.strerror}") from error

    def write(self, name: str, data: bytes, mode: int | None = None) -> None:
        """Replace a file in one step (write into the hidden folder, fsync, rename); its mode is kept, or ``mode``."""
        path = self.path(name)
        temporary = self.path(STORE) / f"new-{os.getpid()}.part"
        try:
            if path.exists():
                mode = stat.S_IMODE(path.stat().st_mode)
            path.parent.mkdir(parents=True, exist_ok=True)
            temporary.parent.mkdir(exist_ok=True)
            temporary.unlink(missing_ok=True)
            descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(descriptor, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            temporary.chmod(0o644 if mode is None else mode)
            temporary.replace(path)
        except OSError as error:
            raise TreeError(f"{name}: cannot be written: {error.strerror or error}") from error
        finally:
            temporary.unlink(missing_ok=True)

    def _nearest(self, path: Path) -> str | None:
        """A file of the same name elsewhere below hy3dgen/."""
        for folder, _, files in os.walk(self.root / "hy3dgen"):
            if path.name in files:
                return (Path(folder) / path.name).relative_to(self.root).as_posix()
        return None

    def known(self) -> bool:
        """Whether at least two landmarks are where upstream has them."""
        found = 0
        for name, landmark in LANDMARKS.items():
            try:
                found += f"class {landmark}".encode() in self.read(name)
            except (DoesNotFit, TreeError):
                continue
        return found >= 2

    def ours(self) -> bool:
        """Whether this is the project that the patches come from: its tree has the techniques and other code."""
        return (self.root / "patches" / "series").is_file() and (self.root / "hy3dgen" / "errors.py").is_file()

    def dirty(self, names: list[str]) -> list[str]:
        """Those of ``names`` that differ from git's last commit; none where git does not keep the tree.

        Contents are compared here instead of asking `git status`, which would run filters and monitors that the
        configuration of a foreign repository names. Raises TreeError when there is a repository that git cannot read.
        """
        if not names or not any((folder / ".git").exists() for folder in (self.root, *self.root.parents)):
            return []
        listed = self._git("ls-tree", "-r", "-z", "HEAD", "--", "hy3dgen")
        if listed is None:
            raise TreeError(
                f"git cannot read the repository at {self.root} (no commit, another owner, or git is not installed), "
                "so changes of yours cannot be told apart; commit first, or use --force"
            )
        committed = {}
        for entry in filter(None, listed.split(b"\0")):
            head, _, name = entry.partition(b"\t")
            committed[name.decode("utf-8", "replace")] = head.split()[2].decode()
        # A tree that lies in somebody's repository without being part of it is as good as one outside git.
        return [name for name in names if committed and committed.get(name) not in self._blobs(name)]

    def _blobs(self, name: str) -> set[str]:
        """The ids that git may have given to a file as it is on disk, with and without conversion of line ends."""
        data = self.read(name)
        forms = {data, data.replace(b"\r\n", b"\n"), data.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")}
        found = set()
        for form in forms:
            whole = b"blob %d\0%s" % (len(form), form)
            found |= {hashlib.sha1(whole, usedforsecurity=False).hexdigest(), hashlib.sha256(whole).hexdigest()}
        return found

    def commit(self) -> str | None:
        """The commit id checked out here, None outside git."""
        answer = self._git("rev-parse", "--verify", "HEAD")
        return answer.decode().strip() if answer else None

    def _git(self, *arguments: str) -> bytes | None:
        """What a reading git command prints in the tree; None when it fails."""
        command = ["git", "--no-optional-locks", "-c", "core.fsmonitor=false", "-C", str(self.root), *arguments]
        environment = {key: value for key, value in os.environ.items() if not key.startswith("GIT_")}
        environment["GIT_NO_LAZY_FETCH"] = "1"
        try:
            answer = subprocess.run(command, capture_output=True, timeout=60, check=False, env=environment)
        except (OSError, subprocess.TimeoutExpired):
            return None
        return answer.stdout if answer.returncode == 0 else None


@lru_cache(maxsize=64)  # the same bytes are parsed by every patch; syntax trees are never changed in place
def parse(name: str, data: bytes) -> cst.Module:
    """The syntax tree of a file. Raises DoesNotFit, with the line, for what is not Python.

    CPython's own parser goes first: it refuses nesting that would exhaust the stack of other parsers.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # invalid escapes in somebody else's strings are not our business
            compile(data, name, "exec", dont_inherit=True)
    except SyntaxError as error:
        raise DoesNotFit(f"{name} line {error.lineno}: not valid Python: {error.msg}") from error
    except (ValueError, RecursionError, MemoryError) as error:
        raise DoesNotFit(f"{name}: cannot be parsed: {error or type(error).__name__}") from error
    try:
        module = cst.parse_module(data)
        same = module.bytes == data
    except (cst.ParserSyntaxError, UnicodeError, RecursionError, LookupError) as error:
        raise DoesNotFit(f"{name}: cannot be parsed: {type(error).__name__}") from error
    if not same:
        raise DoesNotFit(f"{name}: cannot be edited without changing its formatting elsewhere")
    return module
