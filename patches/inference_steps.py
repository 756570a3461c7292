"""Description: Step counts of delight and paint come from the configuration. They were literals in the calls.
Origin: memo, technique 5 (inference step settings)
Applies-To: Hunyuan3D-2, 2.0 and 2.1 states
Forwarded: no
Last-Update: 2026-11-23

`Hunyuan3DTexGenConfig` gets `delight_inference_steps` and `multiview_inference_steps`; a configuration without them
means the numbers that were written in the calls.
"""

from __future__ import annotations

import libcst as cst

from patches._diffusion_stages import DELIGHT, VIEWS, config_name
from tools.patching.model import Place
from tools.patching.syntax import DoesNotFit, Source, assignments, find_all, keyword

CONFIG = "Hunyuan3DTexGenConfig"
DEFAULTS = {"delight_inference_steps": "50", "multiview_inference_steps": "30"}


def _steps_call(source: Source, class_name: str) -> cst.Call:
    """The call in `__call__` that is given num_inference_steps."""
    method = source.method(class_name, "__call__")
    for call in find_all(method, cst.Call):
        if keyword(call, "num_inference_steps") is not None:
            return source.mark(call)
    raise DoesNotFit(f"{class_name}.__call__ passes no num_inference_steps")


def _place(file: str, class_name: str, setting: str) -> Place:
    def edit(source: Source) -> None:
        call = _steps_call(source, class_name)
        arg = keyword(call, "num_inference_steps")
        assert arg is not None
        if not isinstance(arg.value, cst.Integer):
            raise DoesNotFit(f"num_inference_steps in {class_name}.__call__ is not a number any more")
        default = arg.value.value
        source.replace_argument(call, "num_inference_steps", f"self.{setting}")
        config = config_name(source, class_name)
        init = source.method(class_name, "__init__")
        source.insert_at_top(init, f'self.{setting} = getattr({config}, "{setting}", {default})\n')

    def broken(source: Source) -> str | None:
        arg = keyword(_steps_call(source, class_name), "num_inference_steps")
        assert arg is not None
        return f"{class_name}.__call__ has a literal step count" if isinstance(arg.value, cst.Integer) else None

    return Place(file, edit, broken)


def edit_config(source: Source) -> None:
    """Add the two settings to the configuration."""
    init = source.method(CONFIG, "__init__")
    present = {target for _, target, _ in assignments(init)}
    code = "".join(f"self.{name} = {value}\n" for name, value in DEFAULTS.items() if f"self.{name}" not in present)
    source.insert_at_end(init, code)


def broken_config(source: Source) -> str | None:
    """Both settings are assigned."""
    present = {target for _, target, _ in assignments(source.method(CONFIG, "__init__"))}
    missing = [name for name in DEFAULTS if f"self.{name}" not in present]
    return f"{CONFIG} has no {' and no '.join(missing)}" if missing else None


PLACES = [
    Place("hy3dgen/texgen/pipelines.py", edit_config, broken_config),
    _place(*DELIGHT, "delight_inference_steps"),
    _place(*VIEWS, "multiview_inference_steps"),
]
