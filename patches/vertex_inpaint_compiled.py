"""Description: The compiled vertex inpainting is used when it is installed.
  The package silently took the slow Python file.
Origin: upstream bug
Applies-To: Hunyuan3D-2, 2.0 and 2.1 states
Forwarded: no
Last-Update: 2026-11-23

The documented installation puts the compiled module at top level; the renderer imported a file of the same name beside
itself (22 s instead of 0.05 s at 40 000 faces). Without the compiled module a warning says so.
"""

from __future__ import annotations

import libcst as cst

from tools.patching.model import Place
from tools.patching.syntax import DoesNotFit, Source, dotted, find_all

MODULE, NAME = "mesh_processor", "meshVerticeInpaint"


def _imports(source: Source, *, relative: bool) -> list[cst.SimpleStatementLine]:
    found = []
    for statement in find_all(source.module, cst.SimpleStatementLine):
        for small in statement.body:
            if (
                isinstance(small, cst.ImportFrom)
                and dotted(small.module) == MODULE
                and bool(small.relative) == relative
            ):
                found.append(statement)
    return found


def edit(source: Source) -> None:
    """Try the compiled module first."""
    statements = [s for s in source.module.body if s in _imports(source, relative=True)]
    if not statements:
        raise DoesNotFit(f"{NAME} is not imported relatively from .{MODULE} at module level")
    statement = source.mark(statements[0])
    assert isinstance(statement, cst.SimpleStatementLine)
    line = source.module.code_for_node(statement.with_changes(leading_lines=[])).strip()
    compiled = line.replace(f"from .{MODULE}", f"from {MODULE}", 1)
    guarded = (
        "try:\n"
        f"    {compiled}\n"
        "except ImportError:\n"
        f"    {line}\n"
        "    logging.getLogger(__name__).warning(\n"
        f'        "the compiled {MODULE} is not installed: vertex inpainting takes about 500 times longer"\n'
        "    )\n"
    )
    first, *rest = source.statements(guarded)
    first = first.with_changes(leading_lines=statement.leading_lines)
    body = list(source.module.body)
    at = body.index(statement)
    source.module = source.module.with_changes(body=[*body[:at], first, *rest, *body[at + 1 :]])
    source.ensure_import("logging")


def broken(source: Source) -> str | None:
    """The module at top level is imported."""
    return None if _imports(source, relative=False) else f"the compiled {MODULE} is never imported"


PLACES = [Place("hy3dgen/texgen/differentiable_renderer/mesh_render.py", edit, broken)]
