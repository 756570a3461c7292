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


COMPLAINTS = 15


def test_the_korean_page_says_the_same():
    """It lacked lines of code, advice and a sentence of the English page; what no language changes must be equal."""
    english, korean = (_sameness(page.read_text(encoding="utf-8")) for page in PAGES)
    assert english == korean


def test_the_fifteen_most_common_complaints_are_answered():
    for page, title in zip(PAGES, ("## Troubleshooting", "## 문제 해결"), strict=True):
        section = page.read_text(encoding="utf-8").split(title)[1].split("\n## ")[0]
        assert len(re.findall(r"^\| \*\*", section, re.MULTILINE)) == COMPLAINTS


def _sameness(text):
    """Commands without their remarks, rows and names in backticks of every table, links to files, tables of figures."""
    commands = [line.split("#")[0].strip() for line in re.findall(r"^    (.+)$", text, re.MULTILINE)]
    rows = [sorted(re.findall(r"`[^`]+`", row)) for row in re.findall(r"^\|(.+)$", text, re.MULTILINE)]
    links = sorted(link for link in re.findall(r"\]\(([^)#:]+)\)", text) if not link.startswith("README"))
    return commands, rows, links, re.findall(r"<!-- table.*?<!-- end -->", text, re.DOTALL)


def _all_help(parser):
    """The help of a parser and of all its commands."""
    commands = [a for a in parser._actions if isinstance(a, argparse._SubParsersAction)]
    return parser.format_help() + "".join(_all_help(sub) for action in commands for sub in action.choices.values())
