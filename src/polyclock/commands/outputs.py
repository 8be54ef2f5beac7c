"""What a query answered, as files: numbers, clips and strips of pictures; each written aside, then renamed."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..data.encode import VideoCodec, encode_video
from ..data.files import replacing

if TYPE_CHECKING:
    from ..model import WorldModel

SIDE = 128  # pixels that a small picture is enlarged to, so that it can be looked at
MARGIN = 2
MAPS = ("depth", "flow", "segmentation", "surface")


def drawn(model: WorldModel, name: str, values: np.ndarray) -> tuple[np.ndarray | None, str]:
    """Raw values (B, T', *S, C) of a modality -> pictures uint8 (B, T', H, W, 3) and what their colours mean.

    None where they are numbers without a picture. All samples and frames share one range of colours.
    """
    import torch

    from ..codecs.skeleton import SkeletonPicture
    from ..data import colours
    from ..evaluate.kinds import kinds_of

    kind, codec = kinds_of(model)[name], model.codec(name)
    first = getattr(codec, "codecs", (codec,))[0]
    if kind in MAPS:
        pictures, legend = colours.paint(kind, values.reshape(-1, *values.shape[2:]))
        if getattr(first, "alignment", "none") != "none":
            legend = "red is near, violet far, black unknown; the depth is relative"
        return pictures.reshape(*values.shape[:2], *pictures.shape[1:]), legend
    if kind == "skeleton" and isinstance(first, SkeletonPicture):
        zoom = max(1, round(SIDE / max(first.size)))
        larger = replace(
            first, size=(first.size[0] * zoom, first.size[1] * zoom), frame=first.frame or first.size,
            radius=first.radius * zoom, width=first.width * zoom,
        )  # fmt: skip
        light = larger.encode(torch.from_numpy(np.ascontiguousarray(values, np.float32)))
        return ((light.clamp(-1, 1) + 1) * 127.5).round().byte().numpy(), "one colour for each joint"
    return as_pictures(values), ""


def write(
    folder: Path, name: str, values: np.ndarray, rate: float | None, pictures: np.ndarray | None = None
) -> list[Path]:
    """values (B, T', *S, C) -> NAME.npz, and of pictures NAME.mp4 and NAME.png (samples down, frames across).

    pictures: uint8 (B, T', H, W, 3) that show the values; None: the values, where they are pictures.
    """
    paths = [folder / f"{name}.npz"]
    with replacing(paths[0]) as aside, aside.open("wb") as file:
        np.savez_compressed(file, values=values)
    pictures = as_pictures(values) if pictures is None else pictures
    if pictures is None:
        return paths
    pictures = enlarged(pictures)
    clip, strip = folder / f"{name}.mp4", folder / f"{name}.png"
    with replacing(clip) as aside:
        # The samples side by side; H.264 needs even sizes, which `enlarged` gives.
        side_by_side = np.concatenate(list(pictures), axis=2)
        encode_video(aside, side_by_side, rate or 10.0, VideoCodec(encoder="h264", group=12, crf=20))
    with replacing(strip) as aside:
        _save_picture(aside, tiled(pictures))
    return [*paths, clip, strip]


def write_note(folder: Path, note: dict[str, Any]) -> Path:
    """What was asked of which model, as DIR/query.json."""
    path = folder / "query.json"
    with replacing(path) as aside:
        aside.write_text(json.dumps(note, indent=1) + "\n", encoding="utf-8")
    return path


def as_pictures(values: np.ndarray) -> np.ndarray | None:
    """(B, T', H, W, C) of 1 or 3 channels -> uint8 (B, T', H, W, 3); None where the values are no pictures.

    Other numbers than uint8 are spread between their least and largest value.
    """
    if values.ndim != 5 or values.shape[-1] not in (1, 3):
        return None
    if values.dtype != np.uint8:
        low, high = float(np.nanmin(values)), float(np.nanmax(values))
        values = np.nan_to_num((values - low) / max(high - low, 1e-9) * 255).clip(0, 255).astype(np.uint8)
    return np.repeat(values, 3, -1) if values.shape[-1] == 1 else values


def enlarged(pictures: np.ndarray) -> np.ndarray:
    """Each pixel repeated until a picture has about `SIDE` pixels; height and width even."""
    height, width = pictures.shape[2:4]
    times = max(1, round(SIDE / max(height, width)))
    pictures = pictures.repeat(times, 2).repeat(times, 3)
    odd = [(0, 0), (0, 0), (0, pictures.shape[2] % 2), (0, pictures.shape[3] % 2), (0, 0)]
    return np.pad(pictures, odd, mode="edge")


def tiled(pictures: np.ndarray) -> np.ndarray:
    """(B, T', H, W, 3) -> one picture: samples down, frames across, thin white lines between."""
    gap = [(0, 0), (0, 0), (0, MARGIN), (0, MARGIN), (0, 0)]
    framed = np.pad(pictures, gap, constant_values=255)
    b, t, h, w, c = framed.shape
    return framed.transpose(0, 2, 1, 3, 4).reshape(b * h, t * w, c)


def _save_picture(path: Path, picture: np.ndarray) -> None:
    from PIL import Image

    Image.fromarray(picture).save(path, format="PNG")
