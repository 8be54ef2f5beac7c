"""Signals as colour video for the page: one way to draw each, the same for what was given, predicted and true."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import torch

from ..codecs import TAB20, DepthColor, FlowColor, Palette, SurfaceColor
from ..codecs.codec import Codec
from ..evaluate.kinds import PICTURE, camera_of
from .markup import Markup, element
from .scenes import Clip, Scenes
from .strips import picture

WHEEL = 56  # pixels of the drawn colour wheel
SKELETON = 192  # pixels to a side of a picture with joints drawn into it
STEPS = 96  # colours of a drawn scale
SHARE = 0.001  # of the pixels; a class that has fewer everywhere is not in the legend


@dataclass(frozen=True, kw_only=True)
class Paint:
    """How a signal is drawn.

    colour  values (n, *S, C) -> uint8 (n, H, W, 3)
    legend  what the colours mean; None where they are those of the world
    sharp   whether pixels keep their edges when they are enlarged
    """

    colour: Callable[[np.ndarray], np.ndarray]
    legend: Markup | None = None
    sharp: bool = False


def paints(scenes: Scenes) -> dict[str, Paint]:
    """name -> how it is drawn, for every signal that is a video of pictures or maps. Ranges are those of the truth."""
    out = {}
    for name, signal in scenes.signals.items():
        clips = scenes.true(name)
        kind = scenes.kinds.get(name)
        if not clips or kind == "skeleton" or clips[0].values.ndim != 4:
            continue
        note = scenes.notes.get(signal.key, {})
        values = np.concatenate([c.values for c in clips])
        out[name] = {"depth": _depth, "flow": _flow, "segmentation": _masks, "surface": _surface}.get(
            kind or "", _plain
        )(values, note)
    return out


def drawn(points: np.ndarray, under: np.ndarray | None, frame: tuple[int, int] | None, note: Mapping) -> np.ndarray:
    """Skeletons (n, K, 3) px of a picture of size `frame` -> uint8 (n, H, W, 3), over pictures `under` (n, H, W, 3).

    frame: None: a square that all points lie in.
    """
    from PIL import Image, ImageDraw

    if frame is None:
        side = max(1.0, float(points[..., :2].max(initial=1.0)) * 1.05)
        frame = (round(side), round(side))
    zoom = SKELETON / max(frame)
    size = (max(1, round(frame[1] * zoom)), max(1, round(frame[0] * zoom)))
    colours = joint_colours(points.shape[1])
    names = list(note.get("joints", ()))
    limbs = [(names.index(a), names.index(b)) for a, b in note.get("limbs", ()) if a in names and b in names]
    out = []
    for i, joints in enumerate(points):
        if under is None:
            page = Image.new("RGB", size, (22, 24, 27))
        else:
            page = Image.fromarray(under[i]).resize(size, Image.Resampling.BILINEAR)
            page = Image.blend(page, Image.new("RGB", size), 0.35)  # so that the lines stand out
        pen = ImageDraw.Draw(page)
        at = [(float(x) * zoom, float(y) * zoom) if seen > 0.5 and np.isfinite((x, y)).all() else None
              for x, y, seen in joints]  # fmt: skip
        for a, b in limbs:
            if (start := at[a]) and (end := at[b]):
                pen.line([start, end], tuple(int(0.75 * c) for c in colours[b]), 3)
        for place, colour in zip(at, colours, strict=True):
            if place:
                pen.ellipse([place[0] - 4, place[1] - 4, place[0] + 4, place[1] + 4], colour, (0, 0, 0))
        out.append(np.asarray(page))
    return np.stack(out)


def joint_colours(count: int) -> list[tuple[int, int, int]]:
    """Even steps of hue, red first; the second half is paler where there are many."""
    import colorsys

    ring = count if count <= 18 else -(-count // 2)
    found = []
    for i in range(count):
        red, green, blue = colorsys.hsv_to_rgb(i % ring / ring, 1.0 if i < ring else 0.45, 1.0)
        found.append((round(255 * red), round(255 * green), round(255 * blue)))
    return found


def beneath(scenes: Scenes, key: str, clips: Mapping[str, Clip], times: tuple[float, ...]) -> np.ndarray | None:
    """The pictures of the same camera at `times`, from the clips at hand: uint8 (n, H, W, 3), or None."""
    camera = camera_of(key)
    for name, clip in clips.items():
        same = camera_of(scenes.signals[name].key) == camera
        if same and scenes.kinds.get(name) == PICTURE and clip.values.dtype == np.uint8:
            nearest = [int(np.argmin(np.abs(np.array(clip.times) - t))) for t in times]
            return _three(clip.values[nearest])
    return None


def _through(codec: Codec) -> Callable[[np.ndarray], np.ndarray]:
    """Draws by a codec whose latents are pictures."""

    def colour(values: np.ndarray) -> np.ndarray:
        latent = codec.encode(torch.from_numpy(np.ascontiguousarray(values))[None])[0]
        return ((latent.clamp(-1, 1) + 1) * 127.5).round().byte().numpy()

    return colour


def _depth(values: np.ndarray, note: Mapping) -> Paint:
    known = values[np.isfinite(values) & (values > 0)]
    near, far = (float(v) for v in np.percentile(known, [1, 99])) if len(known) else (1.0, 2.0)
    near, far = max(near, 1e-3), max(far, near * 1.01, 1e-3)
    colour = _through(DepthColor(near=near, far=far))
    ramp = np.linspace(near, far, STEPS, dtype=np.float32).reshape(1, 1, STEPS, 1)
    scale = element(
        "span",
        element("span", f"{near:.2f} m"),
        element("img", src=f"data:image/{picture(colour(ramp)[0])}", alt="from red to violet", class_="ramp"),
        element("span", f"{far:.2f} m"),
        class_="scale",
    )
    black = element("span", element("i", class_="swatch", style="background:rgb(0,0,0)"), "unknown", class_="entry")
    return Paint(colour=colour, legend=element("span", scale, black if len(known) < values.size else None))


def _flow(values: np.ndarray, note: Mapping) -> Paint:
    flow = np.nan_to_num(values[..., :2])
    reach = max(0.5, float(np.percentile(np.hypot(flow[..., 0], flow[..., 1]), 99.8)))
    colour = _through(FlowColor(reach=reach))
    row, column = np.mgrid[:WHEEL, :WHEEL] * (2 / (WHEEL - 1)) - 1.0
    disc = np.stack([column * reach, row * reach, np.zeros_like(row)], -1).astype(np.float32)
    disc[np.hypot(row, column) > 1] = 0
    shown = element("img", src=f"data:image/{picture(colour(disc[None])[0])}", alt="colour wheel", class_="wheel")
    steps = note.get("steps")
    over = f" to {abs(steps)} frames {'on' if steps > 0 else 'back'}" if steps else ""
    text = f"from the middle: which way a point moves{over}; full colour = {reach:.2g} px, white = still"
    return Paint(colour=colour, legend=element("span", shown, text, class_="scale"))


def _masks(values: np.ndarray, note: Mapping) -> Paint:
    colour = _through(Palette(of="class", colours=TAB20, cycle=True))
    ids = values[..., 1]
    there = [int(i) for i in np.unique(ids) if (ids == i).mean() > SHARE]
    names = {int(k): str(v) for k, v in note.get("classes", {}).items()}
    entries = []
    for i in there:
        r, g, b = TAB20[(i - 1) % len(TAB20)] if i else (0, 0, 0)
        swatch = element("i", class_="swatch", style=f"background:rgb({r},{g},{b})")
        entries.append(element("span", swatch, names.get(i, f"class {i}"), class_="entry"))
    return Paint(colour=colour, legend=element("span", entries), sharp=True)


def _surface(values: np.ndarray, note: Mapping) -> Paint:
    parts = max([int(values[..., 0].max(initial=1)), *(int(k) for k in note.get("parts", {}))])
    text = "red = which part, green and blue = where on it (u and v)"
    return Paint(colour=_through(SurfaceColor(count=parts)), legend=element("span", text), sharp=True)


def _plain(values: np.ndarray, note: Mapping) -> Paint:
    """Pictures as they are; other numbers between the least and the greatest that the truth holds."""
    if values.dtype == np.uint8:
        return Paint(colour=_three)
    seen = values[np.isfinite(values)].astype(np.float64)
    low, high = (float(seen.min()), float(seen.max())) if len(seen) else (0.0, 1.0)

    def colour(numbers: np.ndarray) -> np.ndarray:
        spread = np.clip((np.nan_to_num(numbers.astype(np.float64), nan=low) - low) / max(high - low, 1e-12), 0, 1)
        return _three((255 * spread).round().astype(np.uint8))

    return Paint(colour=colour, legend=element("span", f"black = {low:.3g}, full = {high:.3g}"))


def _three(frames: np.ndarray) -> np.ndarray:
    """uint8 (n, H, W, C) -> (n, H, W, 3): grey for one channel; of more than three the first three."""
    if frames.shape[-1] == 1:
        return np.repeat(frames, 3, -1)
    blank = np.zeros((*frames.shape[:-1], max(0, 3 - frames.shape[-1])), np.uint8)
    return np.concatenate([frames, blank], -1)[..., :3]
