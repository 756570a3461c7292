"""Commas: putting parameters and arguments behind others in the manner of those, comments left where they are."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import libcst as cst

_COMMA = cst.Comma(whitespace_after=cst.SimpleWhitespace(" "))


def extend(items: Sequence[Any], new: Sequence[Any], *, followed: bool) -> list[Any]:
    """``items`` and then ``new``, separated as the items are.

    followed: whether something else (such as `**kwargs`) comes behind, so that the last one needs a comma too
    """
    given = next((item.comma for item in items[:-1] if isinstance(item.comma, cst.Comma)), _COMMA)
    between = _bare(given)
    made = [item.with_changes(comma=between) for item in new]
    if not items:
        made[-1] = made[-1].with_changes(comma=_COMMA if followed else cst.MaybeSentinel.DEFAULT)
        return made
    before, last = list(items[:-1]), items[-1]
    if isinstance(last.comma, cst.Comma) and followed:
        return [*items, *(item.with_changes(comma=_bare(last.comma)) for item in made)]
    if isinstance(last.comma, cst.Comma):
        made[-1] = made[-1].with_changes(comma=_bare(last.comma))
        return [*before, last.with_changes(comma=_leading_on(last.comma, between)), *made]
    field = "whitespace_after_param" if isinstance(last, cst.Param) else "whitespace_after_arg"
    after = getattr(last, field)
    end = {"comma": cst.MaybeSentinel.DEFAULT if not followed else _COMMA}
    if isinstance(after, cst.ParenthesizedWhitespace):
        # The line break before `)` moves behind the new item; a comment stays behind the old one.
        comma = _leading_on(cst.Comma(whitespace_after=after), between)
        last = last.with_changes(comma=comma, **{field: cst.SimpleWhitespace("")})
        made[-1] = made[-1].with_changes(**end, **{field: _without_comments(after)})
        return [*before, last, *made]
    made[-1] = made[-1].with_changes(**end)
    return [*before, last.with_changes(comma=between), *made]


def _without_comments(space: cst.ParenthesizedWhitespace) -> cst.ParenthesizedWhitespace:
    line = space.first_line.with_changes(comment=None, whitespace=cst.SimpleWhitespace(""))
    return space.with_changes(first_line=line, empty_lines=[])


def _bare(comma: cst.Comma) -> cst.Comma:
    """The comma and its line break, without the comment between them."""
    space = comma.whitespace_after
    if isinstance(space, cst.ParenthesizedWhitespace):
        space = _without_comments(space)
    return cst.Comma(whitespace_after=space)


def _leading_on(comma: cst.Comma, between: cst.Comma) -> cst.Comma:
    """``between``, with the comments of ``comma`` kept in front of its line break."""
    own, usual = comma.whitespace_after, between.whitespace_after
    if not isinstance(own, cst.ParenthesizedWhitespace):
        return between
    if isinstance(usual, cst.ParenthesizedWhitespace):
        kept = own.with_changes(indent=usual.indent, last_line=usual.last_line)
        return cst.Comma(whitespace_after=kept)
    has_comment = own.first_line.comment is not None or any(line.comment is not None for line in own.empty_lines)
    return cst.Comma(whitespace_after=own) if has_comment else between
