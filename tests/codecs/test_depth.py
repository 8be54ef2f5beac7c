"""Depth as pictures and planes: the error of every round trip, clean and worn, in stated alignment."""

from __future__ import annotations

from pathlib import Path
from time import process_time

import numpy as np
import pytest
import torch
from PIL import Image
from scenes import scene, worn

from polyclock.codecs import DepthColor, DepthPlane
from polyclock.codecs.colours import SPECTRAL
from polyclock.evaluate.dense import depth_errors

NEAR, FAR = 0.8, 4.5
TRUE = scene()["depth"]

# AbsRel, as mean over the scene, of a picture: clean, in 8 bits, with noise of 0.05, blurred over 3 x 3, both.
BOUNDS = [
    (DepthColor(near=NEAR, far=FAR), (1e-4, 1e-3, 0.015, 0.010, 0.022)),
    (DepthColor(near=NEAR, far=FAR, scale="inverse"), (2e-4, 2e-3, 0.028, 0.015, 0.040)),
    (DepthColor(map="grey", near=NEAR, far=FAR), (1e-6, 2e-3, 0.024, 0.030, 0.050)),
    (DepthColor(range="clip"), (1e-4, 1e-3, 0.010, 0.007, 0.016)),
    (DepthColor(map="grey", range="clip", scale="inverse"), (1e-5, 3e-3, 0.032, 0.035, 0.055)),
    (DepthPlane(near=NEAR, far=FAR), (1e-6, 2e-3, 0.042, 0.030, 0.065)),
    (DepthPlane(near=NEAR, far=FAR, scale="inverse"), (1e-6, 4e-3, 0.090, 0.050, 0.130)),
]


@pytest.mark.parametrize(("codec", "bounds"), BOUNDS, ids=lambda v: str(v)[:60])
def test_round_trip(codec, bounds: tuple[float, ...]) -> None:
    picture = codec.encode(TRUE)
    assert picture.shape == (*TRUE.shape[:-1], codec.channels) and picture.dtype == torch.float32
    assert float(picture.min()) >= -1 and float(picture.max()) <= 1
    for (wear, x), bound in zip(worn(picture).items(), bounds, strict=True):
        back = codec.decode(x)
        assert back.shape == TRUE.shape and back.dtype == torch.float32
        found = float(depth_errors(back, TRUE, getattr(codec, "alignment", "none"))["absrel"].mean())
        assert found <= bound, (wear, found)
        agree = ((back > 0) == (TRUE > 0)).double().mean()
        assert float(agree) >= (0.996 if wear in ("blur", "both") else 0.9995), (wear, agree)


def test_the_published_colours_stand_where_they_belong() -> None:
    depth = torch.tensor([1.0, 2.0, 3.0]).reshape(1, 1, 1, 3, 1)
    colours = (DepthColor(near=1, far=3).encode(depth)[0, 0, 0] + 1) * 127.5
    torch.testing.assert_close(colours, torch.tensor([SPECTRAL[0], SPECTRAL[5], SPECTRAL[10]]).float())
    greys = DepthColor(map="grey", near=1, far=3, gap=0.0).encode(depth)[0, 0, 0]
    torch.testing.assert_close(greys, torch.tensor([1.0, 0.0, -1.0])[:, None].expand(3, 3))


def test_real_depth(real_data: Path) -> None:
    """A metric stereo pair on every third pixel: 2.1 to 5.0 m, 7 % unknown."""
    (path,) = (real_data / "scikit_image").rglob("*disp*.npz")
    with np.load(path, allow_pickle=False) as file:
        disparity = torch.from_numpy(file[file.files[0]].astype(np.float32))
    depth = torch.where(torch.isfinite(disparity), 994.98 * 0.193 / (disparity + 31.086), 0.0)[
        None, None, ::3, ::3, None
    ]
    near, far = float(depth[depth > 0].min()), float(depth.max())
    assert 1 < near < far < 10
    for codec, bounds in (
        (DepthColor(near=near, far=far), (1e-4, 1e-3, 0.012, 0.03, 0.035)),
        (DepthColor(range="frame", scale="inverse"), (1e-4, 1e-3, 0.010, 0.035, 0.035)),
        (DepthPlane(near=near, far=far), (1e-6, 2e-3, 0.030, 0.045, 0.065)),
    ):
        for (wear, x), bound in zip(worn(codec.encode(depth)).items(), bounds, strict=True):
            found = float(depth_errors(codec.decode(x), depth, getattr(codec, "alignment", "none"))["absrel"])
            assert found <= bound, (codec, wear, found)


def test_a_video_file_of_published_depth_is_read(real_data: Path) -> None:
    """A published clip in grey, near bright, lossy: its decoded order is that of its brightness."""
    from polyclock.data.video import read_frames

    frames = read_frames(real_data / "cosmos_transfer1/assets/example1_depth.mp4", [0, 60], fps=30, size=(120, 160))
    x = torch.from_numpy(frames)[None].float() / 127.5 - 1
    back = DepthColor(map="grey", range="clip", gap=0.0).decode(x)
    assert 0 < float(back.min()) < float(back.max()) <= 1
    assert float(torch.corrcoef(torch.stack([back.flatten(), x.mean(-1).flatten()]))[0, 1]) < -0.999


