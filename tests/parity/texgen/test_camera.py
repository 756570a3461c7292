"""View and projection matrices and transformed points of the reference."""

from pathlib import Path

import pytest
import torch

from hy3dgen.texgen.differentiable_renderer import camera_utils
from tests.parity import vectors


@pytest.mark.parametrize("path", vectors.files("texgen", "camera"), ids=lambda p: p.stem)
def test_camera(path: Path) -> None:
    vector = vectors.load(path)
    inputs, outputs, config = vector.inputs, vector.outputs, vector.config
    ortho = [torch.from_numpy(camera_utils.get_orthographic_projection_matrix(**c)) for c in config["ortho"]]
    persp = [torch.from_numpy(camera_utils.get_perspective_projection_matrix(**c)) for c in config["perspective"]]
    torch.testing.assert_close(torch.stack(ortho), outputs["ortho"], rtol=0, atol=1e-6)
    torch.testing.assert_close(torch.stack(persp), outputs["perspective"], rtol=0, atol=1e-6)
    for i in range(len(inputs["elev"])):
        matrix = camera_utils.get_mv_matrix(
            float(inputs["elev"][i]),
            float(inputs["azim"][i]),
            float(inputs["camera_distance"][i]),
            center=inputs["center"][i].numpy(),
        )
        torch.testing.assert_close(torch.from_numpy(matrix), outputs["mv"][i], rtol=0, atol=1e-6)
        camera = camera_utils.transform_pos(matrix, inputs["pos"], keepdim=True)
        torch.testing.assert_close(camera, outputs["pos_camera"][i], rtol=0, atol=1e-6)
        for name, projection in (("pos_clip_ortho0", ortho[0]), ("pos_clip_persp0", persp[0])):
            clip = camera_utils.transform_pos(projection.numpy(), camera)
            torch.testing.assert_close(clip, outputs[name][i], rtol=0, atol=1e-6)
