"""Laying a cut-out picture over the silhouette that a mesh shows from the same side."""

from __future__ import annotations

import cv2
import numpy as np

from hy3dgen.errors import ImageError

_FIT_PX = 192
"""Side of the masks that are compared while fitting."""
_STEPS = (0.04, 0.02, 0.01, 0.005, 0.0025)
_MAX_TURN = 0.12
"""Bound of rotation (radians) and shear: a picture is bent a little to fit, never much."""


def fit(alpha: np.ndarray, silhouette: np.ndarray) -> tuple[np.ndarray, float]:
    """Find the affine map from silhouette pixels to picture pixels that overlaps both best.

    alpha: (h, w) uint8, the object where above 127; silhouette: (H, W) bool
    Starts from the two bounding boxes, then refines scale, shift, and a mild rotation and shear.
    Returns (matrix (2, 3) float32, for ``cv2.warpAffine`` with WARP_INVERSE_MAP), overlap as intersection over union).
    Raises ImageError when the picture shows no object; an empty silhouette gives the identity and overlap 0.
    """
    source = _box(alpha > 127)
    if source is None:
        raise ImageError("the picture is transparent everywhere, so there is no object to project; cut it out again")
    target = _box(silhouette)
    if target is None:
        return np.eye(2, 3, dtype=np.float32), 0.0
    mask = _normalised(silhouette.astype(np.float32), target)
    picture = _normalised((alpha > 127).astype(np.float32), source)
    pose = np.zeros(6)  # across, down, log width, log height, turn, shear; lengths in boxes
    best = _overlap(mask, picture, pose)
    for step in _STEPS:
        improved = True
        while improved:
            improved = False
            for k in range(6):
                for sign in (1, -1):
                    trial = pose.copy()
                    trial[k] += sign * step
                    if abs(trial[k]) > (_MAX_TURN if k >= 4 else 0.5):
                        continue
                    overlap = _overlap(mask, picture, trial)
                    if overlap > best + 1e-5:
                        pose, best, improved = trial, overlap, True
    to_unit, from_unit = _unit_from(target), _unit_from(source)
    matrix = np.linalg.inv(from_unit) @ _pose_matrix(pose) @ to_unit
    return matrix[:2].astype(np.float32), float(best)


def _box(mask: np.ndarray) -> tuple[float, float, float, float] | None:
    """(left, top, right, bottom) in pixel edges of what is True."""
    columns, rows = np.flatnonzero(mask.any(axis=0)), np.flatnonzero(mask.any(axis=1))
    if not len(columns):
        return None
    return columns[0], rows[0], columns[-1] + 1, rows[-1] + 1


def _unit_from(box: tuple[float, float, float, float]) -> np.ndarray:
    """(3, 3) from pixel centres to coordinates that are -1 and 1 at the edges of the box."""
    left, top, right, bottom = box
    wide, high = (right - left) / 2, (bottom - top) / 2
    return np.array(
        [[1 / wide, 0, (0.5 - left) / wide - 1], [0, 1 / high, (0.5 - top) / high - 1], [0, 0, 1]], np.float64
    )


def _normalised(mask: np.ndarray, box: tuple[float, float, float, float]) -> np.ndarray:
    """The box scaled to a square of _FIT_PX with a margin of a quarter, so that poses can move beyond it."""
    square = (_FIT_PX / 8, _FIT_PX / 8, _FIT_PX * 7 / 8, _FIT_PX * 7 / 8)
    matrix = np.linalg.inv(_unit_from(box)) @ _unit_from(square)
    larger = max((box[2] - box[0]) / _FIT_PX, (box[3] - box[1]) / _FIT_PX)
    smooth = cv2.GaussianBlur(mask, (0, 0), 0.5 * larger) if larger > 1.5 else mask
    return _warp(smooth, matrix[:2])


def _warp(mask: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    return cv2.warpAffine(mask, matrix, (_FIT_PX, _FIT_PX), flags=flags)


def _pose_matrix(pose: np.ndarray) -> np.ndarray:
    across, down, wide, high, turn, shear = pose
    cos, sin = np.cos(turn), np.sin(turn)
    linear = np.array([[cos, -sin], [sin, cos]]) @ np.array([[1, shear], [0, 1]]) @ np.diag(np.exp([wide, high]))
    matrix = np.eye(3)
    matrix[:2, :2], matrix[:2, 2] = linear, (across, down)
    return matrix


def _overlap(mask: np.ndarray, picture: np.ndarray, pose: np.ndarray) -> float:
    unit = _unit_from((_FIT_PX / 8, _FIT_PX / 8, _FIT_PX * 7 / 8, _FIT_PX * 7 / 8))
    moved = _warp(picture, (np.linalg.inv(unit) @ _pose_matrix(pose) @ unit)[:2])
    return float(np.minimum(mask, moved).sum() / max(np.maximum(mask, moved).sum(), 1e-6))
