"""Dense modalities inside a LeRobot v3 data set: how each is stored, and how it is read back in its units.

Depth, flow, segmentation and surface maps are videos of 16-bit planes (FFV1); skeleton and camera are plain columns.
The namespaced block `"polyclock"` of `info.json` says which feature is which:

    "polyclock": {"version": 1, "dense": {"observation.depth.front": {"kind": "depth", "unit": "m", "scale": 0.001}}}

| kind         | read back as                               | stored planes, uint16            | exactness      |
|--------------|--------------------------------------------|----------------------------------|----------------|
| depth        | (n, H, W, 1) float32 m, 0 = unknown        | depth / scale; scale 0.001 m     | half a scale   |
| flow         | (n, H, W, 3) float32 u, v px, occluded 0/1 | 64 u + 32768, 64 v + 32768, 0/1  | 1/128 px       |
| segmentation | (n, H, W, 2) int32 instance, class         | instance, class, 0               | exact          |
| surface      | (n, H, W, 3) float32 part, u, v            | part, 65535 u, 65535 v           | part, 1/131070 |
| skeleton     | (n, K, 3) float32 x, y px, visibility      | a float32 column                 | exact          |
| intrinsics   | (n, 3, 3) float32 px                       | a float32 column                 | exact          |
| pose         | (n, 4, 4) float32 camera to world, m       | a float32 column                 | exact          |

Occluded is stored as 65535. Flow of frame i leads to frame i + steps, or to its episode's first or last frame where
that is nearer; "steps" stands in the entry of the feature (1 where it lacks) and is negative for backward flow.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from ..errors import unknown

VERSION = 1
BLOCK = "polyclock"
TOP = 65535
ZERO = 32768  # the stored flow of a pixel that does not move
PLANES = {"depth": 1, "flow": 3, "segmentation": 3, "surface": 3}
COLUMNS = {"skeleton": 3, "intrinsics": 3, "pose": 4}  # kind -> size of the last dimension
KINDS = (*PLANES, *COLUMNS)
PARTS = {
    "depth": ("depth",),
    "flow": ("u", "v", "occluded"),
    "segmentation": ("instance", "class"),
    "surface": ("part", "u", "v"),
    "skeleton": ("x", "y", "visibility"),
}
UNITS = {"depth": "m", "flow": "px", "skeleton": "px", "intrinsics": "px", "pose": "m"}
SCALES = {"depth": 0.001, "flow": 1 / 64}


def feature(
    kind: str,
    size: tuple[int, int] | None = None,
    *,
    scale: float | None = None,
    classes: Mapping[int, str] | None = None,
    parts: Mapping[int, str] | None = None,
    joints: Sequence[str] | None = None,
    limbs: Sequence[tuple[str, str]] | None = None,
    steps: int = 1,
) -> dict[str, Any]:
    """The entry for a writer's `features`: `size` is (H, W) of the maps, `joints` names the K points of a skeleton.

    scale    metres (depth) or pixels (flow) of one stored step; the default reaches 65.535 m and 512 px
    classes  class id -> name (segmentation); parts: part id -> name (surface)
    limbs    pairs of joints that a skeleton draws as lines
    steps    how many frames flow leads onward; negative: back

    Errors: ValueError for an unknown kind or a missing size or joints.
    """
    if kind not in KINDS:
        raise unknown("dense kind", kind, KINDS)
    note: dict[str, Any] = {"kind": kind}
    if kind in UNITS:
        note["unit"] = UNITS[kind]
    if kind in SCALES:
        note["scale"] = float(scale or SCALES[kind])
    if kind == "flow":
        note["steps"] = int(steps)
    if classes:
        note["classes"] = {str(k): v for k, v in classes.items()}
    if parts:
        note["parts"] = {str(k): v for k, v in parts.items()}
    if kind in COLUMNS:
        if kind == "skeleton" and not joints:
            raise ValueError("a skeleton needs joints=(name, ...)")
        rows = len(joints or ()) if kind == "skeleton" else COLUMNS[kind]
        if joints:
            note["joints"] = list(joints)
        if limbs:
            note["limbs"] = [list(pair) for pair in limbs]
        return {"dtype": "float32", "shape": (rows, COLUMNS[kind]), "names": None, BLOCK: note}
    if size is None:
        raise ValueError(f"a {kind} map needs size=(height, width)")
    return {
        "dtype": "video",
        "shape": (*size, PLANES[kind]),
        "names": ["height", "width", "channels"],
        BLOCK: note,
    }


def encode(kind: str, values: np.ndarray, scale: float | None = None) -> np.ndarray:
    """Values (n, H, W, C) in their units -> uint16 planes (n, H, W, 1 or 3); depth may be (n, H, W).

    Depth that is not finite or not above 0 is stored as unknown; beyond the largest number it is stored as that.
    Flow that is not finite is stored as occluded.

    Errors: ValueError for values that do not fit, naming frame and value.
    """
    if kind not in PLANES:
        raise unknown("dense video", kind, PLANES)
    values = np.asarray(values)
    if kind == "depth" and values.ndim == 3:
        values = values[..., None]
    channels = len(PARTS[kind])
    if values.ndim != 4 or values.shape[-1] != channels:
        raise ValueError(f"{kind} of shape {values.shape}; needed: (n, H, W, {channels}) = {', '.join(PARTS[kind])}")
    return {"depth": _put_depth, "flow": _put_flow, "segmentation": _put_labels, "surface": _put_surface}[kind](
        values, scale or SCALES.get(kind, 1.0)
    )


def decode(
    kind: str, planes: np.ndarray, scale: float | None = None, shrink: tuple[float, float] = (1, 1)
) -> np.ndarray:
    """uint16 planes (n, H, W, 1 or 3) -> values in their units, as the table of this module says.

    `shrink` = (new / stored height, new / stored width), where the planes were resized: flow is scaled by it.
    """
    if kind not in PLANES:
        raise unknown("dense video", kind, PLANES)
    if planes.dtype != np.uint16 or planes.ndim != 4 or planes.shape[-1] != PLANES[kind]:
        raise ValueError(
            f"{kind} is stored as uint16 (n, H, W, {PLANES[kind]}); the file holds {planes.dtype} {planes.shape}"
        )
    if kind == "segmentation":
        return planes[..., :2].astype(np.int32)
    values = planes.astype(np.float32)
    step = np.float32(scale or SCALES.get(kind, 1.0))
    if kind == "depth":
        return values * step
    if kind == "surface":
        values[..., 1:] /= TOP
        return values
    values[..., :2] = (values[..., :2] - ZERO) * step * np.array(shrink[::-1], np.float32)
    values[..., 2] = values[..., 2] > ZERO
    return values


def notes(info: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """{feature: its entry in the namespaced block} of an `info.json`; empty where there is no block.

    Errors: ValueError where the block was written by a newer version or names an unknown kind.
    """
    block = info.get(BLOCK)
    if not isinstance(block, Mapping):
        return {}
    if block.get("version") != VERSION:
        raise ValueError(
            f"the {BLOCK!r} block of info.json has version {block.get('version')!r}; this program reads {VERSION}"
        )
    dense = dict(block.get("dense", {}))
    for key, note in dense.items():
        if note.get("kind") not in KINDS:
            raise unknown(f"dense kind of {key}", note.get("kind"), KINDS)
    return dense


def camera_of(key: str, cameras: Sequence[str]) -> str | None:
    """The camera in whose pixels joints or intrinsics are: the one of the same last word, else "video"; None: neither
    is there."""
    last = key.rsplit(".", 1)[-1]
    same = next((c for c in cameras if c.rsplit(".", 1)[-1] == last), None)
    return same or ("video" if "video" in cameras else None)


def decoder_for(info: Mapping[str, Any], key: str) -> Callable[[np.ndarray], np.ndarray] | None:
    """What turns the stored planes of feature `key` into values, or None where `key` is no dense video."""
    note = notes(info).get(key)
    if note is None or note["kind"] not in PLANES:
        return None
    height, width = info["features"][key]["shape"][:2]

    def to_values(planes: np.ndarray) -> np.ndarray:
        shrink = (planes.shape[1] / height, planes.shape[2] / width)
        return decode(note["kind"], planes, note.get("scale"), shrink)

    return to_values


def _fit(what: str, low: float, values: np.ndarray, high: float, possible: str) -> None:
    bad = np.argwhere(~((values >= low) & (values <= high)))
    if len(bad):
        at = tuple(int(i) for i in bad[0])
        raise ValueError(f"{what}: {values[at]} in frame {at[0]} at row {at[1]}, column {at[2]}; possible: {possible}")


def _put_depth(values: np.ndarray, scale: float) -> np.ndarray:
    known = np.isfinite(values) & (values > 0)
    steps = np.clip(np.rint(np.where(known, values, 0) / scale), 1, TOP)
    return np.where(known, steps, 0).astype(np.uint16)


def _put_flow(values: np.ndarray, scale: float) -> np.ndarray:
    lost = ~np.isfinite(values[..., :2]).all(-1)
    moving = np.where(lost[..., None], 0, values[..., :2])
    reach = ZERO * scale
    _fit("flow", -reach, moving, reach - scale, f"-{reach:g} to {reach - scale:g} px; a larger scale reaches further")
    steps = np.rint(moving / scale) + ZERO
    hidden = lost | (values[..., 2] > 0.5)
    return np.concatenate([steps, np.where(hidden, TOP, 0)[..., None]], -1).astype(np.uint16)


def _put_labels(values: np.ndarray, _: float) -> np.ndarray:
    if not np.issubdtype(values.dtype, np.integer):
        raise ValueError(f"segmentation of dtype {values.dtype}; needed: integers")
    _fit("segmentation", 0, values, TOP, "0 to 65535")
    return np.concatenate([values, np.zeros_like(values[..., :1])], -1).astype(np.uint16)


def _put_surface(values: np.ndarray, _: float) -> np.ndarray:
    _fit("surface part", 0, values[..., :1], TOP, "whole numbers from 0 to 65535")
    if (values[..., 0] % 1).any():
        raise ValueError("surface part ids must be whole numbers")
    _fit("surface u, v", 0, values[..., 1:], 1, "0 to 1")
    return np.concatenate([values[..., :1], np.rint(values[..., 1:].astype(np.float64) * TOP)], -1).astype(np.uint16)
