"""README says what the committed figures say, and names things that exist."""

from __future__ import annotations

import argparse
import re
from pathlib import Path

import pytest

from benchmarks import readme
from hy3dgen.cli import api_server, color, module, multiview
from tools import patches

ROOT = Path(__file__).resolve().parent.parent
PAGES = [page for page in (ROOT / "README.md", ROOT / "README.ko.md") if page.exists()]


def test_tables_are_those_of_the_committed_figures():
    assert readme.main(["--check"]) == 0


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_linked_files_exist(page):
    links = re.findall(r"\]\(([^)#:]+)\)", page.read_text(encoding="utf-8"))
    assert links
    assert not [link for link in links if not (ROOT / link).exists()]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_options_named_in_the_page_exist(page):
    known = set()
    for build in (
        color.make_parser,
        multiview.make_parser,
        api_server.make_parser,
        module.parser,
        patches.build_parser,
    ):
        known |= set(re.findall(r"--[a-z][a-z-]+", _all_help(build())))
    foreign = {"--index-url", "--keep-cr"}
    named = set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", page.read_text(encoding="utf-8")))
    assert not named - known - foreign


def _all_help(parser):
    """The help of a parser and of all its commands."""
    commands = [a for a in parser._actions if isinstance(a, argparse._SubParsersAction)]
    return parser.format_help() + "".join(_all_help(sub) for action in commands for sub in action.choices.values())
