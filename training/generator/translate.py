"""Scalar numba functions written as CUDA C: the same source for the CPU and the GPU.

Only what the generator's scalar functions use is understood: numbers, rows of floats (``np.ndarray``), the two tables
``rows`` and ``materials`` (``Table``: rows of equal length), tuples as results, ``for`` over ranges, ``if``, ``while``
and ``math``. Anything else is refused with its line, never guessed. Floats become 32-bit.
"""

from __future__ import annotations

import ast
import inspect
import math
import textwrap
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from hy3dgen.errors import UsageError

TABLES = ("rows", "materials")
PRELUDE = """\
#ifndef DEVICE
#define DEVICE static __device__
#define APART static __device__ __noinline__
#endif
struct Table { const float* at; int count; int width; };
"""
_C_TYPES = {"float": "float", "int": "int", "bool": "bool", "row": "const float*", "table": "Table"}
_MATH = {name: f"{name}f" for name in ("sqrt", "sin", "cos", "tan", "atan2", "hypot", "floor", "exp")}
_OPERATORS: dict[type, str] = {
    ast.Add: "+", ast.Sub: "-", ast.Mult: "*", ast.BitAnd: "&", ast.BitOr: "|", ast.BitXor: "^", ast.LShift: "<<",
    ast.RShift: ">>", ast.Lt: "<", ast.LtE: "<=", ast.Gt: ">", ast.GtE: ">=", ast.Eq: "==", ast.NotEq: "!=",
}  # fmt: skip
_RANK = {"bool": 0, "int": 1, "float": 2}

Value = tuple[str, Any]  # an expression's code; its type, a word of _C_TYPES or a tuple of them


@dataclass(frozen=True)
class Signature:
    """Name in C, types of the arguments and of the result."""

    name: str
    arguments: tuple[str, ...]
    result: Any


def cuda_source(functions: Iterable[Any], *, apart: Iterable[Any] = ()) -> str:
    """C of compiled (``njit``) functions and of all that they call, each before its first use.

    apart: functions that are called and never inlined, which keeps the program small and its compilation short.
    Raises UsageError for a function with something in it that is not understood.
    """
    done: dict[Any, Signature] = {}
    parts = [PRELUDE]
    for function in functions:
        _add(function, done, parts, set(apart))
    return "\n".join(parts)


def _add(function: Any, done: dict[Any, Signature], parts: list[str], apart: set[Any]) -> None:
    if function in done:
        return
    plain = function.py_func
    tree = ast.parse(textwrap.dedent(inspect.getsource(plain))).body[0]
    assert isinstance(tree, ast.FunctionDef)
    names = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
    for name in sorted(names):
        called = plain.__globals__.get(name)
        if hasattr(called, "py_func"):
            _add(called, done, parts, apart)
    written = _Function(tree, plain.__globals__, done)
    done[function] = written.signature
    parts.append(written.code("APART" if function in apart else "DEVICE"))


def _annotated(annotation: ast.expr | None, name: str) -> Any:
    text = ast.unparse(annotation) if annotation else ""
    if text == "np.ndarray":
        return "table" if name in TABLES else "row"
    if text in ("float", "int", "bool"):
        return text
    if text.startswith("tuple["):
        inner = annotation.slice  # type: ignore[union-attr]
        return tuple(ast.unparse(item) for item in inner.elts)
    raise UsageError(f"'{name}' is annotated '{text}', which cannot be written in C")


