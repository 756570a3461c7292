"""The page's files are whole, in both languages, nothing from elsewhere; its script takes the reference's flags."""

from __future__ import annotations

import hashlib
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from hy3dgen.cli import gradio_app
from hy3dgen.cli.console import Console
from hy3dgen.errors import UsageError
from tests.service.conftest import serving, settings_for

ROOT = Path(__file__).resolve().parents[2]
PAGE = gradio_app.PAGE
SCRIPTS = sorted((PAGE / "js").rglob("*.js"))


def words(language: str) -> dict[str, str]:
    source = (PAGE / "js" / "words" / f"{language}.js").read_text(encoding="utf-8")
    return dict(re.findall(r'"([\w.-]+)": "([^"]*)"', source))


def test_both_languages_have_the_same_words() -> None:
    """Titles of problems are Korean only: the server's own sentence is English already."""
    english, korean = words("en"), words("ko")
    assert {k for k in korean if not k.startswith("problem.")} == {k for k in english if not k.startswith("problem.")}
    for key in english.keys() & korean.keys():
        assert set(re.findall(r"\{\w+\}", english[key])) == set(re.findall(r"\{\w+\}", korean[key])), key


def test_every_word_that_is_asked_for_exists() -> None:
    known = words("en")
    source = "\n".join(path.read_text(encoding="utf-8") for path in SCRIPTS)
    asked = set(re.findall(r'\bt\("([\w.-]+)"', source))
    asked |= set(re.findall(r'data-i18n="([^"]+)"', (PAGE / "index.html").read_text(encoding="utf-8")))
    assert asked
    assert asked <= known.keys()


def test_problem_titles_are_of_codes_that_exist() -> None:
    from hy3dgen.service import problems

    codes = {kind.code for kind in vars(problems).values() if isinstance(kind, problems.Kind)}
    titled = {key.removeprefix("problem.") for key in words("ko") if key.startswith("problem.")}
    assert titled - codes <= {"unreachable", "starting"}


def test_the_stages_of_the_server_have_words() -> None:
    from hy3dgen.runtime.stages import STAGE_NAMES

    for name in STAGE_NAMES:
        assert f"stage.{name}" in words("en"), name


def test_nothing_comes_from_elsewhere() -> None:
    """No address outside the server in our own files, no HTML made from strings, no script in the page itself."""
    for path in [*SCRIPTS, PAGE / "index.html", PAGE / "style.css"]:
        text = path.read_text(encoding="utf-8")
        assert not re.search(r"https?://(?!www\.w3\.org)", text), path
        assert "innerHTML" not in text, path
    assert not re.search(r"<script(?![^>]*src=)|\son\w+=", (PAGE / "index.html").read_text(encoding="utf-8"))


def test_the_page_itself_forbids_what_comes_from_elsewhere() -> None:
    text = (PAGE / "index.html").read_text(encoding="utf-8")
    [policy] = re.findall(r'<meta http-equiv="Content-Security-Policy" content="([^"]*)">', text)
    assert text.index(policy) < min(text.index("<script"), text.index("<link")), "it holds for what follows"
    rules = {name: set(sources) for name, *sources in (rule.split() for rule in policy.split(";"))}
    assert rules["default-src"] == {"'self'"}
    assert rules["script-src"] == {"'self'", "'wasm-unsafe-eval'"}
    assert rules["connect-src"] == {"'self'", "blob:", "data:"}
    assert rules["object-src"] == rules["base-uri"] == rules["form-action"] == {"'none'"}
    local = {"'self'", "'none'", "'unsafe-inline'", "'wasm-unsafe-eval'", "blob:", "data:"}
    assert set().union(*rules.values()) <= local


def test_the_viewer_is_the_file_that_the_notice_names() -> None:
    viewer = (PAGE / "vendor" / "model-viewer.min.js").read_bytes()
    assert hashlib.sha256(viewer).hexdigest() in (ROOT / "NOTICE").read_text(encoding="utf-8")
    assert len(viewer) < 1_000_000


def test_examples_are_the_repository_s() -> None:
    for path in (PAGE / "examples").iterdir():
        assert path.read_bytes() == (ROOT / "assets" / "examples" / path.name).read_bytes()


def test_the_page_is_served_with_right_types(tmp_path: Path) -> None:
    with serving(settings_for(tmp_path), page=PAGE) as client:
        assert "text/html" in client("GET", "/").headers["content-type"]
        for path in (p for p in PAGE.rglob("*") if p.is_file()):
            answer = client("GET", "/" + path.relative_to(PAGE).as_posix())
            assert answer.status_code == 200, path
            if path.suffix == ".js":
                assert "javascript" in answer.headers["content-type"]


def test_help_is_light() -> None:
    code = (
        "import sys; from hy3dgen.cli.gradio_app import make_parser; make_parser().format_help(); "
        "print([m for m in ('torch', 'fastapi', 'trimesh', 'cv2') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    assert done.stdout.strip() == "[]"


class Seen(dict[str, Any]):
    """What serve was called with."""


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> Seen:
    seen = Seen()

    def serve(values: Any, console: Console, **more: Any) -> int:
        from hy3dgen.cli.serving import settings_from

        seen.update(more, values=values, settings=settings_from(values))
        return 0

    monkeypatch.setattr(gradio_app, "serve", serve)
    return seen


def test_the_reference_s_flags_are_taken(served: Seen, tmp_path: Path) -> None:
    flags = (
        f"--model_path nano --texgen_model_path project --port 9999 --host 127.0.0.1 --device cpu --mc_algo dmc "
        f"--cache-path {tmp_path} --enable_t23d --disable_tex --enable_flashvdm --compile --low_vram_mode"
    )
    assert gradio_app.main(flags.split()) == 0
    settings = served["settings"]
    assert (settings.runner.model, settings.runner.texture, settings.runner.compile) == ("nano", "project", True)
    assert settings.runner.enable_texture is False
    assert (settings.folder, settings.devices) == (tmp_path, ("cpu",))
    assert (served["decoder"], served["page"], served["values"].port) == ("flashvdm", PAGE, 9999)


def test_subfolder_and_defaults(served: Seen) -> None:
    assert gradio_app.main([]) == 0
    assert (served["port"], served["decoder"], served["settings"].runner.enable_texture) == (8080, None, True)
    assert gradio_app.main(["--subfolder", "x", "--model_path", "no/such"]) == 4  # refused before anything loads


def test_contradicting_flags_are_refused(served: Seen) -> None:
    values = gradio_app.make_parser().parse_all(["--enable_tex", "--disable_tex"])
    with pytest.raises(UsageError, match="contradict"):
        gradio_app._work(values, Console(quiet=True), [])
