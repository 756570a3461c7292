"""Pictures of a batch of shapes by sphere tracing, with what the picture does not show as side targets.

The batched form of ``benchmarks.shapes.render`` (same camera, light, patterns, shading; equality is tested), plus the
looks that teach a network not to take colour for relief: unlit, cel-shaded, and lit by two coloured lights.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from benchmarks.shapes.look import BORDER
from benchmarks.shapes.render import PLAIN, SCENE_RADIUS
from training.generator.kernels import SceneRows
from training.generator.solids import Solids

CELL_PX = 7
SIDE_CHANNELS = 6  # mask, front depth, back depth, normal
MAX_STEPS = 96
PACK_EVERY = 8
PIECE_RAYS = 2**21


@dataclass(frozen=True)
class Scene:
    """How B shapes are photographed, see ``benchmarks.shapes.look``.

    cameras: (B, 6) as ``Camera.row``; lights: (B, 9) as ``Light.row``; materials: (B, 8, MATERIAL_FLOATS)
    """

    cameras: Tensor
    lights: Tensor
    materials: Tensor

    def __getitem__(self, index: slice | Tensor) -> Scene:
        return Scene(self.cameras[index], self.lights[index], self.materials[index])


@dataclass(frozen=True)
class Looks:
    """Shares of pictures lit otherwise than ``Scene`` says. All 0 is the recipe of the recorded runs; ``VARIED`` is the
    next step: patterned and flat pictures whose colours must not become relief.

    unlit: colours only; cel: light in two or three steps; coloured: warm key, cool sky or the reverse;
    patterned: every material has a pattern of strong contrast; shadows: parts throw shadows on others
    """

    unlit: float = 0.0
    cel: float = 0.0
    coloured: float = 0.0
    patterned: float = 0.0
    shadows: float = 0.0


RECIPE = Looks()
VARIED = Looks(unlit=0.12, cel=0.12, coloured=0.3, patterned=0.25, shadows=0.35)


def fit_windows(points: Tensor, views: Tensor, *, border: float = BORDER) -> Tensor:
    """Cameras (B, 6) whose windows frame the projected points, as ``look.fit_camera``.

    points: (B, N, 3 or more) of the model's frame; views: (B, 3) elevation, distance, roll
    """
    elevation, distance, roll = (views[:, i : i + 1] for i in range(3))
    c, s = elevation.cos(), elevation.sin()
    x, y, z = points[..., 0], points[..., 1] - distance * s, points[..., 2] - distance * c
    depth = -(y * s + z * c)
    u, v = x / depth, (y * c - z * s) / depth
    c, s = roll.cos(), roll.sin()
    u, v = c * u + s * v, c * v - s * u
    low, high = torch.stack([u, v], -1).amin(1), torch.stack([u, v], -1).amax(1)
    half = (high - low).amax(1, keepdim=True) / 2 / (1 - border)
    mu, mv = ((low + high) / 2).split(1, dim=1)
    return torch.cat([elevation, distance, c * mu - s * mv, s * mu + c * mv, half, roll], 1)


def jittered(cameras: Tensor, generator: torch.Generator) -> Tensor:
    """Windows a little too large or small (-3.6 to +4.4 %) and off centre (2.5 %): no picture is framed exactly."""
    draw = torch.rand(len(cameras), 3, generator=generator, device=cameras.device, dtype=cameras.dtype)
    half = cameras[:, 4] * (1 + (draw[:, 0] - 0.45) * 0.08)
    shift = (draw[:, 1:] - 0.5) * 0.05 * half[:, None]
    return torch.cat([cameras[:, :2], cameras[:, 2:4] + shift, half[:, None], cameras[:, 5:]], 1)


def varied(scene: Scene, looks: Looks, generator: torch.Generator) -> tuple[Scene, Tensor]:
    """The scene with some pictures unlit and some patterned; and the effects of each picture's light, see
    ``benchmarks.shapes.render.PLAIN``: (B, EFFECT_FLOATS)."""
    device, dtype = scene.lights.device, scene.lights.dtype
    batch = len(scene.lights)

    def chance(share: float) -> Tensor:
        return torch.rand(batch, generator=generator, device=device) < share

    flat = torch.where(chance(looks.unlit), 1.0, scene.lights[:, 7])
    lights = torch.cat([scene.lights[:, :7], flat[:, None], scene.lights[:, 8:]], 1)
    materials = scene.materials.clone()
    kinds = torch.randint(1, 7, materials.shape[:2], generator=generator, device=device).to(dtype)
    again = chance(looks.patterned)[:, None]
    materials[..., 6] = torch.where(again, kinds, materials[..., 6])
    materials[..., 3:6] = torch.where(again[..., None], 1 - materials[..., 0:3], materials[..., 3:6])
    cel = torch.where(chance(looks.cel), torch.randint(2, 4, (batch,), generator=generator, device=device), 0)
    tint = 1 + 0.5 * (torch.rand(batch, 3, generator=generator, device=device, dtype=dtype) - 0.5)
    tint = torch.where(chance(looks.coloured)[:, None], tint / tint.mean(1, keepdim=True), torch.ones_like(tint))
    depth = 0.4 + 0.6 * torch.rand(batch, generator=generator, device=device, dtype=dtype)
    shadow = torch.where(chance(looks.shadows), depth, 0.0)
    effects = torch.cat([cel[:, None].to(dtype), tint, shadow[:, None]], 1)
    return Scene(scene.cameras, lights, materials), effects


def render(
    solids: Solids,
    scene: Scene,
    size_px: int,
    *,
    effects: Tensor | None = None,
    halves: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Pictures (B, size, size, 4) uint8, straight alpha 0 or 255, white where there is nothing; and side targets
    (B, size // CELL_PX, size // CELL_PX, SIDE_CHANNELS) float32 at the middle of each cell, zero outside.

    Depths are distances from the camera, subtracted from the camera's distance to the origin: 0 = at the origin's
    distance, positive = nearer. effects: (B, EFFECT_FLOATS), see ``varied``, PLAIN when None;
    halves: (B, 3) half sizes of the shapes' boxes, when known: rays that miss them are not traced
    """
    if effects is None:
        effects = scene.lights.new_tensor(PLAIN).repeat(len(solids), 1)
    if solids.kernels is not None:
        box = torch.zeros_like(scene.cameras[:, :3]) if halves is None else halves
        seen = photograph(solids, scene, size_px, effects=effects, halves=box)
        return seen, solids.kernels.cells(solids.parts, scene.cameras, box, size_px, CELL_PX)
    many = max(PIECE_RAYS // size_px**2, 1)
    if len(solids) > many:

        def piece(first: int) -> tuple[Tensor, Tensor]:
            cut = slice(first, first + many)
            rest = {"effects": effects, "halves": halves}
            some = {name: None if values is None else values[cut] for name, values in rest.items()}
            return render(solids[cut], scene[cut], size_px, **some)

        parts = [piece(first) for first in range(0, len(solids), many)]
        return torch.cat([part[0] for part in parts]), torch.cat([part[1] for part in parts])
    origin, way = _rays(scene.cameras, size_px)
    distance = scene.cameras[:, 1:2]
    near, far = _within_scene(origin, way) if halves is None else _within_box(origin, way, halves)
    t = _march(solids, origin, way, near, far)
    hit = t >= 0
    points = origin[:, None] + t.clamp_min(0)[..., None] * way
    colour, normals = _shaded(solids, scene, points, way, hit, effects)
    alpha = hit.to(colour.dtype)[..., None]
    pixels = torch.cat([torch.where(hit[..., None], colour, 1.0), alpha], -1)
    pictures = (pixels * 255 + 0.5).to(torch.uint8).view(len(solids), size_px, size_px, 4)

    cells = _cell_centres(size_px, way.device)
    seen, back_way = hit[:, cells], way[:, cells]
    reach = far[:, cells]
    back = _march(solids, origin + 0 * distance, -back_way, -reach, -t[:, cells])  # from behind, towards the camera
    depth, behind = distance - t[:, cells], distance + back
    behind = torch.where(back > -torch.inf, behind, depth)
    side = torch.cat([torch.ones_like(depth)[..., None], depth[..., None], behind[..., None], normals[:, cells]], -1)
    grid = size_px // CELL_PX
    return pictures, torch.where(seen[..., None], side, 0.0).view(len(solids), grid, grid, SIDE_CHANNELS)


def photograph(
    solids: Solids,
    scene: Scene,
    size_px: int,
    *,
    effects: Tensor | None = None,
    halves: Tensor | None = None,
) -> Tensor:
    """The pictures of ``render`` alone; kernels need not look for side targets then."""
    if solids.kernels is None:
        return render(solids, scene, size_px, effects=effects, halves=halves)[0]
    if effects is None:
        effects = scene.lights.new_tensor(PLAIN).repeat(len(solids), 1)
    box = torch.zeros_like(scene.cameras[:, :3]) if halves is None else halves
    rows = SceneRows(scene.cameras, scene.lights, effects, scene.materials)
    return solids.kernels.picture(solids.parts, rows, box, size_px)


def _cell_centres(size_px: int, device: torch.device) -> Tensor:
    """Indices of the pixels in the middle of the cells, row by row."""
    line = torch.arange(size_px // CELL_PX, device=device) * CELL_PX + CELL_PX // 2
    return (line[:, None] * size_px + line).flatten()


def _rays(cameras: Tensor, size_px: int) -> tuple[Tensor, Tensor]:
    """Origins (B, 3) and directions (B, size², 3) of all pixels, row by row from the top."""
    elevation, distance, centre_u, centre_v, half, roll = cameras.split(1, dim=1)
    steps = (torch.arange(size_px, device=cameras.device, dtype=cameras.dtype) + 0.5) * 2 / size_px - 1
    v0, u0 = (grid.flatten() for grid in torch.meshgrid(-steps, steps, indexing="ij"))
    u0, v0 = u0 * half, v0 * half
    c, s = roll.cos(), roll.sin()
    u, v = centre_u + c * u0 - s * v0, centre_v + s * u0 + c * v0
    c, s = elevation.cos(), elevation.sin()
    way = torch.stack([u, v * c - s, -c - v * s], -1)
    origin = torch.cat([torch.zeros_like(c), distance * s, distance * c], 1)
    return origin, way / way.norm(dim=-1, keepdim=True)


def _within_scene(origin: Tensor, way: Tensor) -> tuple[Tensor, Tensor]:
    """Where each ray enters and leaves the sphere around the scene, (B, N) each; far < near when it misses."""
    b = (origin[:, None] * way).sum(-1)
    inside = b * b - origin.square().sum(-1, keepdim=True) + SCENE_RADIUS**2
    root = inside.clamp_min(0).sqrt()
    return torch.where(inside > 0, (-b - root).clamp_min(0), torch.inf), torch.where(inside > 0, root - b, -torch.inf)


def _within_box(origin: Tensor, way: Tensor, halves: Tensor) -> tuple[Tensor, Tensor]:
    """The same for boxes of these half sizes (B, 3) around the origin, with a little room."""
    room = (halves + 0.04)[:, None]
    steep = torch.where(way.abs() < 1e-6, 1e-6, way)
    one, two = (-room - origin[:, None]) / steep, (room - origin[:, None]) / steep
    near, far = torch.minimum(one, two).amax(-1).clamp_min(0), torch.maximum(one, two).amin(-1)
    missed = near >= far
    return torch.where(missed, torch.inf, near), torch.where(missed, -torch.inf, far)


def _march(solids: Solids, origin: Tensor, way: Tensor, near: Tensor, far: Tensor) -> Tensor:
    """Distance along each ray to the first surface between ``near`` and ``far``; -1 where there is none, or -inf when
    distances are negative themselves. origin: (B, 3); way: (B, N, 3); near, far: (B, N)."""
    none = torch.where(far < 0, -torch.inf, -1.0)
    result = none.clone()
    going = near < far
    index = torch.arange(way.shape[1], device=way.device).expand(way.shape[0], -1)
    t, start = near, near
    for step in range(MAX_STEPS):
        if step % PACK_EVERY == 0:
            most = int(going.sum(1).max())
            if most == 0:
                break
            order = going.int().argsort(dim=1, descending=True, stable=True)[:, :most]
            index, t, start, far, going = (values.gather(1, order) for values in (index, t, start, far, going))
            way = way.gather(1, order[..., None].expand(-1, -1, 3))
        safe = torch.where(going, t, 0.0)
        d = solids.fold(origin[:, None] + safe[..., None] * way)[0]
        hit = going & (d < 4e-4 + 1.5e-4 * safe.abs())
        result.scatter_(1, index, torch.where(hit, t, result.gather(1, index)))
        t = t + 0.95 * d
        going = going & ~hit & (t <= far)
    return result


def _shaded(
    solids: Solids, scene: Scene, points: Tensor, way: Tensor, hit: Tensor, effects: Tensor
) -> tuple[Tensor, Tensor]:
    """Colours and normals (B, N, 3) of the pixels that hit something; anything elsewhere."""
    most = max(int(hit.sum(1).max()), 1)
    order = hit.int().argsort(dim=1, descending=True, stable=True)[:, :most]
    wide = order[..., None].expand(-1, -1, 3)
    at, along = points.gather(1, wide), way.gather(1, wide)
    slopes = solids.gradient(at)[1]
    normals = slopes / slopes.norm(dim=-1, keepdim=True).clamp_min(1e-4)
    kind = solids.fold(at)[1] % scene.materials.shape[1]
    material = scene.materials.gather(1, kind[..., None].expand(-1, -1, scene.materials.shape[2]))
    albedo = _albedo(material, solids.object_frame(at))
    colour = _lit(solids, scene.lights, material, albedo, at, normals, along, effects)
    blank = torch.zeros_like(points)
    return blank.scatter(1, wide, colour), blank.scatter(1, wide, normals)


def _lit(
    solids: Solids,
    lights: Tensor,
    material: Tensor,
    albedo: Tensor,
    at: Tensor,
    normals: Tensor,
    along: Tensor,
    effects: Tensor,
) -> Tensor:
    """(B, n, 3) colours in [0, 1] of n points a shape."""
    direction, (key, ambient, specular, occlusion, flat, rim) = lights[:, None, :3], lights[:, 3:].split(1, dim=1)
    facing = (normals * direction).sum(-1)
    diffuse = facing.clamp_min(0) * 0.75 + 0.25 * (0.5 + 0.5 * facing)
    open_sky = 1 - occlusion * _occlusion(solids, at, normals)
    sky = ambient * (0.75 + 0.25 * normals[..., 1]) * open_sky
    sun = key * diffuse * (0.6 + 0.4 * open_sky)
    cel, tint, shadow = effects[:, :1], effects[:, 1:4], effects[:, 4:5]
    if bool((shadow > 0).any()):
        sun = sun * (1 - shadow * _shadow(solids, at + 0.02 * normals, direction))
    levels, top = cel.clamp_min(1), key.clamp_min(1e-3)
    sun = torch.where(cel > 0, (sun / top * levels + 0.5).floor() / levels * top, sun)
    both = sky[..., None] * (2 - tint[:, None]) + sun[..., None] * tint[:, None]
    lit = both * (1 - flat[..., None]) + flat[..., None]
    halfway = direction - along
    halfway = halfway / halfway.square().sum(-1, keepdim=True).clamp_min(1e-6).sqrt()
    gloss = specular * material[..., 9] * (normals * halfway).sum(-1).clamp_min(0) ** 30
    edge = 0.3 * rim * (1 - (-(normals * along).sum(-1)).clamp_min(0)) ** 3
    return (albedo * lit + (gloss - edge)[..., None]).clamp(0, 1)


def _shadow(solids: Solids, at: Tensor, direction: Tensor) -> Tensor:
    """0 = the light is seen, 1 = it is hidden, as ``benchmarks.shapes.render``. at: (B, n, 3); direction: (B, 1, 3)"""
    t = torch.full_like(at[..., 0], 0.03)
    free, going = torch.ones_like(t), torch.ones_like(t, dtype=torch.bool)
    for _ in range(24):
        d = solids.fold(at + t[..., None] * direction)[0]
        free = torch.where(going, torch.minimum(free, 0.5 + 4 * d / t), free)
        t = torch.where(going, t + d.clamp_min(0.03), t)
        going = going & (free > 0) & (t <= 2.5)
    return 1 - free.clamp(0, 1)


def _occlusion(solids: Solids, at: Tensor, normals: Tensor) -> Tensor:
    """0 = open, 1 = closed in, from the field at three steps along the normal."""
    closed = torch.zeros_like(at[..., 0])
    for i in range(1, 4):
        h = 0.05 * i
        d = solids.fold(at + normals * h)[0]
        closed = closed + (h - d.clamp_max(h)) / h / 3
    return closed.clamp(0, 1)


def _albedo(material: Tensor, at: Tensor) -> Tensor:
    """(B, n, 3) unlit colour. material: (B, n, MATERIAL_FLOATS); at: (B, n, 3) in the shape's own frame."""
    x, y, z = at.unbind(-1)
    kind, scale, phase = material[..., 6], material[..., 7], material[..., 8]
    cells = [scale * 0.4 * x + phase, scale * 0.4 * y, scale * 0.4 * z]
    checker = (cells[0].floor() + cells[1].floor() + cells[2].floor()) % 2
    spots = _noise(scale * 0.5 * x + phase, scale * 0.5 * y, scale * 0.5 * z) > 0.6
    patterns = [
        torch.zeros_like(x),
        (torch.sin(scale * y + phase) > 0).to(x.dtype),
        (torch.sin(scale * (x + 0.3 * z) + phase) > 0).to(x.dtype),
        checker,
        (0.5 + 0.7 * y).clamp(0, 1),
        spots.to(x.dtype),
        _noise(scale * 0.4 * x + phase, scale * 0.8 * y, scale * 0.4 * z),
    ]
    share = torch.stack(patterns, -1).gather(-1, kind.long()[..., None])
    fine = _noise(14 * x, 14 * y, 14 * z) + 0.6 * _noise(31 * x, 31 * y, 31 * z) - 0.8
    grain = 1 + material[..., 10] * fine
    return (material[..., 0:3] * (1 - share) + material[..., 3:6] * share) * grain[..., None]


def _noise(x: Tensor, y: Tensor, z: Tensor) -> Tensor:
    """Smooth value noise in [0, 1] on the integer lattice, the same as the benchmark's."""
    low = [value.floor() for value in (x, y, z)]
    f = [value - base for value, base in zip((x, y, z), low, strict=True)]
    f = [value * value * (3 - 2 * value) for value in f]
    corner = [base.long() for base in low]
    total = torch.zeros_like(x)
    for number in range(8):
        bits = [(number >> axis) & 1 for axis in range(3)]
        weights = [value if bit else 1 - value for bit, value in zip(bits, f, strict=True)]
        total = total + weights[0] * weights[1] * weights[2] * _hash(
            *(c + b for c, b in zip(corner, bits, strict=True))
        )
    return total


def _hash(x: Tensor, y: Tensor, z: Tensor) -> Tensor:
    """A repeatable number in [0, 1) of three int64 (PCG output function on 32 bits)."""
    mask = 0xFFFFFFFF
    h = ((x * 73856093) ^ (y * 19349663) ^ (z * 83492791)) & mask
    h = (h * 747796405 + 2891336453) & mask
    h = (((h >> ((h >> 28) + 4)) ^ h) * 277803737) & mask
    return (((h >> 22) ^ h) & mask).bitwise_right_shift(8).float() / 16777216.0


def scene_of(cameras: Tensor, lights: Tensor, materials: Tensor) -> Scene:
    """A scene on the cameras' device and in their dtype."""
    return Scene(cameras, lights.to(cameras), materials.to(cameras))


def without_light(scene: Scene) -> Scene:
    """The same scene, colours only."""
    lights = scene.lights.clone()
    lights[:, 5:] = 0.0
    lights[:, 7] = 1.0
    return replace(scene, lights=lights)
