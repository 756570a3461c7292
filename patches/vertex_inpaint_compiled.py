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
from tools.patching.syntax import DoesNotFit, Source, dotted, find_all, has_name

MODULE, NAME = "mesh_processor", "meshVerticeInpaint"


def _imports(source: Source, *, inside: bool) -> list[cst.SimpleStatementLine]:
    """Statements that import the function from the package's own file (inside), or from the one at top level."""
    found = []
    for statement in find_all(source.module, cst.SimpleStatementLine):
        for small in statement.body:
            if not isinstance(small, cst.ImportFrom) or isinstance(small.names, cst.ImportStar):
                continue
            own = bool(small.relative) or "." in dotted(small.module)
            names = [alias.evaluated_name for alias in small.names]
            if dotted(small.module).split(".")[-1] == MODULE and NAME in names and own == inside:
                found.append(statement)
    return found


def edit(source: Source) -> None:
    """Try the compiled module first."""
    statements = _imports(source, inside=True)
    if not statements:
        others = [node for node in find_all(source.module, cst.ImportFrom) if has_name(node, MODULE)]
        nearest = source.module.code_for_node(others[0]) if others else None
        raise DoesNotFit(f"{NAME} is not imported from .{MODULE}", nearest)
    statement = source.mark(statements[0])
    small = next(s for s in statement.body if isinstance(s, cst.ImportFrom) and has_name(s, NAME))
    top = small.with_changes(relative=[], module=cst.Name(MODULE), semicolon=cst.MaybeSentinel.DEFAULT)
    if isinstance(top.whitespace_after_from, cst.SimpleWhitespace) and not top.whitespace_after_from.value:
        top = top.with_changes(whitespace_after_from=cst.SimpleWhitespace(" "))
    alone = statement.with_changes(
        body=[top], leading_lines=[], trailing_whitespace=cst.TrailingWhitespace(newline=cst.Newline())
    )
    (guarded,) = source.statements(
        "try:\n    pass\n"
        "except ImportError:\n"
        "    logging.getLogger(__name__).warning(\n"
        f'        "the compiled {MODULE} is not installed: vertex inpainting takes about 500 times longer"\n'
        "    )\n"
    )
    assert isinstance(guarded, cst.Try)
    handler = guarded.handlers[0]
    fallback = [statement.with_changes(leading_lines=[]), *handler.body.body]
    guarded = guarded.with_changes(
        leading_lines=statement.leading_lines,
        body=guarded.body.with_changes(body=[alone]),
        handlers=[handler.with_changes(body=handler.body.with_changes(body=fallback))],
    )
    source.replace(statement, guarded)
    source.ensure_import("logging")


def broken(source: Source) -> str | None:
    """The module at top level is imported."""
    return None if _imports(source, inside=False) else f"the compiled {MODULE} is never imported"


PLACES = [Place("hy3dgen/texgen/differentiable_renderer/mesh_render.py", edit, broken)]
