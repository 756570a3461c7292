"""Finding and changing places in a concrete syntax tree by name and structure.

A patch asks a `Source` for a class, a method, a call; what is missing raises `DoesNotFit` with the nearest candidate.
Formatting that an edit does not touch stays as it is, byte for byte.
"""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cache
from typing import TypeVar

import libcst as cst
import libcst.matchers as m
from libcst.metadata import MetadataWrapper, PositionProvider

from tools.patching.separators import extend

Node = TypeVar("Node", bound=cst.CSTNode)


class DoesNotFit(Exception):
    """The place a patch looks for is not in this file. ``nearest`` names what comes closest, if anything does."""

    def __init__(self, reason: str, nearest: str | None = None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.nearest = nearest

    def __str__(self) -> str:
        return f"{self.reason} (nearest: {self.nearest})" if self.nearest else self.reason


def dotted(node: cst.CSTNode | None) -> str:
    """'a.b.c' for a name or an attribute chain, '' for anything else."""
    if isinstance(node, cst.Name):
        return node.value
    if isinstance(node, cst.Attribute):
        head = dotted(node.value)
        return f"{head}.{node.attr.value}" if head else ""
    return ""


def last_name(node: cst.CSTNode | None) -> str:
    """The last part of a name or attribute: 'from_pretrained' in `X().from_pretrained`."""
    if isinstance(node, cst.Name):
        return node.value
    return node.attr.value if isinstance(node, cst.Attribute) else ""


def find_all(root: cst.CSTNode, kind: type[Node]) -> list[Node]:
    """Every node of this kind below ``root``, in source order."""
    return [node for node in walk(root) if isinstance(node, kind)]


def calls_of(root: cst.CSTNode, name: str) -> list[cst.Call]:
    """Calls whose callee ends in ``name``: `name(...)`, `x.name(...)`, `f().name(...)`."""
    return [call for call in find_all(root, cst.Call) if last_name(call.func) == name]


def keyword(call: cst.Call, name: str) -> cst.Arg | None:
    """The argument passed as ``name=``."""
    return next((arg for arg in call.args if arg.keyword is not None and arg.keyword.value == name), None)


def has_name(root: cst.CSTNode, name: str) -> bool:
    """Whether the identifier ``name`` occurs below ``root`` as a name or an attribute."""
    return any(isinstance(node, cst.Name) and node.value == name for node in walk(root))


def holds_call(root: cst.CSTNode, name: str) -> bool:
    """Whether something called ``name`` is called below ``root``."""
    return bool(calls_of(root, name))


def parameters(function: cst.FunctionDef) -> list[str]:
    """Names of the positional parameters, in order."""
    params = function.params
    return [param.name.value for param in (*params.posonly_params, *params.params)]


def has_parameter(function: cst.FunctionDef, name: str) -> bool:
    return name in parameters(function) or any(p.name.value == name for p in function.params.kwonly_params)


def _close(name: str, names: Iterable[str]) -> str | None:
    matches = difflib.get_close_matches(name, list(names), n=1, cutoff=0.5)
    return matches[0] if matches else None


class Source:
    """One parsed file under edit. ``module`` is its present state; ``anchor`` the first place that was found."""

    def __init__(self, module: cst.Module) -> None:
        self.module = self._given = module
        self.anchor: cst.CSTNode | None = None

    def mark(self, node: Node) -> Node:
        """Remember the innermost place found before the first change, for the line in a report."""
        wider = isinstance(node, cst.ClassDef | cst.FunctionDef) and self.anchor is not None
        if self.module is self._given and not (wider and not isinstance(self.anchor, cst.ClassDef | cst.FunctionDef)):
            self.anchor = node
        return node

    def line(self) -> int | None:
        """Line of the anchor in the file as it was given, 1-based."""
        if self.anchor is None:
            return None
        positions = MetadataWrapper(self._given, unsafe_skip_copy=True).resolve(PositionProvider)
        position = positions.get(self.anchor)
        return position.start.line if position is not None else None

    # finding ---------------------------------------------------------------------------------------------------

    def class_(self, name: str) -> cst.ClassDef:
        """The class ``name``, wherever in the file it is defined."""
        classes = find_all(self.module, cst.ClassDef)
        found = next((node for node in classes if node.name.value == name), None)
        if found is None:
            raise DoesNotFit(f"no class {name}", _close(name, (node.name.value for node in classes)))
        return self.mark(found)

    def method(self, class_name: str, name: str) -> cst.FunctionDef:
        """The method ``name`` defined directly in ``class_name``."""
        owner = self.class_(class_name)
        methods = [node for node in _statements(owner.body) if isinstance(node, cst.FunctionDef)]
        found = next((node for node in methods if node.name.value == name), None)
        if found is None:
            nearest = _close(name, (node.name.value for node in methods))
            raise DoesNotFit(f"class {class_name} has no method {name}", nearest)
        return self.mark(found)

    def origin(self, node: cst.CSTNode | None) -> str:
        """Like `dotted`, with the first name as it was before an `import ... as`."""
        first, *rest = dotted(node).split(".")
        return ".".join([imported_names(self.module).get(first, first), *rest])

    def calls(self, root: cst.CSTNode, name: str) -> list[cst.Call]:
        """Calls of ``name`` below ``root``, also under the name that an `import ... as` gave it."""
        given = {local for local, origin in imported_names(self.module).items() if origin.split(".")[-1] == name}
        return [c for c in find_all(root, cst.Call) if last_name(c.func) == name or dotted(c.func) in given]

    def call(self, root: cst.CSTNode, name: str, where: str) -> cst.Call:
        """The first call of ``name`` below ``root``; ``where`` names the root in the refusal."""
        found = self.calls(root, name)
        if not found:
            others = {last_name(call.func) for call in find_all(root, cst.Call)} - {""}
            raise DoesNotFit(f"{where} does not call {name}", _close(name, others))
        return self.mark(found[0])

    # changing --------------------------------------------------------------------------------------------------

    def replace(self, old: cst.CSTNode, new: cst.CSTNode) -> None:
        """Put ``new`` where ``old`` (a node of the present module) stands."""
        changed = self.module.deep_replace(old, new)
        assert isinstance(changed, cst.Module)
        self.module = changed

    def statements(self, code: str) -> list[cst.BaseStatement]:
        """Parse statements in this file's own indentation and line ends."""
        parsed = cst.parse_module(code, config=self.module.config_for_parsing)
        return [statement for statement in parsed.body if isinstance(statement, cst.BaseStatement)]

    def insert(self, target: cst.CSTNode, code: str, *, before: bool = False) -> None:
        """Put statements after (or before) the statement ``target``."""
        new = self.statements(code)
        order = (lambda node: [*new, node]) if before else (lambda node: [node, *new])
        self._visit(_Splice(target, order))

    def insert_at_top(self, function: cst.FunctionDef, code: str) -> None:
        """Put statements first in a function, behind its docstring."""
        block = as_block(function.body)
        at = 1 if block.body and _is_docstring(block.body[0]) else 0
        statements = [*block.body[:at], *self.statements(code), *block.body[at:]]
        self.replace(function.body, block.with_changes(body=statements))

    def insert_at_end(self, function: cst.FunctionDef, code: str) -> None:
        """Put statements last in a function, before a `return` that ends it."""
        block = as_block(function.body)
        at = len(block.body) - m.matches(block.body[-1], m.SimpleStatementLine(body=[m.Return()]))
        statements = [*block.body[:at], *self.statements(code), *block.body[at:]]
        self.replace(function.body, block.with_changes(body=statements))

    def add_member(self, owner: cst.ClassDef, code: str) -> None:
        """Put a definition last in a class, one blank line before it."""
        body = owner.body
        if not isinstance(body, cst.IndentedBlock):
            raise DoesNotFit(f"class {owner.name.value} is written on one line")
        first, *rest = self.statements(code)
        lines = [cst.EmptyLine(indent=False)]
        spaced = first.with_changes(leading_lines=lines)
        self.replace(body, body.with_changes(body=[*body.body, spaced, *rest]))

    def add_parameter(self, function: cst.FunctionDef, name: str, default: str) -> None:
        """Give a function one more keyword parameter, before ``*args`` and ``**kwargs``; nothing if it has it."""
        if has_parameter(function, name):
            return
        params = function.params
        tight = cst.AssignEqual(cst.SimpleWhitespace(""), cst.SimpleWhitespace(""))
        param = cst.Param(name=cst.Name(name), default=cst.parse_expression(default), equal=tight)
        followed = params.star_kwarg is not None
        if isinstance(params.star_arg, cst.Param | cst.ParamStar):
            if not params.kwonly_params and isinstance(params.star_arg, cst.Param):
                star, param = extend([params.star_arg], [param], followed=followed)
                new = params.with_changes(star_arg=star, kwonly_params=[param])
            else:
                new = params.with_changes(kwonly_params=extend(params.kwonly_params, [param], followed=followed))
        elif params.params or not params.posonly_params:
            new = params.with_changes(params=extend(params.params, [param], followed=followed))
        else:
            raise DoesNotFit(f"{function.name.value} takes its parameters by position only")
        self.replace(params, new)

    def add_arguments(self, call: cst.Call, *arguments: tuple[str | None, str]) -> None:
        """Give a call further arguments (name or None, expression); positional ones go first, the rest last."""
        made = [_argument(name, code) for name, code in arguments]
        positional = [arg for arg in made if arg.keyword is None]
        named = [arg for arg in made if arg.keyword is not None]
        present = list(call.args)
        at = next((index for index, arg in enumerate(present) if arg.star == "**"), len(present))
        args = [*extend(present[:at], named, followed=at < len(present)), *present[at:]] if named else present
        args = [*extend([], positional, followed=bool(args)), *args] if positional else args
        self.replace(call, call.with_changes(args=args))

    def replace_argument(self, call: cst.Call, name: str, code: str) -> None:
        """Give the keyword argument ``name`` of a call another value."""
        arg = keyword(call, name)
        assert arg is not None
        self.replace(arg, arg.with_changes(value=cst.parse_expression(code)))

    def ensure_import(self, name: str) -> None:
        """`import name` at the top, unless some statement at module level imports it already."""
        for node in _at_import(self.module.body):
            if isinstance(node, cst.Import) and any(
                dotted(alias.name) == name and alias.asname is None for alias in node.names
            ):
                return
        self._insert_toplevel(f"import {name}\n", after=self._is_import_head)

    def insert_after_imports(self, code: str) -> None:
        """Put a definition behind the last import at module level, two blank lines around it."""
        body = list(self.module.body)
        at = 0
        for index, node in enumerate(body):
            if _is_import(node) or _is_guarded_import(node):
                at = index + 1
        first, *rest = self.statements(code)
        blank = [cst.EmptyLine(indent=False)] * 2
        new = [first.with_changes(leading_lines=blank), *rest]
        following = body[at:]
        if following and not any(line.comment is None for line in _leading(following[0])[:1]):
            following[0] = following[0].with_changes(leading_lines=[*blank, *_leading(following[0])])
        self.module = self.module.with_changes(body=[*body[:at], *new, *following])

    def _insert_toplevel(self, code: str, after: Callable[[cst.CSTNode], bool]) -> None:
        body = list(self.module.body)
        at = 0
        while at < len(body) and after(body[at]):
            at += 1
        new = self.statements(code)
        self.module = self.module.with_changes(body=[*body[:at], *new, *body[at:]])

    @staticmethod
    def _is_import_head(node: cst.CSTNode) -> bool:
        """Docstring and `from __future__` lines, behind which a new import may stand."""
        if not isinstance(node, cst.SimpleStatementLine):
            return False
        if _is_docstring(node):
            return True
        first = node.body[0] if node.body else None
        return isinstance(first, cst.ImportFrom) and dotted(first.module) == "__future__"

    def _visit(self, transformer: _Splice) -> None:
        changed = self.module.visit(transformer)
        if not transformer.done:
            raise AssertionError("the statement to insert at is not in the module")
        assert isinstance(changed, cst.Module)
        self.module = changed


class _Splice(cst.CSTTransformer):
    """Replaces one statement by several."""

    def __init__(self, target: cst.CSTNode, order: Callable[[cst.CSTNode], Sequence[cst.CSTNode]]) -> None:
        super().__init__()
        self.target, self.order, self.done = target, order, False

    def on_leave(self, original_node: cst.CSTNode, updated_node: cst.CSTNode):
        if original_node is self.target:
            self.done = True
            return cst.FlattenSentinel(self.order(updated_node))
        return updated_node


_SPACING = {
    "leading_lines",
    "lines_after_decorators",
    "trailing_whitespace",
    "header",
    "footer",
    "comma",
    "lpar",
    "rpar",
}


@cache
def _field_names(kind: type[cst.CSTNode]) -> tuple[str, ...]:
    names = (entry.name for entry in dataclasses.fields(kind))
    return tuple(name for name in names if not name.startswith("whitespace") and name not in _SPACING)


def walk(root: cst.CSTNode) -> Iterator[cst.CSTNode]:
    """``root`` and everything below it but spacing, in source order.

    Reads fields directly: ten times faster than a visitor.
    """
    pending = [root]
    while pending:
        node = pending.pop()
        yield node
        below: list[cst.CSTNode] = []
        for name in _field_names(type(node)):
            value = getattr(node, name)
            if isinstance(value, cst.CSTNode):
                below.append(value)
            elif isinstance(value, list | tuple):
                below += [item for item in value if isinstance(item, cst.CSTNode)]
        pending += reversed(below)


def assignments(root: cst.CSTNode) -> list[tuple[cst.SimpleStatementLine, str, cst.BaseExpression]]:
    """Assignments to single names below ``root`` as (statement, dotted target, value), in source order."""
    found = []
    for statement in find_all(root, cst.SimpleStatementLine):
        for small in statement.body:
            if isinstance(small, cst.Assign):
                found += [(statement, dotted(target.target), small.value) for target in small.targets]
            elif isinstance(small, cst.AnnAssign) and small.value is not None:
                found.append((statement, dotted(small.target), small.value))
    return found


def as_block(body: cst.BaseSuite) -> cst.IndentedBlock:
    """A body as an indented block; one that stands on the line of its head gets a line of its own."""
    if isinstance(body, cst.IndentedBlock):
        return body
    assert isinstance(body, cst.SimpleStatementSuite)
    line = cst.SimpleStatementLine(body=body.body, trailing_whitespace=body.trailing_whitespace)
    return cst.IndentedBlock(body=[line])


def imported_names(module: cst.Module) -> dict[str, str]:
    """{local name: imported name} of every `import ... as` and `from ... import ... as` of a file."""
    found = {}
    for node in walk(module):
        if isinstance(node, cst.ImportAlias) and node.asname is not None:
            found[dotted(node.asname.name)] = dotted(node.name)
    return found


def _at_import(body: Sequence[cst.CSTNode]) -> Iterator[cst.CSTNode]:
    """Small statements that run when the module is imported, those inside `try` and `if` included."""
    for node in body:
        if isinstance(node, cst.SimpleStatementLine):
            yield from node.body
        elif isinstance(node, cst.Try) or (isinstance(node, cst.If) and not has_name(node.test, "TYPE_CHECKING")):
            yield from _at_import(node.body.body)


def _statements(block: cst.BaseSuite) -> Iterator[cst.CSTNode]:
    """Statements of a block, those inside `if` and `try` at its level included."""
    for node in block.body:
        yield node
        if isinstance(node, cst.If | cst.Try):
            yield from find_all(node, cst.FunctionDef)


def _is_docstring(node: cst.CSTNode) -> bool:
    return m.matches(node, m.SimpleStatementLine(body=[m.Expr(m.SimpleString() | m.ConcatenatedString())]))


def _is_import(node: cst.CSTNode) -> bool:
    return m.matches(node, m.SimpleStatementLine(body=[m.Import() | m.ImportFrom(), m.ZeroOrMore()]))


def _is_guarded_import(node: cst.CSTNode) -> bool:
    """A `try:` or `if:` at module level that does nothing but choose between imports."""
    if not isinstance(node, cst.Try | cst.If):
        return False
    return bool(find_all(node, cst.Import) or find_all(node, cst.ImportFrom)) and not find_all(node, cst.ClassDef)


def _leading(node: cst.CSTNode) -> list[cst.EmptyLine]:
    return list(getattr(node, "leading_lines", ()))


def _argument(name: str | None, code: str) -> cst.Arg:
    value = cst.parse_expression(code)
    if name is None:
        return cst.Arg(value)
    tight = cst.AssignEqual(cst.SimpleWhitespace(""), cst.SimpleWhitespace(""))
    return cst.Arg(value, keyword=cst.Name(name), equal=tight)
