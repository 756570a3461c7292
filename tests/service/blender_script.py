"""Run by a Python that has bpy: install the extension and use it against a server. Prints one JSON line.

python blender_script.py ADDRESS PICTURE EXTENSION.zip ; BLENDER_USER_RESOURCES is a folder to install into
"""

from __future__ import annotations

import json
import sys
import time
from typing import Any

import bpy

ADDRESS, PICTURE, EXTENSION = sys.argv[1:4]
MODULE = "bl_ext.user_default.hy3dgen"
SMALL = {"steps": 4, "resolution": 32, "faces": 800, "texture_size": 128, "seed": 7}
WAIT_S = 400


def wait(addon: Any, until: Any = lambda: False) -> list[str]:
    """Call the timer as Blender's event loop would; there is none in background mode. Returns the words shown."""
    words: list[str] = []
    deadline = time.monotonic() + WAIT_S
    while time.monotonic() < deadline:
        if addon._running and addon._running[0].words not in words:
            words.append(addon._running[0].words)
        if addon.tick() is None or until():
            return words
        time.sleep(0.05)
    raise SystemExit("it did not end in time")


def facts(state: Any) -> dict[str, Any]:
    return {"error": state.error, "message": state.message}


def main() -> None:
    bpy.ops.extensions.package_install_files(filepath=EXTENSION, repo="user_default", enable_on_install=True)
    addon = sys.modules[MODULE]
    scene, state = bpy.context.scene, bpy.context.window_manager.hy3dgen
    own, found = bpy.context.preferences.addons[MODULE].preferences, {}
    for name, value in SMALL.items():
        setattr(scene.hy3dgen, name, value)

    own.address = "http://127.0.0.1:9"
    bpy.ops.hy3dgen.check()
    found["no_server"] = facts(state)
    own.address = ADDRESS
    bpy.ops.hy3dgen.check()
    found["check"] = facts(state)
    bpy.ops.hy3dgen.make()
    found["no_picture"] = facts(state)

    scene.hy3dgen.image_path = PICTURE
    scene.cursor.location = (1, 2, 3)
    known = set(bpy.data.objects)
    bpy.ops.hy3dgen.make()
    found["timer"] = bpy.app.timers.is_registered(addon.tick)
    words = wait(addon)
    made = [one for one in bpy.data.objects if one not in known and one.type == "MESH"]
    bpy.context.view_layer.update()
    corners = [one.matrix_world @ vertex.co for one in made for vertex in one.data.vertices]
    middle = [(min(c[i] for c in corners) + max(c[i] for c in corners)) / 2 for i in range(2)] if corners else []
    found["made"] = {
        **facts(state), "words": words, "faces": sum(len(one.data.polygons) for one in made), "middle": middle,
        "bottom": min((c[2] for c in corners), default=None),
        "images": [list(i.size) for i in bpy.data.images if i.packed_file is not None],
    }  # fmt: skip

    bpy.ops.mesh.primitive_uv_sphere_add(segments=16, ring_count=8, location=(5, 0, 1))
    sphere = bpy.context.active_object
    known = set(bpy.data.objects)
    bpy.ops.hy3dgen.texture()
    wait(addon)
    bpy.context.view_layer.update()
    made = [one for one in bpy.data.objects if one not in known and one.type == "MESH"]
    corners = [one.matrix_world @ vertex.co for one in made for vertex in one.data.vertices]
    bounds = [[f(c[i] for c in corners) for i in range(3)] for f in (min, max)] if corners else []
    materials = [slot.material is not None for one in made for slot in one.material_slots]
    found["coloured"] = {**facts(state), "bounds": bounds, "hidden": sphere.hide_get(), "materials": materials}

    scene.hy3dgen.steps, scene.hy3dgen.resolution = 200, 256
    bpy.ops.hy3dgen.make()
    wait(addon, until=lambda: "Denoise" in addon._running[0].words if addon._running else False)
    bpy.ops.hy3dgen.cancel()
    found["cancelled"] = {"words": wait(addon), **facts(state)}

    scene.hy3dgen.image_path = __file__
    bpy.ops.hy3dgen.make()
    wait(addon)
    found["wrong_file"] = facts(state)
    bpy.ops.preferences.addon_disable(module=MODULE)
    found["gone"] = not hasattr(bpy.types.Scene, "hy3dgen")
    sys.stdout.write("\n" + json.dumps(found) + "\n")


main()
