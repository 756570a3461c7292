"""A report in words, for people: what was made, from what, how long it took and what to know about it."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from typing import Any


def describe(report: Mapping[str, Any]) -> str:
    """The report as lines of plain text; sections that the report lacks (as inside a GLB) are left out."""
    sections = (_heading, _mesh, _options, _stages, _techniques, _warnings, _outputs)
    parts = [section(report) for section in sections]
    return "\n\n".join(part for part in parts if part)


def summary(report: Mapping[str, Any]) -> str:
    """One line about the mesh: faces, vertices, whether it is closed, how much of the texture was seen."""
    mesh = report.get("mesh", {})
    words = [f"{mesh.get('faces', 0):,} faces", f"{mesh.get('vertices', 0):,} vertices"]
    words.append("watertight" if mesh.get("watertight") else "not watertight")
    coverage = mesh.get("coverage") or {}
    if coverage:
        words.append(", ".join(f"{name} {share:.0%}" for name, share in coverage.items()) + " of the texture")
    return " · ".join(words)


def _heading(report: Mapping[str, Any]) -> str:
    lines = [f"hy3dgen {report.get('version', '?')}, model {report.get('model', '?')}, seed {report.get('seed', '?')}"]
    if "started" in report:
        lines.append(f"started {report['started']}, took {_duration(report.get('seconds', 0.0))}")
    compute = report.get("compute") or {}
    machine = report.get("machine") or {}
    where = machine.get("device") or compute.get("device")
    if where:
        lines.append(f"on {where}, {compute.get('dtype', '')}, attention {compute.get('attention', '?')}")
    if report.get("peak_host_mb"):
        lines.append(f"peak host memory {report['peak_host_mb']:,.0f} MiB")
    for source in report.get("inputs", []):
        lines.append(f"input ({source['role']}): {source.get('path') or 'sha256 ' + source['sha256'][:16]}")
    if report.get("command"):
        lines.append("command: " + shlex.join(report["command"]))
    return "\n".join(lines)


def _mesh(report: Mapping[str, Any]) -> str:
    mesh = dict(report.get("mesh") or {})
    if not mesh:
        return ""
    lines = ["Mesh", f"  {summary(report)}"]
    shown = ("vertices", "faces", "watertight", "coverage")
    lines += [f"  {name.replace('_', ' ')}: {_value(value)}" for name, value in mesh.items() if name not in shown]
    return "\n".join(lines)


def _options(report: Mapping[str, Any]) -> str:
    options = report.get("options") or {}
    lines = [f"  {name.replace('_', '-')} {_value(value)}" for name, value in options.items()]
    return "\n".join(["Options", *lines]) if lines else ""


def _stages(report: Mapping[str, Any]) -> str:
    stages = report.get("stages") or []
    if not stages:
        return ""
    lines = ["Stages", f"  {'stage':<10}{'seconds':>9}{'allocated MiB':>15}{'reserved MiB':>14}  steps"]
    for stage in stages:
        steps = f"{stage['steps']} {stage['unit']}" if stage.get("steps") else ""
        lines.append(
            f"  {stage['name']:<10}{stage['seconds']:>9.2f}{stage['peak_allocated_mb']:>15,.0f}"
            f"{stage['peak_reserved_mb']:>14,.0f}  {steps}"
        )
        lines += [f"    levers: {', '.join(stage['levers'])}"] if stage.get("levers") else []
        lines += [f"    {_technique(technique)}" for technique in stage.get("techniques", [])]
    return "\n".join(lines)


def _techniques(report: Mapping[str, Any]) -> str:
    lines = [f"  {_technique(technique)}" for technique in report.get("techniques") or []]
    return "\n".join(["Techniques", *lines]) if lines else ""


def _technique(technique: Mapping[str, Any]) -> str:
    done = "applied" if technique["applied"] else "skipped"
    why = f", {technique['why']}" if technique["why"] else ""
    return f"{technique['technique']}: {done}{why}"


def _warnings(report: Mapping[str, Any]) -> str:
    warnings = report.get("warnings") or []
    return "\n".join(["Warnings", *(f"  {warning}" for warning in warnings)]) if warnings else ""


def _outputs(report: Mapping[str, Any]) -> str:
    outputs = report.get("outputs") or []
    lines = [f"  {o['role']}: {o['path']} ({o['size_bytes'] / 1e6:.2f} MB)" for o in outputs]
    return "\n".join(["Files", *lines]) if lines else ""


def _value(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {_value(item)}" for name, item in value.items())
    if isinstance(value, (list, tuple)):
        return " x ".join(_value(item) for item in value) or "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if value is None:
        return "-"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes else f"{seconds:.1f} s"
