"""The two diffusion stages of texture generation, where several patches have their places. Not a patch itself."""

from __future__ import annotations

import libcst as cst

from tools.patching.syntax import DoesNotFit, Source, assignments, dotted, last_name, parameters

DELIGHT = ("hy3dgen/texgen/utils/dehighlight_utils.py", "Light_Shadow_Remover")
VIEWS = ("hy3dgen/texgen/utils/multiview_utils.py", "Multiview_Diffusion_Net")


def made_pipeline(source: Source, class_name: str) -> tuple[cst.SimpleStatementLine, str, cst.Call]:
    """Where `__init__` makes the diffusion pipeline: (statement, dotted target, call of from_pretrained).

    When several networks are loaded, the one made by a class called ...Pipeline counts.
    """
    init = source.method(class_name, "__init__")
    found = [
        (statement, target, value)
        for statement, target, value in assignments(init)
        if isinstance(value, cst.Call) and last_name(value.func) == "from_pretrained" and target
    ]
    pipelines = [entry for entry in found if "Pipeline" in dotted(entry[2].func)]
    if not pipelines:
        nearest = f"{dotted(found[0][2].func)}(...)" if found else None
        raise DoesNotFit(f"{class_name}.__init__ assigns no ...Pipeline.from_pretrained(...)", nearest)
    source.mark(pipelines[0][0])
    return pipelines[0]


def config_name(source: Source, class_name: str) -> str:
    """Name of the configuration parameter of `__init__`."""
    names = parameters(source.method(class_name, "__init__"))
    if len(names) < 2:
        raise DoesNotFit(f"{class_name}.__init__ takes no configuration")
    return "config" if "config" in names else names[1]
