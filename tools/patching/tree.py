"""A tree of somebody else's: reading and writing its files without leaving it or trusting it."""

from __future__ import annotations

import ast
import hashlib
import os
import stat
import subprocess
import warnings
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

    def write(self, name: str, data: bytes) -> None:
        """Replace a file in one step (write beside it, fsync, rename), its mode kept."""
        path = self.path(name)
        temporary = path.with_name(f".{path.name}.part")
        try:
            descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(descriptor, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            if path.exists():
                temporary.chmod(stat.S_IMODE(path.stat().st_mode))
            temporary.replace(path)
        except OSError as error:
            temporary.unlink(missing_ok=True)
            raise TreeError(f"{name}: cannot be written: {error.strerror or error}") from error

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

    def dirty(self, names: list[str]) -> list[str]:
        """Those of ``names`` with changes that git has not committed; none outside git."""
        command = ["git", "-C", str(self.root), "status", "--porcelain", "-z", "--", *names]
        try:
            answer = subprocess.run(command, capture_output=True, timeout=60, check=False)
        except (OSError, subprocess.TimeoutExpired):
            return []
        if answer.returncode:
            return []
        entries = answer.stdout.decode("utf-8", "replace").split("\0")
        changed = {entry[3:] for entry in entries if len(entry) > 3}
        return [name for name in names if any(entry.endswith(name) for entry in changed)]

    def commit(self) -> str | None:
        """The commit id checked out here, None outside git."""
        command = ["git", "-C", str(self.root), "rev-parse", "HEAD"]
        try:
            answer = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        except (OSError, subprocess.TimeoutExpired):
            return None
        return answer.stdout.strip() if answer.returncode == 0 else None


def parse(name: str, data: bytes) -> cst.Module:
    """The syntax tree of a file. Raises DoesNotFit, with the line, for what is not Python.

    CPython's own parser goes first: it refuses nesting that would exhaust the stack of other parsers.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # invalid escapes in somebody else's strings are not our business
            compile(data, name, "exec", flags=ast.PyCF_ONLY_AST, dont_inherit=True)
    except SyntaxError as error:
        raise DoesNotFit(f"{name} line {error.lineno}: not valid Python: {error.msg}") from error
    except (ValueError, RecursionError, MemoryError) as error:
        raise DoesNotFit(f"{name}: cannot be parsed: {error or type(error).__name__}") from error
    try:
        return cst.parse_module(data)
    except (cst.ParserSyntaxError, UnicodeError, RecursionError, LookupError) as error:
        raise DoesNotFit(f"{name}: cannot be parsed: {type(error).__name__}") from error