class _Function:
    """One function being written."""

    def __init__(self, tree: ast.FunctionDef, scope: dict[str, Any], known: dict[Any, Signature]) -> None:
        self._tree, self._scope, self._known = tree, scope, known
        constants = [node.value for node in ast.walk(tree) if isinstance(node, ast.Constant)]
        wide = any(type(value) is int and value > 2**31 - 1 for value in constants)
        self._integer = "long long" if wide else "int"
        self._types: dict[str, Any] = {}
        for argument in tree.args.args:
            self._types[argument.arg] = _annotated(argument.annotation, argument.arg)
        name = f"{scope['__name__'].rsplit('.', 1)[-1]}_{tree.name.strip('_')}"
        self.signature = Signature(name, tuple(self._types.values()), _annotated(tree.returns, "the result"))
        self._counter = 0

    def code(self, qualifier: str) -> str:
        arguments = dict(self._types)
        while True:  # types of variables, until they no longer change
            before = dict(self._types)
            self._counter = 0
            body = self._block(self._tree.body, 1)
            if self._types == before:
                break
        result, lines = self.signature.result, []
        if isinstance(result, tuple):
            fields = " ".join(f"{self._c(kind)} v{i};" for i, kind in enumerate(result))
            lines.append(f"struct {self.signature.name}_t {{ {fields} }};")
        head = ", ".join(f"{self._c(kind)} {_local(name)}" for name, kind in arguments.items())
        lines.append(f"{qualifier} {self._result()} {self.signature.name}({head}) {{")
        for name, kind in self._types.items():
            if name not in arguments:
                lines.append(f"  {self._c(kind)} {_local(name)} = 0;")
        return "\n".join([*lines, *body, "}", ""])

    def _c(self, kind: str) -> str:
        return self._integer if kind == "int" else _C_TYPES[kind]

    def _result(self) -> str:
        result = self.signature.result
        return f"{self.signature.name}_t" if isinstance(result, tuple) else self._c(result)

    def _refuse(self, node: ast.AST) -> UsageError:
        line = getattr(node, "lineno", 0)
        return UsageError(f"'{self._tree.name}', line {line}: '{ast.unparse(node)}' cannot be written in C")

    # statements

    def _block(self, statements: list[ast.stmt], depth: int) -> list[str]:
        lines: list[str] = []
        for statement in statements:
            lines += ["  " * depth + line for line in self._statement(statement)]
        return lines

    def _statement(self, node: ast.stmt) -> list[str]:
        match node:
            case ast.Expr(value=ast.Constant()):
                return []
            case ast.Return(value=ast.Tuple(elts=items)):
                values = ", ".join(
                    self._as(item, kind) for item, kind in zip(items, self.signature.result, strict=True)
                )
                return [f"return {self._result()}{{{values}}};"]
            case ast.Return(value=ast.Call() as call) if isinstance(self.signature.result, tuple):
                return self._passed_on(call)
            case ast.Return(value=value) if value is not None:
                return [f"return {self._as(value, self.signature.result)};"]
            case ast.Assign(targets=targets, value=value):
                return self._assigned(targets, value)
            case ast.AugAssign(target=ast.Name(id=name), op=op, value=value):
                return self._assigned([ast.Name(name)], ast.BinOp(ast.Name(name), op, value))
            case ast.If(test=test, body=body, orelse=other):
                lines = [f"if ({self._as(test, 'bool')}) {{", *self._block(body, 1)]
                return [*lines, "} else {", *self._block(other, 1), "}"] if other else [*lines, "}"]
            case ast.While(test=test, body=body, orelse=[]):
                return [f"while ({self._as(test, 'bool')}) {{", *self._block(body, 1), "}"]
            case ast.For(
                target=ast.Name(id=name), iter=ast.Call(func=ast.Name(id="range"), args=ends), body=body, orelse=[]
            ):
                return self._loop(name, ends, body)
            case ast.Continue():
                return ["continue;"]
            case ast.Break():
                return ["break;"]
        raise self._refuse(node)

    def _passed_on(self, call: ast.Call) -> list[str]:
        """A result tuple handed through."""
        code, kinds = self._expression(call)
        if kinds != self.signature.result:
            raise self._refuse(call)
        fields = ", ".join(f"r.v{i}" for i in range(len(kinds)))
        return ["{", f"  auto r = {code};", f"  return {self._result()}{{{fields}}};", "}"]

    def _loop(self, name: str, ends: list[ast.expr], body: list[ast.stmt]) -> list[str]:
        self._counter += 1
        inner = f"k{self._counter}"
        first = self._as(ends[0], "int") if len(ends) == 2 else "0"
        head = f"for ({self._integer} {inner} = {first}; {inner} < {self._as(ends[-1], 'int')}; ++{inner}) {{"
        if name != "_":
            self._widen(name, "int")
            return [head, f"  {_local(name)} = {inner};", *self._block(body, 1), "}"]
        return [head, *self._block(body, 1), "}"]

    def _assigned(self, targets: list[ast.expr], value: ast.expr) -> list[str]:
        if len(targets) == 1 and isinstance(targets[0], ast.Tuple):
            return self._unpacked(targets[0].elts, value)
        lines = []
        code, kind = self._expression(value)
        for target in targets:
            if not isinstance(target, ast.Name) or isinstance(kind, tuple):
                raise self._refuse(target)
            self._widen(target.id, kind)
            lines.append(f"{_local(target.id)} = {code};")
        return lines

    def _unpacked(self, targets: list[ast.expr], value: ast.expr) -> list[str]:
        names = [target.id for target in targets if isinstance(target, ast.Name)]
        if len(names) != len(targets):
            raise self._refuse(value)
        if isinstance(value, ast.Tuple):  # all values first: they may use what is being replaced
            pairs = [self._expression(item) for item in value.elts]
            lines = [f"  auto t{i} = {code};" for i, (code, _) in enumerate(pairs)]
            kinds = [kind for _, kind in pairs]
            sources = [f"t{i}" for i in range(len(pairs))]
        else:
            code, kinds = self._expression(value)
            if not isinstance(kinds, tuple):
                raise self._refuse(value)
            lines = [f"  auto r = {code};"]
            sources = [f"r.v{i}" for i in range(len(kinds))]
        for name, kind, source in zip(names, kinds, sources, strict=True):
            if name != "_":
                self._widen(name, kind)
                lines.append(f"  {_local(name)} = {source};")
        return ["{", *lines, "}"]

    def _widen(self, name: str, kind: str) -> None:
        old = self._types.get(name, kind)
        if old != kind and not (old in _RANK and kind in _RANK):
            raise UsageError(f"'{self._tree.name}': '{name}' is {old} here and {kind} there")
        self._types[name] = old if old == kind or _RANK[old] > _RANK[kind] else kind

    # expressions

    def _as(self, node: ast.expr, kind: str) -> str:
        code, found = self._expression(node)
        if found == kind or (kind == "bool" and found in _RANK):
            return code
        if found in _RANK and kind in _RANK:
            return f"({self._c(kind)})({code})"
        raise self._refuse(node)

    def _expression(self, node: ast.expr) -> Value:
        match node:
            case ast.Constant(value=value):
                return _literal(value)
            case ast.Name(id=name):
                return self._named(name, node)
            case ast.Attribute(value=ast.Name(id="math"), attr=name):
                return _literal(getattr(math, name))
            case ast.Subscript():
                return self._subscript(node)
            case ast.Call():
                return self._call(node)
            case ast.UnaryOp(op=ast.USub(), operand=operand):
                code, kind = self._expression(operand)
                return f"(-{code})", kind
            case ast.UnaryOp(op=ast.Not(), operand=operand):
                return f"(!{self._as(operand, 'bool')})", "bool"
            case ast.BinOp():
                return self._binary(node)
            case ast.Compare(left=left, ops=[op], comparators=[right]) if type(op) in _OPERATORS:
                one, two = self._expression(left)[0], self._expression(right)[0]
                return f"({one} {_OPERATORS[type(op)]} {two})", "bool"
            case ast.BoolOp(op=op, values=values):
                sign = " && " if isinstance(op, ast.And) else " || "
                return "(" + sign.join(self._as(value, "bool") for value in values) + ")", "bool"
            case ast.IfExp(test=test, body=body, orelse=other):
                (one, a), (two, b) = self._expression(body), self._expression(other)
                return f"({self._as(test, 'bool')} ? {one} : {two})", self._joined(node, a, b)
        raise self._refuse(node)

    def _named(self, name: str, node: ast.expr) -> Value:
        if name in self._types:
            return _local(name), self._types[name]
        value = self._scope.get(name)
        if type(value) in (int, float, bool):
            return _literal(value)
        raise self._refuse(node)

    def _joined(self, node: ast.expr, *kinds: Any) -> str:
        if any(kind not in _RANK for kind in kinds):
            raise self._refuse(node)
        return max(kinds, key=lambda kind: _RANK[kind])

    def _subscript(self, node: ast.Subscript) -> Value:
        match node.value, node.slice:
            case ast.Attribute(value=ast.Name(id=name), attr="shape"), ast.Constant(value=0):
                if self._types.get(name) != "table":
                    raise self._refuse(node)
                return f"{_local(name)}.count", "int"
            case ast.Call() as call, ast.Constant(value=int(place)):
                code, kinds = self._expression(call)
                return f"{code}.v{place}", kinds[place]
            case ast.Name(id=name), ast.Slice(lower=lower, step=None) if self._types.get(name) == "row":
                return f"({_local(name)} + {self._as(lower, 'int') if lower else 0})", "row"
            case ast.Name(id=name), place if self._types.get(name) == "row":
                return f"{_local(name)}[{self._as(place, 'int')}]", "float"
            case ast.Name(id=name), place if self._types.get(name) == "table":
                table = _local(name)
                return f"({table}.at + ({self._as(place, 'int')}) * {table}.width)", "row"
        raise self._refuse(node)

    def _binary(self, node: ast.BinOp) -> Value:
        if isinstance(node.op, ast.Div):
            return f"({self._as(node.left, 'float')} / {self._as(node.right, 'float')})", "float"
        if isinstance(node.op, ast.Pow):
            return f"powf({self._as(node.left, 'float')}, {self._as(node.right, 'float')})", "float"
        (one, a), (two, b) = self._expression(node.left), self._expression(node.right)
        kind = self._joined(node, a, b)
        if isinstance(node.op, (ast.Mod, ast.FloorDiv)) and kind == "int":  # of numbers that are never negative
            return f"({one} {'%' if isinstance(node.op, ast.Mod) else '/'} {two})", kind
        if type(node.op) in _OPERATORS:
            return f"({one} {_OPERATORS[type(node.op)]} {two})", "int" if kind == "bool" else kind
        raise self._refuse(node)

    def _call(self, node: ast.Call) -> Value:
        match node.func:
            case ast.Attribute(value=ast.Name(id="math"), attr=name) if name in _MATH:
                values = ", ".join(self._as(argument, "float") for argument in node.args)
                return f"{_MATH[name]}({values})", "float"
            case ast.Name(id=("float" | "int" | "bool") as name):
                return f"({self._c(name)})({self._expression(node.args[0])[0]})", name
            case ast.Name(id="abs"):
                code, kind = self._expression(node.args[0])
                return (f"fabsf({code})", "float") if kind == "float" else (f"abs({code})", "int")
            case ast.Name(id=("min" | "max") as name):
                return self._extreme(name, node)
            case ast.Name(id=name):
                signature = self._known.get(self._scope.get(name))
                if signature is None or len(signature.arguments) != len(node.args):
                    raise self._refuse(node)
                pairs = zip(node.args, signature.arguments, strict=True)
                values = ", ".join(self._as(argument, kind) for argument, kind in pairs)
                return f"{signature.name}({values})", signature.result
        raise self._refuse(node)

    def _extreme(self, name: str, node: ast.Call) -> Value:
        values = [self._expression(argument) for argument in node.args]
        if self._joined(node, *(kind for _, kind in values)) != "float":
            code = values[0][0]
            for other, _ in values[1:]:
                code = f"(({code}) {'<' if name == 'min' else '>'} ({other}) ? ({code}) : ({other}))"
            return code, "int"
        code = self._as(node.args[0], "float")
        for argument in node.args[1:]:
            code = f"f{name}f({code}, {self._as(argument, 'float')})"
        return code, "float"


def _local(name: str) -> str:
    """Variables with an underscore, so that none is a word of C."""
    return f"{name}_"


def _literal(value: Any) -> Value:
    if isinstance(value, bool):
        return ("true" if value else "false"), "bool"
    if isinstance(value, int):
        return (f"{value}LL" if abs(value) > 2**31 - 1 else str(value)), "int"
    if isinstance(value, float) and math.isfinite(value):
        return f"{value!r}f", "float"
    raise UsageError(f"the constant {value!r} cannot be written in C")