def test_relative_depth_runs_from_a_twentieth_to_one() -> None:
    depth = torch.tensor([[2.0, 3.0], [10.0, 20.0]]).reshape(1, 2, 1, 2, 1)
    frame = DepthColor(range="frame")
    torch.testing.assert_close(frame.decode(frame.encode(depth)).flatten(), torch.tensor([0.05, 1.0, 0.05, 1.0]))
    clip = DepthColor(range="clip")
    assert clip.decode(clip.encode(depth)).flatten()[1] == pytest.approx(0.05 + 0.95 / 18, abs=1e-4)
    for codec in (frame, clip, DepthColor(range="clip", scale="inverse"), DepthColor(map="grey", range="frame")):
        again = codec.encode(codec.decode(codec.encode(TRUE)))
        torch.testing.assert_close(again, codec.encode(TRUE), atol=2e-3, rtol=0)


@pytest.mark.parametrize("range", ["clip", "frame"])
def test_nothing_known_and_nothing_but_one_depth(range: str) -> None:
    codec = DepthColor(range=range)
    for empty in (0.0, float("nan"), float("inf"), -1.0):
        picture = codec.encode(torch.full((1, 2, 4, 4, 1), empty))
        assert bool((picture == -1).all()) and not codec.decode(picture).any()
    flat = codec.decode(codec.encode(torch.full((1, 2, 4, 4, 1), 2.5)))
    assert bool((flat == flat[0, 0, 0, 0]).all()) and float(flat.max()) > 0
    assert codec.alignment == "scale and shift" and DepthColor(range=range, scale="inverse").alignment == "inverse"
    one = torch.zeros(1, 2, 4, 4, 1)
    one[:, 0, 0, 0] = 3.0
    assert int((codec.decode(codec.encode(one)) > 0).sum()) == 1


def test_what_lies_outside_the_range_moves_to_its_ends() -> None:
    depth = torch.tensor([0.1, 1.0, 2.0, 9.0]).reshape(1, 1, 1, 4, 1)
    for codec in (DepthPlane(near=1, far=2), DepthColor(near=1, far=2), DepthColor(map="grey", near=1, far=2)):
        torch.testing.assert_close(codec.decode(codec.encode(depth)).flatten(), torch.tensor([1.0, 1.0, 2.0, 2.0]))


def test_without_a_gap_everything_is_known() -> None:
    """Also what a network paints a little below the range."""
    for codec in (DepthPlane(near=1, far=3, gap=0.0), DepthColor(map="grey", near=1, far=3, gap=0.0)):
        found = codec.decode(torch.full((1, 1, 1, 1, codec.channels), -1.01))
        assert found.item() == pytest.approx(3.0)


def test_decoding_is_fast() -> None:
    codec, x = DepthColor(near=1, far=4), torch.rand(4, 3, 128, 128, 3) * 2 - 1
    seconds = []
    for _ in range(3):
        start = process_time()
        codec.decode(x)
        seconds.append(process_time() - start)
    assert min(seconds) < 0.3


def test_mistakes() -> None:
    with pytest.raises(ValueError, match="possible: near and far in m with range='fixed'"):
        DepthColor()
    with pytest.raises(ValueError, match="neither with range='clip'"):
        DepthColor(range="clip", near=1.0, far=2.0)
    with pytest.raises(ValueError, match="needed: 0 < near < far"):
        DepthPlane(near=2, far=1)
    with pytest.raises(ValueError, match="near=0.0, far=2.0; needed: 0 < near < far"):
        DepthColor(near=0.0, far=2.0)
    with pytest.raises(ValueError, match="unknown map of depth 'gray'. Did you mean 'grey'"):
        DepthColor(map="gray", near=1, far=2)
    with pytest.raises(ValueError, match="no effect with map='spectral'"):
        DepthColor(near=1, far=2, gap=0.1)
    with pytest.raises(ValueError, match=r"makes latents \(T, H, W, 3\)"):
        DepthColor(near=1, far=2).raw_shape((4, 8, 8, 1))
    with pytest.raises(ValueError, match=r"needed: \(B, T, H, W, 1\) = depth"):
        DepthPlane(near=1, far=2).encode(torch.zeros(1, 1, 4, 4, 3))
    with pytest.raises(ValueError, match=r"needed: \(B, T, H, W, 3\)"):
        DepthColor(near=1, far=2).decode(torch.zeros(1, 1, 4, 4, 1))


def test_the_map_can_be_seen(tmp_path: Path) -> None:
    """What is written as a PNG and read again is the same depth to 8 bits."""
    codec = DepthColor(near=NEAR, far=FAR)
    picture = ((codec.encode(TRUE[:1, :1])[0, 0] + 1) * 127.5).round().to(torch.uint8)
    Image.fromarray(picture.numpy()).save(tmp_path / "depth.png")
    again = torch.from_numpy(np.asarray(Image.open(tmp_path / "depth.png")).copy()).float() / 127.5 - 1
    assert float(depth_errors(codec.decode(again[None, None]), TRUE[:1, :1])["absrel"]) < 1e-3
