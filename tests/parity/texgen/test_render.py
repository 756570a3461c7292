"""Normal, position, depth, sketch and texture-space maps of the reference's renderer."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from hy3dgen.texgen.differentiable_renderer.mesh_render import MeshRender
from tests.parity import vectors


def close(found: Any, expected: torch.Tensor, name: str) -> None:
    value = torch.from_numpy(np.array(found)) if isinstance(found, Image.Image | np.ndarray) else found
    assert value.shape == expected.shape, name
    if expected.dtype == torch.uint8:
        assert (value.int() - expected.int()).abs().max() <= 1, name
    elif "sketch" in name or not expected.dtype.is_floating_point:
        assert torch.equal(value, expected), name
    else:
        torch.testing.assert_close(value, expected, rtol=0, atol=1e-5, msg=name)


def renderer(vector: vectors.Vector, options: dict[str, Any], scale_factor: float = 1.15) -> MeshRender:
    render = MeshRender(device="cpu", **options)
    faces, vertices, uv = (vector.inputs[k].numpy() for k in ("faces", "vertices", "uv"))
    render.set_mesh(vertices, faces, uv, faces, scale_factor=scale_factor)
    return render


def maps_of(render: MeshRender, view: list[float]) -> dict[str, Any]:
    black = [0, 0, 0]
    normal, depth = render.render_normal(*view, use_abs_coor=True), render.render_depth(*view)
    pictures = render.render_normal(*view, use_abs_coor=True, return_type="pl")
    return {
        "normal_abs": normal,
        "normal_pl": pictures,
        "normal_cam_raw": render.render_normal(*view, use_abs_coor=False, normalize_rgb=False, bg_color=black),
        "position": render.render_position(*view),
        "position_pl": render.render_position(*view, return_type="pl"),
        "depth": depth,
        "depth_pl": render.render_depth(*view, return_type="pl"),
        "sketch_from_depth": render.render_sketch_from_depth(depth),
        "sketch_from_geometry": render.render_sketch_from_geometry(normal, depth),
        "convert_normal_map": render.convert_normal_map(pictures),
    }


@pytest.mark.parametrize("path", vectors.files("texgen", "render"), ids=lambda p: p.stem)
def test_render(path: Path) -> None:
    vector = vectors.load(path)
    config, outputs = vector.config, vector.outputs
    render = renderer(vector, {k: config[k] for k in ("default_resolution", "texture_size")})
    for name, found in zip(
        ("vtx_pos", "pos_idx", "vtx_uv"), (render.vtx_pos, render.pos_idx, render.vtx_uv), strict=True
    ):
        if name in outputs:
            close(found, outputs[name], name)
    positions, _, uv, _ = render.get_mesh()
    close(positions, outputs["get_mesh.vtx_pos"], "get_mesh.vtx_pos")
    close(uv, outputs["get_mesh.vtx_uv"], "get_mesh.vtx_uv")
    close(render.render_uvpos(), outputs["uvpos"], "uvpos")
    close(render.uv_feature_map(render.vtx_pos[:, 2:3], bg=-1.0), outputs["uv_feature_map_bg"], "uv_feature_map_bg")
    cases = [("r", render, config["views"])]
    if "persp" in config:
        options = dict(config["persp"])
        views, scale_factor = options.pop("views"), options.pop("scale_factor")
        perspective = renderer(vector, options, scale_factor)
        close(perspective.camera_proj_mat, outputs["persp.proj"], "persp.proj")
        close(perspective.vtx_pos, outputs["persp.vtx_pos"], "persp.vtx_pos")
        cases.append(("persp", perspective, views))
    compared = 0
    for prefix, drawn, views in cases:
        for j, view in enumerate(views):
            for name, found in maps_of(drawn, view).items():
                key = f"{prefix}.v{j}.{name}"
                if key in outputs:
                    close(found, outputs[key], key)
                    compared += 1
    assert compared == sum(key.startswith(("r.v", "persp.v")) and key.count(".") == 2 for key in outputs)
