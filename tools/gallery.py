"""The picture in README: our example pictures and what the program makes of them. python tools/gallery.py

Runs `hy3dgen.generate` with its defaults on assets/examples and writes assets/gallery.jpg.
"""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
NAMES = ("mug", "chair", "house", "car", "animal", "robot")
TILE = 256


def main() -> int:
    """Make the meshes and lay the pictures out, one column an example: input, front right, back."""
    sys.path.insert(0, str(ROOT))
    from PIL import Image

    import hy3dgen
    from hy3dgen.rendering.cameras import View
    from hy3dgen.rendering.preview import render_picture

    sheet = Image.new("RGB", (TILE * len(NAMES), TILE * 3), "white")
    for column, name in enumerate(NAMES):
        path = ROOT / "assets" / "examples" / f"{name}.png"
        picture = Image.open(path).convert("RGBA").resize((TILE, TILE), Image.Resampling.LANCZOS)
        sheet.paste(picture, (column * TILE, 0), picture)
        mesh = hy3dgen.generate(path, device="cpu").mesh
        for row, azimuth in ((1, 35.0), (2, 200.0)):
            view = Image.fromarray(render_picture(mesh, View(azimuth, 15.0), size_px=TILE))
            sheet.paste(view, (column * TILE, row * TILE))
        print(name)
    sheet.save(ROOT / "assets" / "gallery.jpg", quality=88)
    return 0


if __name__ == "__main__":
    sys.exit(main())
