"""Surface maps as pictures and planes: part accuracy and (u, v) errors of every round trip, clean and worn."""

from __future__ import annotations

from time import process_time

import pytest
import torch
from scenes import scene, worn

from polyclock.codecs import SurfaceColor, SurfacePlanes
from polyclock.codecs.colours import VIRIDIS
from polyclock.evaluate.dense import surface_errors

TRUE = scene()["surface"]

# Part accuracy of 24 parts in patches of about 10 px: clean, in 8 bits, with noise of 0.05, blurred over 3 x 3, both.
BOUNDS = [
    (SurfaceColor(), (1.0, 1.0, 0.90, 0.90, 0.79)),
    (SurfaceColor(style="viridis"), (1.0, 1.0, 0.96, 0.95, 0.89)),
    (SurfaceColor(style="digits"), (1.0, 1.0, 0.999, 0.95, 0.94)),
    (SurfacePlanes(), (1.0, 1.0, 0.999, 0.95, 0.94)),
]


@pytest.mark.parametrize(("codec", "bounds"), BOUNDS, ids=lambda v: str(v)[:40])
def test_round_trip(codec, bounds: tuple[float, ...]) -> None:
    picture = codec.encode(TRUE)
    assert picture.shape == (*TRUE.shape[:-1], codec.channels) and picture.dtype == torch.float32
    assert float(picture.min()) >= -1 and float(picture.max()) <= 1
    for (wear, x), bound in zip(worn(picture).items(), bounds, strict=True):
        back = codec.decode(x)
        assert back.shape == TRUE.shape and back.dtype == torch.float32
        found = surface_errors(back, TRUE)
        assert float(found["part_accuracy"].mean()) >= bound, (wear, found)
        assert float(found["part_agreement"].mean()) >= bound - 0.035, (wear, found)
        if getattr(codec, "style", "iuv") == "iuv":
            assert float(found["uv_error"].mean()) <= {"clean": 1e-5, "8 bits": 0.003}.get(wear, 0.07), (wear, found)


def test_the_channels_are_part_u_and_v() -> None:
    values = torch.tensor([[0.0, 0.5, 0.5], [24, 0.25, 1.0], [12, 0.0, 0.75]]).reshape(1, 1, 1, 3, 3)
    picture = ((SurfaceColor().encode(values) + 1) / 2)[0, 0, 0]
    torch.testing.assert_close(picture[1:], torch.tensor([[1.0, 0.25, 1.0], [0.5, 0.0, 0.75]]))
    assert SurfaceColor().decode(SurfaceColor().encode(values))[0, 0, 0, 0].tolist() == [0, 0, 0]
    shown = ((SurfaceColor(style="viridis").encode(values) + 1) * 127.5)[0, 0, 0]
    assert shown[0].round().tolist() == [68, 1, 84] and shown[1].round().tolist() == list(map(float, VIRIDIS[-1]))


@pytest.mark.parametrize("count", [1, 7, 8, 24, 62, 124])
def test_every_part_has_its_code(count: int) -> None:
    values = torch.zeros(1, 1, 1, count + 1, 3)
    values[0, 0, 0, :, 0] = torch.arange(count + 1)
    codec = SurfacePlanes(count=count)
    picture = codec.encode(values)
    assert torch.equal(codec.decode(picture)[..., 0], values[..., 0])
    steps = torch.cdist(picture[0, 0, 0], picture[0, 0, 0])[~torch.eye(count + 1, dtype=torch.bool)]
    assert float(steps.min()) >= (0.99 if count <= 26 else 0.49)


def test_no_part_at_all() -> None:
    empty = torch.zeros(1, 2, 6, 6, 3)
    for codec in (SurfaceColor(), SurfaceColor(style="viridis"), SurfaceColor(style="digits"), SurfacePlanes()):
        for wear, x in worn(codec.encode(empty)).items():
            back = codec.decode(x)
            seen, found = float((back[..., 0] > 0).float().mean()), surface_errors(back, empty)
            assert seen < 0.1 if wear in ("noise", "both") else not back.any()
            # There is none to find; what is seen all the same is wrong, and there is nothing to agree on where none is.
            assert found["part_accuracy"].isnan() and found["uv_error"].isnan()
            assert found["part_agreement"] == 0 if seen else found["part_agreement"].isnan()


def test_decoding_is_fast() -> None:
    for codec in (SurfaceColor(), SurfaceColor(style="viridis"), SurfaceColor(style="digits"), SurfacePlanes()):
        x = torch.rand(4, 3, 128, 128, codec.channels) * 2 - 1
        seconds = []
        for _ in range(3):
            start = process_time()
            codec.decode(x)
            seconds.append(process_time() - start)
        assert min(seconds) < 0.3


def test_mistakes() -> None:
    values = torch.full((1, 1, 2, 2, 3), 25.0)
    for codec in (SurfaceColor(), SurfacePlanes()):
        with pytest.raises(ValueError, match="surface part 25 has no code; possible: 0 to 24"):
            codec.encode(values)
    with pytest.raises(ValueError, match="unknown style of a surface 'uvi'. Did you mean 'iuv'"):
        SurfaceColor(style="uvi")
    with pytest.raises(ValueError, match="at least 1 part"):
        SurfacePlanes(count=0)
    with pytest.raises(ValueError, match=r"makes latents \(T, H, W, 5\)"):
        SurfacePlanes().raw_shape((1, 8, 8, 3))
