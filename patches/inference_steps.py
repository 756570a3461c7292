"""Description: Step counts of delight and paint come from the configuration. They were literals in the calls.
Origin: memo, technique 5 (inference step settings)
Applies-To: Hunyuan3D-2, 2.0 and 2.1 states
Forwarded: no
Last-Update: 2026-11-23

`Hunyuan3DTexGenConfig` gets `delight_inference_steps` and `multiview_inference_steps`, read at every call. None, as
they are at first, means the numbers that were written in the calls.
"""

from __future__ import annotations

import libcst as cst

from patches._diffusion_stages import DELIGHT, VIEWS, config_name
from tools.patching.model import Place
from tools.patching.syntax import DoesNotFit, Source, assignments, dotted, find_all

CONFIG = "Hunyuan3DTexGenConfig"
SETTINGS = ("delight_inference_steps", "multiview_inference_steps")
NAME = "num_inference_steps"


def _given(source: Source, class_name: str) -> list[cst.BaseExpression]:
    """Every value that `__call__` gives to num_inference_steps: as an argument, in a dictionary, or as a local."""
    method = source.method(class_name, "__call__")
    values: list[cst.BaseExpression] = []
    for arg in find_all(method, cst.Arg):
        if arg.keyword is not None and arg.keyword.value == NAME:
            values.append(arg.value)
    for element in find_all(method, cst.DictElement):
        if isinstance(element.key, cst.SimpleString) and element.key.raw_value == NAME:
            values.append(element.value)
    for assign in find_all(method, cst.Assign):
        for target in assign.targets:
            keys = find_all(target.target, cst.SimpleString) if isinstance(target.target, cst.Subscript) else []
            if any(key.raw_value == NAME for key in keys):
                values.append(assign.value)
    locals_ = {dotted(value) for value in values if isinstance(value, cst.Name)}
    values += [value for _, target, value in assignments(method) if target in locals_]
    if not values:
        raise DoesNotFit(f"{class_name}.__call__ passes no {NAME}")
    source.mark(values[0])
    return values


def _literals(source: Source, class_name: str) -> list[cst.Integer]:
    return [value for value in _given(source, class_name) if isinstance(value, cst.Integer)]


def _config_attribute(source: Source, class_name: str) -> str:
    """Where the object keeps its configuration; kept under a new name if it does not."""
    config = config_name(source, class_name)
    assigned = {target: value for _, target, value in assignments(source.method(class_name, "__init__"))}
    for target, value in assigned.items():
        if target.startswith("self.") and dotted(value) == config:
            return target
    attribute = "self.texgen_config" if "self.config" in assigned else "self.config"
    source.insert_at_top(source.method(class_name, "__init__"), f"{attribute} = {config}\n")
    return attribute


def _place(file: str, class_name: str, setting: str) -> Place:
    def edit(source: Source) -> None:
        if not _literals(source, class_name):
            raise DoesNotFit(f"{class_name}.__call__ passes no number as {NAME}")
        attribute = _config_attribute(source, class_name)
        while literals := _literals(source, class_name):
            choice = f'(getattr({attribute}, "{setting}", None) or {literals[0].value})'
            source.replace(literals[0], cst.parse_expression(choice))

    def broken(source: Source) -> str | None:
        return f"{class_name}.__call__ has a literal step count" if _literals(source, class_name) else None

    return Place(file, edit, broken)


def edit_config(source: Source) -> None:
    """Add the two settings to the configuration."""
    init = source.method(CONFIG, "__init__")
    present = {target for _, target, _ in assignments(init)}
    source.insert_at_end(init, "".join(f"self.{n} = None\n" for n in SETTINGS if f"self.{n}" not in present))


def broken_config(source: Source) -> str | None:
    """Both settings are assigned."""
    present = {target for _, target, _ in assignments(source.method(CONFIG, "__init__"))}
    missing = [name for name in SETTINGS if f"self.{name}" not in present]
    return f"{CONFIG} has no {' and no '.join(missing)}" if missing else None


PLACES = [
    Place("hy3dgen/texgen/pipelines.py", edit_config, broken_config),
    _place(*DELIGHT, SETTINGS[0]),
    _place(*VIEWS, SETTINGS[1]),
]
