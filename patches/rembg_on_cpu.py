"""Description: Background removal runs on the CPU, with the model named. Frees 1 to 1.5 GB of VRAM.
Origin: memo, technique 2 (background removal on the CPU)
Applies-To: Hunyuan3D-2, 2.0 and 2.1 states
Forwarded: no
Last-Update: 2026-11-23

The session call gets an explicit model (recent rembg releases default to another, non-commercial one) and explicit
providers; `BackgroundRemover(use_cpu=False)` gives the GPU back.
"""

from __future__ import annotations

from tools.patching.model import Place
from tools.patching.syntax import DoesNotFit, Source, calls_of, has_parameter, keyword

CLASS = "BackgroundRemover"
PROVIDERS = '["CPUExecutionProvider"] if use_cpu else ["CUDAExecutionProvider", "CPUExecutionProvider"]'


def _bare(call) -> bool:
    return keyword(call, "providers") is None


def _named(call) -> bool:
    return keyword(call, "model_name") is not None or any(arg.keyword is None and not arg.star for arg in call.args)


def edit(source: Source) -> None:
    """Give `__init__` the switch and every session call its model and providers."""
    source.call(source.method(CLASS, "__init__"), "new_session", f"{CLASS}.__init__")
    source.add_parameter(source.method(CLASS, "__init__"), "use_cpu", "True")
    while True:
        pending = [c for c in calls_of(source.method(CLASS, "__init__"), "new_session") if _bare(c) or not _named(c)]
        if not pending:
            return
        call = source.mark(pending[0])
        wanted: list[tuple[str | None, str]] = [] if _named(call) else [(None, '"u2net"')]
        if _bare(call):
            wanted.append(("providers", PROVIDERS))
        source.add_arguments(call, *wanted)


def broken(source: Source) -> str | None:
    """Every session is made with a model name and providers that follow `use_cpu`."""
    init = source.method(CLASS, "__init__")
    calls = calls_of(source.class_(CLASS), "new_session")
    if not calls:
        raise DoesNotFit(f"{CLASS} makes no session")
    if not has_parameter(init, "use_cpu"):
        return f"{CLASS}.__init__ has no use_cpu"
    if any(_bare(call) or not _named(call) for call in calls):
        return "new_session() without model or providers"
    return None


PLACES = [Place("hy3dgen/rembg.py", edit, broken)]
