"""Flow as pictures and planes: end-point errors of every round trip, clean and worn."""

from __future__ import annotations

import math
from pathlib import Path
from time import process_time

import numpy as np
import pytest
import torch
from scenes import scene, worn

from polyclock.codecs import Chain, FlowColor, FlowFrames, FlowPlanes
from polyclock.evaluate.dense import flow_errors

REACH = 12.0
TRUE = scene()["flow"]

# EPE in px over all pixels, with a reach of 12 px: clean, in 8 bits, with noise of 0.05, blurred over 3 x 3, both.
BOUNDS = [
    (FlowColor(reach=REACH), (1e-4, 0.01, 0.40, 0.18, 0.50)),
    (FlowColor(style="hsv", reach=REACH), (1e-4, 0.01, 0.40, 0.18, 0.50)),
    (FlowPlanes(reach=REACH), (1e-5, 0.08, 0.85, 0.18, 0.95)),
    (FlowPlanes(reach=REACH, knee=1.0), (1e-5, 0.03, 0.40, 0.20, 0.50)),
]


@pytest.mark.parametrize(("codec", "bounds"), BOUNDS, ids=lambda v: str(v)[:60])
def test_round_trip(codec, bounds: tuple[float, ...]) -> None:
    picture = codec.encode(TRUE)
    assert picture.shape == (*TRUE.shape[:-1], codec.channels)
    assert float(picture.min()) >= -1 and float(picture.max()) <= 1
    for (wear, x), bound in zip(worn(picture).items(), bounds, strict=True):
        back = codec.decode(x)
        assert back.shape == TRUE.shape and back.dtype == torch.float32 and not back[..., 2].any()
        found = flow_errors(back, TRUE)
        assert float(found["epe"].mean()) <= bound, (wear, found)
        assert float(found["fl"].mean()) <= 0.02, (wear, found)


