"""Description: HY3DGEN_COMPILE=1 compiles the denoisers.
  Off unless asked for: the first run takes about 30 s longer.
Origin: memo, technique 9 (torch.compile)
Applies-To: Hunyuan3D-2, 2.0 and 2.1 states
Forwarded: no
Last-Update: 2026-11-23

Modules are compiled in place (`module.compile()`), so that attribute access and state dicts stay as they are.
"""

from __future__ import annotations

from patches._diffusion_stages import DELIGHT, VIEWS
from tools.patching.model import Place
from tools.patching.syntax import DoesNotFit, Source, assignments, holds_call

FLAG = "HY3DGEN_COMPILE"


def _place(file: str, class_name: str, owner: str, module: str) -> Place:
    def edit(source: Source) -> None:
        init = source.method(class_name, "__init__")
        made = [(s, t) for s, t, _ in assignments(init) if t == owner]
        if not made:
            raise DoesNotFit(f"{class_name}.__init__ does not assign {owner}")
        source.mark(made[-1][0])
        source.insert_at_end(init, f'if os.environ.get("{FLAG}") == "1":\n    {owner}{module}.compile()\n')
        source.ensure_import("os")

    def broken(source: Source) -> str | None:
        init = source.method(class_name, "__init__")
        return None if holds_call(init, "compile") else f"{class_name} does not read {FLAG}"

    return Place(file, edit, broken)


PLACES = [
    _place("hy3dgen/shapegen/pipelines.py", "Hunyuan3DDiTPipeline", "self.model", ""),
    _place(*DELIGHT, "self.pipeline", ".unet"),
    _place(*VIEWS, "self.pipeline", ".unet"),
]
