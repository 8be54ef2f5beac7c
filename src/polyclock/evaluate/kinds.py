"""Which measures fit which kind of signal: one table, read off what a codec or a data set says that a signal is."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from ..codecs.codec import Codec
from ..data.source import Dataset, noted
from ..modality import Signal
from ..model import WorldModel
from . import dense, metrics
from .instances import THRESHOLDS, PrecisionOf, found_instances
from .intervals import Pool

PICTURE, NUMBERS = "picture", "numbers"
DENSE = ("depth", "flow", "segmentation", "surface", "skeleton")
Better = Literal["lower", "higher"] | None


@dataclass(frozen=True, kw_only=True)
class Measure:
    """What a number is.

    better   None: neither direction is better by itself
    primary  what two ways to answer are compared by in a sentence
    pool     windows contribute vectors that are summed before this makes a number of them; None: the mean over windows
    """

    unit: str
    better: Better = "lower"
    primary: bool = False
    pool: Pool | None = None


@dataclass(frozen=True, kw_only=True)
class About:
    """What measures need to know of one signal beside its values.

    kind     of the table below
    scale    (C,) unit of the scaled error of numbers; None, as where none of them moves: it is left out
    classes  class ids of a segmentation, without which it has no mean IoU
    joints   of one figure, where a skeleton holds several one after the other; None: all are one figure
    camera   the last word of the column's name, which signals of one camera share
    align    what is fitted before depth is measured; framewise: each frame by itself
    lost     what the codec does not bring back: as its `loses` says, and instances where it draws classes
    """

    kind: str
    scale: Tensor | None = None
    classes: tuple[int, ...] = ()
    joints: int | None = None
    camera: str = ""
    align: dense.Alignment = "none"
    framewise: bool = False
    lost: tuple[str, ...] = ()


Errors = Callable[[Tensor, Tensor, About, Tensor | None], dict[str, Tensor]]


def iou_of(sums: np.ndarray) -> np.ndarray:
    """Pixels of intersection, then of union (..., 2 classes) -> mean IoU (...) over the classes that occur."""
    both, either = np.split(sums, 2, -1)
    occurs = either > 0
    share = np.divide(both, either, out=np.zeros_like(both), where=occurs)
    count = occurs.sum(-1)
    return np.divide(share.sum(-1), count, out=np.full(count.shape, np.nan), where=count > 0)


def cosine_of(sums: np.ndarray) -> np.ndarray:
    """Sums (..., 3) of p t, p p and t t -> the cosine between p and t (...); 0 where p is 0."""
    size = np.sqrt(sums[..., 1] * sums[..., 2])
    return np.divide(sums[..., 0], size, out=np.zeros_like(size), where=size > 0)


def explained_of(sums: np.ndarray) -> np.ndarray:
    """Sums (..., 2) of (t - p)^2 and t^2 -> 1 - their ratio (...); NaN where nothing changes."""
    change = sums[..., 1]
    return 1 - np.divide(sums[..., 0], change, out=np.full(change.shape, np.nan), where=change > 0)


# What cannot be measured where a codec loses that part of a kind.
NEED: dict[tuple[str, str], tuple[str, ...]] = {
    ("flow", "scale"): ("epe", "epe_moving", "fl"),
    ("segmentation", "class"): ("miou", "miou_moving"),
    ("segmentation", "instance"): ("map", "map_half"),
    ("surface", "uv"): ("uv_error",),
}
ALIGNED = "after the least-squares fit that the codec's range needs"
FITTED = "after the least-squares scale and shift of each window's clip"
DISPARITY = "after the least-squares scale and shift of 1 / depth, of each window's clip"
MOVING = f"where the true flow is longer than {dense.MOVING} px"
UNION = "share of the union, mean over classes"

MEASURES: dict[str, Measure] = {
    "error": Measure(unit="standard deviations of the training data", primary=True),
    "rmse": Measure(unit="units of the data (depth: m)"),
    "mse": Measure(unit="squared pixels in [0, 1]", primary=True),
    "mse_moving": Measure(unit=f"squared pixels in [0, 1], {MOVING}"),
    "psnr": Measure(unit="dB", better="higher"),
    "ssim": Measure(unit="1 is the same picture", better="higher"),
    "absrel": Measure(unit="share of the true depth", primary=True),
    "absrel_moving": Measure(unit=f"share of the true depth, {MOVING}"),
    "absrel_fitted": Measure(unit=f"share of the true depth, {FITTED}"),
    "absrel_aligned": Measure(unit=f"share of the true depth, {ALIGNED}", primary=True),
    "absrel_disparity": Measure(unit=f"share of the true depth, {DISPARITY}"),
    "delta_disparity": Measure(unit=f"share of pixels within a factor of 1.25, {DISPARITY}", better="higher"),
    "delta_aligned": Measure(unit=f"share of pixels within a factor of 1.25, {ALIGNED}", better="higher"),
    "delta": Measure(unit="share of pixels within a factor of 1.25", better="higher"),
    "delta_fitted": Measure(unit=f"share of pixels within a factor of 1.25, {FITTED}", better="higher"),
    "epe": Measure(unit="px", primary=True),
    "epe_moving": Measure(unit=f"px, {MOVING}", primary=True),
    "fl": Measure(unit="share of pixels that are outliers"),
    "miou": Measure(unit=UNION, better="higher", primary=True, pool=iou_of),
    "miou_moving": Measure(unit=f"{UNION}, {MOVING}", better="higher", pool=iou_of),
    "map": Measure(
        unit="average precision of instances, overlap 0.5 to 0.95", better="higher", pool=PrecisionOf(len(THRESHOLDS))
    ),
    "map_half": Measure(unit="average precision of instances, overlap 0.5", better="higher", pool=PrecisionOf(1)),
    "pck": Measure(unit="share of visible joints within 0.1 of the figure's box", better="higher", primary=True),
    "joint_error": Measure(unit="px, over visible joints that the prediction has"),
    "part_accuracy": Measure(unit="share of pixels of a true part", better="higher", primary=True),
    "part_accuracy_moving": Measure(unit=f"share of pixels of a true part, {MOVING}", better="higher"),
    "part_agreement": Measure(unit="share of pixels of a true or predicted part", better="higher"),
    "uv_error": Measure(unit="distance in (u, v), where the part is right"),
    "coverage": Measure(unit="share of numbers inside their 90 % set; 0.9 is right", better=None, primary=True),
    "width": Measure(unit="standard deviations of the training data, mean width of a set", better=None),
    "permanence": Measure(unit="share of objects that are still there", better="higher", primary=True),
    "place_error": Measure(unit="px, of objects that are still there"),
    "place_error_moving": Measure(unit="px, of objects that have moved and are still there", primary=True),
    "object_error": Measure(unit="root mean square of an object's pixels in [0, 1]", primary=True),
    "flicker": Measure(unit="mean change of still pixels in [0, 1]"),
    "warp_error": Measure(unit="mean difference of pixels in [0, 1], brought back by the flow"),
    "warp_explained": Measure(
        unit="share of the change that the flow explains", better="higher", primary=True, pool=explained_of
    ),
    "depth_warp": Measure(unit="change of log depth along the flow", primary=True),
    "edge_agreement": Measure(unit="0.5 is chance", better="higher", primary=True),
    "edge_agreement_moving": Measure(unit=f"0.5 is chance, {MOVING}", better="higher"),
    "cosine": Measure(unit="1 is the same change", better="higher", primary=True, pool=cosine_of),
    "explained": Measure(unit="share of the true change", better="higher", pool=explained_of),
}


# What is printed of a pair; rmse and psnr, say, tell the same of it as error and mse.
MAIN = {name for name, one in MEASURES.items() if one.primary} | {"ssim", "explained"}


def measure(predicted: Tensor, true: Tensor, about: About, moving: Tensor | None = None) -> dict[str, Tensor]:
    """All measures that fit a signal: {name: (B,) or (B, k) float64}; NaN for a window in which nothing counts.

    predicted, true (B, T', *S', C') raw; moving (B, T', H, W) bool: the pixels that truly move, where that is known.
    """
    kind = about.kind
    if kind == PICTURE and not metrics.is_picture(true):
        kind = NUMBERS  # planes of another depth than 8 bits, which no data set explains
    found = _ERRORS[kind](predicted, true, about, moving)
    gone = {name for part in about.lost for name in NEED.get((kind, part), ())}
    return {name: values for name, values in found.items() if name not in gone}


def unmeasured(name: str, about: About) -> list[str]:
    """Sentences on what a codec or a data set takes from the measures of a signal."""
    said = []
    if about.align != "none":
        each = "frame" if about.framewise else "clip"
        said.append(
            f"{name}: its codec keeps relative depth, so each {each} is fitted to the truth ({about.align}) before it "
            "is measured, baselines too"
        )
    for part in about.lost:
        gone = NEED.get((about.kind, part), ())
        if gone:
            said.append(f"{name}: its codec does not bring back the {part}, so there is no {' or '.join(gone)}")
    if about.kind == "segmentation" and not about.classes:
        said.append(f"{name}: the data set names no classes, so there is no miou or map")
    return said


def kinds_of(model: WorldModel, data: Dataset | None = None) -> dict[str, str]:
    """name -> kind of every modality and condition but sentences.

    A codec may state its `kind`; else it is what the data set notes of the column; else a camera's video is a picture
    and all the rest are numbers. Without data every video is a picture unless its codec says otherwise.
    Errors: ValueError where codec and data set disagree.
    """
    notes = {} if data is None else noted(data).dense
    found = {}
    for name, part in {**model.modalities, **model.conditions}.items():
        signal = part.signal(name)
        if signal.kind == "text":
            continue
        told, said = notes.get(signal.key, {}).get("kind"), stated(model.codec(name))
        if told in DENSE and said not in (None, told):
            raise ValueError(f"{name}: its codec is for {said}, but the column {signal.key!r} holds {told}")
        picture = signal.kind == "video" and (data is None or signal.key in data.facts.cameras)
        kind = said or told or (PICTURE if picture else NUMBERS)
        found[name] = kind if kind in _ERRORS else NUMBERS
    return found


def stated(codec: Codec) -> str | None:
    """The kind that a codec says its raw values are; that of a chain is what its first codec says."""
    return getattr(_first(codec), "kind", None)


def _first(codec: Codec) -> object:
    """The codec next to the raw values, of a chain."""
    return getattr(codec, "codecs", (codec,))[0]


def about(signal: Signal, kind: str, data: Dataset, scale: Tensor | None = None, codec: Codec | None = None) -> About:
    """What is known of a signal of the data, and of what decodes it."""
    first = None if codec is None else _first(codec)
    note = noted(data).dense.get(signal.key, {})
    # Joints of several figures are named FIGURE.JOINT.
    figures = Counter(str(name).rpartition(".")[0] for name in note.get("joints", ()))
    return About(
        kind=kind,
        scale=scale,
        classes=tuple(sorted(int(c) for c in note.get("classes", ()))),
        joints=max(figures.values()) if len(set(figures.values())) == 1 else None,
        camera=camera_of(signal.key),
        align=getattr(first, "alignment", "none"),
        framewise=getattr(first, "range", "") == "frame",
        lost=(*getattr(first, "loses", ()), *(("instance",) if getattr(first, "of", "") == "class" else ())),
    )


def camera_of(key: str) -> str:
    """ "observation.depth.front" -> "front"."""
    return key.rsplit(".", 1)[-1]


def is_main(key: str) -> bool:
    """Whether "video.mse" is among the measures that are printed of a pair."""
    return key.rsplit(".", 1)[-1] in MAIN


def spec(key: str) -> Measure:
    """The measure of "video.mse" or "mse"."""
    return MEASURES[key.rsplit(".", 1)[-1]]


def _numbers(p: Tensor, t: Tensor, about: About, moving: Tensor | None) -> dict[str, Tensor]:
    found = {"rmse": metrics.rmse(p, t)}
    return found if about.scale is None else {"error": metrics.scaled_error(p, t, about.scale), **found}


def _picture(p: Tensor, t: Tensor, about: About, moving: Tensor | None) -> dict[str, Tensor]:
    found = {"mse": metrics.mse(p, t), "psnr": metrics.psnr(p, t), "ssim": metrics.ssim(p, t)}
    return found if moving is None else found | {"mse_moving": metrics.mse_moving(p, t, moving)}


def _depth(p: Tensor, t: Tensor, about: About, moving: Tensor | None) -> dict[str, Tensor]:
    if about.align != "none":
        found = dense.depth_errors(p, t, about.align, framewise=about.framewise)
        return {"absrel_aligned": found["absrel"], "delta_aligned": found["delta"]}
    plain, fitted = dense.depth_errors(p, t), dense.depth_errors(p, t, "scale and shift")
    found = {"absrel": plain["absrel"], "rmse": plain["rmse"], "delta": plain["delta"],
             "absrel_fitted": fitted["absrel"], "delta_fitted": fitted["delta"]}  # fmt: skip
    inverse = dense.depth_errors(p, t, "inverse")
    found |= {"absrel_disparity": inverse["absrel"], "delta_disparity": inverse["delta"]}
    if moving is not None:
        # Depth 0 is unknown, and what is unknown does not count.
        found["absrel_moving"] = dense.depth_errors(p, torch.where(moving[..., None], t, 0 * t))["absrel"]
    return found


def _flow(p: Tensor, t: Tensor, about: About, moving: Tensor | None) -> dict[str, Tensor]:
    return dense.flow_errors(p, t)


def _segmentation(p: Tensor, t: Tensor, about: About, moving: Tensor | None) -> dict[str, Tensor]:
    if not about.classes:
        return {}
    found = {"miou": dense.class_counts(p, t, about.classes)}
    if "instance" not in about.lost:
        each = found_instances(p, t, () if "class" in about.lost else about.classes)
        found |= {"map": each.flatten(1), "map_half": each[..., :3].flatten(1)}
    if moving is not None:
        # -1 is a class that nobody asks about.
        there = (v.masked_fill(~moving[..., None], -1) for v in (p, t))
        found["miou_moving"] = dense.class_counts(*there, about.classes)
    return found


def _surface(p: Tensor, t: Tensor, about: About, moving: Tensor | None) -> dict[str, Tensor]:
    found = dense.surface_errors(p, t)
    if moving is not None:
        masked = torch.where(moving[..., None], t, 0 * t)
        found["part_accuracy_moving"] = dense.surface_errors(p, masked)["part_accuracy"]
    return found


def _skeleton(p: Tensor, t: Tensor, about: About, moving: Tensor | None) -> dict[str, Tensor]:
    return dense.keypoint_errors(p, t, joints=about.joints)


_ERRORS: Mapping[str, Errors] = {
    NUMBERS: _numbers,
    PICTURE: _picture,
    "depth": _depth,
    "flow": _flow,
    "segmentation": _segmentation,
    "surface": _surface,
    "skeleton": _skeleton,
}