def published(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """The wheel of Baker et al. 2007 as it is usually programmed, for flow of length at most 1; RGB in 0 .. 255."""
    ends = np.array([[255, 0, 0], [255, 255, 0], [0, 255, 0], [0, 255, 255], [0, 0, 255], [255, 0, 255], [255, 0, 0]])
    rows = []
    for number, steps in enumerate((15, 6, 4, 11, 13, 6)):
        part = np.arange(steps)[:, None] / steps
        rows.append(ends[number] * (1 - part) + ends[number + 1] * part)
    wheel = np.concatenate(rows) / 255
    length, place = np.hypot(u, v), (np.arctan2(-v, -u) / np.pi + 1) / 2 * (len(wheel) - 1)
    low = np.floor(place).astype(int)
    part = (place - low)[..., None]
    colour = wheel[low] * (1 - part) + wheel[(low + 1) % len(wheel)] * part
    return 255 * (1 - length[..., None] * (1 - colour))


def test_the_wheel_is_the_published_one() -> None:
    v, u = np.mgrid[-1:1:41j, -1:1:41j].astype(np.float32)
    inside = np.hypot(u, v) <= 1
    flow = torch.from_numpy(np.stack([u, v, 0 * u], -1))[None, None]
    ours = (FlowColor(reach=1.0).encode(flow)[0, 0].numpy() + 1) * 127.5
    np.testing.assert_allclose(ours[inside], published(u, v)[inside], atol=0.05)


def test_known_colours() -> None:
    flow = torch.tensor([[0.0, 0, 0], [4, 0, 0], [0, 4, 0], [-4, 0, 0], [2, 0, 0]]).reshape(1, 1, 1, 5, 3)
    wheel = ((FlowColor(reach=4).encode(flow) + 1) / 2)[0, 0, 0]
    assert wheel[0].tolist() == [1, 1, 1] and wheel[1].tolist() == [1, 0, 0] and wheel[4].tolist() == [1, 0.5, 0.5]
    hue = ((FlowColor(style="hsv", reach=4).encode(flow) + 1) / 2)[0, 0, 0]
    assert hue[0].tolist() == [0, 0, 0] and hue[1].tolist() == [1, 0, 0] and hue[4].tolist() == [0.5, 0, 0]
    torch.testing.assert_close(hue[3], torch.tensor([0.0, 1.0, 1.0]))


@pytest.mark.parametrize("style", ["wheel", "hsv"])
def test_every_direction_comes_back(style: str) -> None:
    angle = torch.linspace(-math.pi, math.pi, 1000)
    flow = torch.stack([angle.cos(), angle.sin(), 0 * angle], -1).reshape(1, 1, 1, -1, 3)
    codec = FlowColor(style=style, reach=1.0)
    assert float((codec.decode(codec.encode(flow)) - flow).norm(dim=-1).max()) < 1e-5


def test_flow_above_the_reach_keeps_its_direction_and_is_cut() -> None:
    flow = torch.tensor([30.0, -40.0, 0.0]).reshape(1, 1, 1, 1, 3)
    for style in ("wheel", "hsv"):
        codec = FlowColor(style=style, reach=5.0)
        torch.testing.assert_close(codec.decode(codec.encode(flow)).flatten(), torch.tensor([3.0, -4.0, 0.0]))
    for codec in (FlowPlanes(reach=5.0), FlowPlanes(reach=5.0, knee=0.5)):
        torch.testing.assert_close(codec.decode(codec.encode(flow)).flatten(), torch.tensor([5.0, -5.0, 0.0]))


def test_a_relative_range_is_relative() -> None:
    flow = torch.zeros(1, 2, 1, 2, 3)
    flow[0, 0, 0, 0, 0], flow[0, 1, 0, 1, 1] = 8.0, -2.0
    clip, frame = (FlowColor(range=r) for r in ("clip", "frame"))
    torch.testing.assert_close(clip.decode(clip.encode(flow)), flow / 8)
    torch.testing.assert_close(
        frame.decode(frame.encode(flow)), flow / torch.tensor([8.0, 2.0]).reshape(1, 2, 1, 1, 1), atol=1e-6, rtol=0
    )
    still = torch.zeros(1, 2, 4, 4, 3)
    assert not clip.decode(clip.encode(still)).any()


SHARE = 0.15  # of the diagonal, as Chefer et al. 2025 draw it


def drawn(u: np.ndarray, v: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Hue (angle + pi) / 2 pi, full saturation, value min(1, |f| / (0.15 diagonals)), by the standard library."""
    import colorsys

    m = np.minimum(1, np.hypot(u, v) / (SHARE * np.hypot(*size)))
    hue = (np.arctan2(v, u) + np.pi) / (2 * np.pi)
    return np.array([colorsys.hsv_to_rgb(h % 1, 1.0, s) for h, s in zip(hue.ravel(), m.ravel(), strict=True)])


@pytest.mark.parametrize("size", [(12, 16), (48, 64)])
def test_a_share_of_the_diagonal_is_drawn_as_published(size: tuple[int, int]) -> None:
    dice = np.random.default_rng(0)
    flow = dice.normal(size=(*size, 2)).astype(np.float32) * SHARE * math.hypot(*size) * 0.7
    codec = FlowColor(style="hsv", range="diagonal", reach=SHARE, turn=0.5)
    whole = torch.from_numpy(np.concatenate([flow, np.zeros((*size, 1), np.float32)], -1))[None, None]
    picture = codec.encode(whole)
    np.testing.assert_allclose(
        (picture[0, 0].reshape(-1, 3) + 1) / 2, drawn(flow[..., 0], flow[..., 1], size), atol=1e-5
    )
    assert codec.loses == ()
    within = whole.norm(dim=-1) <= SHARE * math.hypot(*size)
    off = (codec.decode(picture) - whole).norm(dim=-1)[within]
    assert float(off.max()) < 1e-4, "px"
    eight_bits = ((picture + 1) * 127.5).round() / 127.5 - 1
    off = (codec.decode(eight_bits) - whole).norm(dim=-1)[within] / (SHARE * math.hypot(*size))
    assert float(off.mean()) < 1 / 250 and float(off.max()) < 1 / 80


def test_a_share_of_the_diagonal_means_the_same_at_every_resolution() -> None:
    flow = torch.zeros(1, 1, 6, 8, 3)
    flow[..., 0] = 1.0
    large = flow.repeat_interleave(4, 2).repeat_interleave(4, 3) * 4
    codec = FlowColor(style="hsv", range="diagonal", reach=SHARE)
    torch.testing.assert_close(codec.encode(large)[0, 0, 0, 0], codec.encode(flow)[0, 0, 0, 0])


def test_flows_between_frames_become_as_many_as_frames() -> None:
    flow = torch.arange(1.0, 6).reshape(1, 5, 1, 1, 1).expand(1, 5, 2, 2, 3)

    def frames(**settings) -> list[float]:
        return FlowFrames(**settings).encode(flow)[0, :, 0, 0, 0].tolist()

    assert frames() == [1, 1, 2, 3, 4], "the flow into frame t stands at t"
    assert frames(fill="repeat_last") == [1, 2, 3, 4, 4] and frames(fill="still") == [0, 1, 2, 3, 4]
    assert frames(steps=2) == [1, 1, 1, 2, 3] and frames(steps=7) == [0] * 5
    for fill in ("repeat_first", "repeat_last", "still"):
        for steps in (1, 2):
            codec = FlowFrames(fill=fill, steps=steps)
            back = codec.decode(codec.encode(flow))
            assert torch.equal(back[:, :-steps], flow[:, :-steps]) and not back[:, -steps:].any()
    chain = Chain(FlowFrames(fill="still"), FlowColor(style="hsv", range="diagonal", reach=SHARE))
    assert chain.raw_shape((5, 2, 2, 3)) == (5, 2, 2, 3) and not chain.framewise
    assert (chain.encode(flow)[:, 0] == -1).all(), "black"
    assert FlowFrames().encode(flow[:0]).shape == (0, 5, 2, 2, 3)


def test_what_is_not_finite_does_not_move() -> None:
    flow = torch.tensor([float("nan"), 1.0, 1.0]).reshape(1, 1, 1, 1, 3)
    for codec in (FlowColor(reach=2.0), FlowPlanes(reach=2.0), FlowColor(range="clip")):
        assert not codec.decode(codec.encode(flow)).any()


def test_small_motion_survives_a_long_reach() -> None:
    flow = torch.tensor([0.3, -0.2, 0.0]).reshape(1, 1, 1, 1, 3).expand(1, 1, 8, 8, 3)
    plain, soft = FlowPlanes(reach=100.0), FlowPlanes(reach=100.0, knee=1.0)
    errors = [float(flow_errors(c.decode(worn(c.encode(flow))["noise"]), flow)["epe"]) for c in (plain, soft)]
    assert errors[1] < 0.1 * errors[0]


def test_real_flow(real_data: Path) -> None:
    """The horizontal flow of a stereo pair, 7 to 60 px, on every third pixel: long, and nowhere still."""
    (path,) = (real_data / "scikit_image").rglob("*disp*.npz")
    with np.load(path, allow_pickle=False) as file:
        disparity = torch.from_numpy(file[file.files[0]].astype(np.float32)[::3, ::3])
    lost = ~torch.isfinite(disparity)
    u = torch.where(lost, 0.0, -disparity)
    flow = torch.stack([u, 0 * u, lost.float()], -1)[None, None]
    for codec in (FlowColor(reach=64.0), FlowColor(style="hsv", reach=64.0), FlowPlanes(reach=64.0)):
        for (wear, x), bound in zip(worn(codec.encode(flow)).items(), (1e-3, 0.4, 4.8, 2.2, 5.5), strict=True):
            found = float(flow_errors(codec.decode(x), flow)["epe"])
            assert found <= bound, (codec, wear, found)


def test_decoding_is_fast() -> None:
    for codec in (FlowColor(reach=5.0), FlowPlanes(reach=5.0, knee=1.0)):
        x = torch.rand(4, 3, 128, 128, codec.channels) * 2 - 1
        seconds = []
        for _ in range(3):
            start = process_time()
            codec.decode(x)
            seconds.append(process_time() - start)
        assert min(seconds) < 0.3


def test_mistakes() -> None:
    with pytest.raises(ValueError, match="possible: reach above 0 px with range='fixed'"):
        FlowColor()
    with pytest.raises(ValueError, match="none with range='clip'"):
        FlowColor(range="clip", reach=3.0)
    with pytest.raises(ValueError, match="above 0 of the diagonal with range='diagonal'"):
        FlowColor(range="diagonal")
    with pytest.raises(ValueError, match="possible: style='hsv', or turn=0"):
        FlowColor(reach=1.0, turn=0.5)
    with pytest.raises(ValueError, match="unknown fill of frames without a flow 'black'"):
        FlowFrames(fill="black")
    with pytest.raises(ValueError, match="at least 1 frame"):
        FlowFrames(steps=0)
    with pytest.raises(ValueError, match="unknown style of flow 'weel'. Did you mean 'wheel'"):
        FlowColor(style="weel", reach=3.0)
    with pytest.raises(ValueError, match="px above 0"):
        FlowPlanes(reach=0.0)
    with pytest.raises(ValueError, match=r"= u, v, occluded"):
        FlowPlanes(reach=1.0).encode(torch.zeros(1, 1, 4, 4, 2))
    with pytest.raises(ValueError, match=r"makes latents \(T, H, W, 2\)"):
        FlowPlanes(reach=1.0).raw_shape((4, 8, 8, 3))
