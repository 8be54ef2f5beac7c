"""Masks in colour and as planes: IoU of every round trip, clean and worn; what has no colour is said."""

from __future__ import annotations

from pathlib import Path
from time import process_time

import numpy as np
import pytest
import torch
from PIL import Image
from scenes import scene, worn

from polyclock.codecs import TAB10, TAB20, LabelPlanes, Palette
from polyclock.evaluate.dense import class_counts
from polyclock.evaluate.kinds import iou_of

TRUE = scene()["segmentation"]

# Mean IoU over seven classes: clean, in 8 bits, with noise of 0.05, blurred over 3 x 3, both.
BOUNDS = [
    (Palette(), (1.0, 1.0, 0.999, 0.98, 0.97)),
    (Palette(colours=TAB20), (1.0, 1.0, 0.999, 0.98, 0.97)),
    (LabelPlanes(classes=7), (1.0, 1.0, 1.0, 0.99, 0.985)),
]


@pytest.mark.parametrize(("codec", "bounds"), BOUNDS, ids=lambda v: str(v)[:40])
def test_round_trip(codec, bounds: tuple[float, ...]) -> None:
    picture = codec.encode(TRUE)
    assert picture.shape == (*TRUE.shape[:-1], codec.channels) and picture.dtype == torch.float32
    for (wear, x), bound in zip(worn(picture).items(), bounds, strict=True):
        back = codec.decode(x)
        assert back.shape == TRUE.shape and back.dtype == torch.int32 and not back[..., 0].any()
        found = iou_of(class_counts(back, TRUE, 7).sum(0).numpy())
        assert found >= bound, (wear, found)


def test_thin_things_survive_where_the_picture_is_clean() -> None:
    dots = torch.zeros(1, 1, 9, 9, 2, dtype=torch.int32)
    dots[0, 0, 4, :, 1], dots[0, 0, 1, 1, 1] = 3, 8
    codec = Palette()
    for wear in ("clean", "8 bits", "noise"):
        assert torch.equal(codec.decode(worn(codec.encode(dots))[wear]), dots)


def test_the_colours_are_tab10() -> None:
    ids = torch.arange(11, dtype=torch.int32).reshape(1, 1, 1, 11, 1).expand(-1, -1, -1, -1, 2)
    colours = ((Palette().encode(ids)[0, 0, 0] + 1) * 127.5).round().int().tolist()
    assert colours == [[0, 0, 0], *(list(c) for c in TAB10)] and colours[1] == [31, 119, 180]
    assert TAB20[:10] == TAB10 and len(set(TAB20)) == 20


def test_instances_or_classes() -> None:
    maps = torch.tensor([[4, 1], [5, 2]]).reshape(1, 1, 1, 2, 2)
    for of, want in (("instance", [[4, 0], [5, 0]]), ("class", [[0, 1], [0, 2]])):
        for codec in (Palette(of=of), LabelPlanes(classes=6, of=of)):
            assert codec.decode(codec.encode(maps)).reshape(2, 2).tolist() == want


def test_more_ids_than_colours() -> None:
    maps = torch.tensor([1, 10, 11, 25]).reshape(1, 1, 1, 4, 1).expand(-1, -1, -1, -1, 2)
    with pytest.raises(ValueError, match="class id 25 has no colour or plane; possible: 0 to 10 .cycle=True"):
        Palette().encode(maps)
    around = Palette(cycle=True)
    assert around.decode(around.encode(maps))[0, 0, 0, :, 1].tolist() == [1, 10, 1, 5]
    with pytest.raises(ValueError, match="instance id 25 .*possible: 0 to 12 .a larger number of classes"):
        LabelPlanes(classes=13, of="instance").encode(maps)
    for codec in (Palette(), LabelPlanes(classes=3)):
        with pytest.raises(ValueError, match="id -1 has no colour or plane"):
            codec.encode(maps * 0 - 1)


def test_nothing_there() -> None:
    empty = torch.zeros(1, 2, 4, 4, 2, dtype=torch.int32)
    for codec in (Palette(), LabelPlanes(classes=3)):
        assert torch.equal(codec.decode(codec.encode(empty)), empty)
    assert bool((Palette().encode(empty) == -1).all())


def test_real_masks(real_data: Path) -> None:
    """Lossless masks of a simulated robot: its 20 largest colours as ids."""
    folder = real_data / "cosmos_transfer1/assets/robot_augmentation_example/example1/segmentation"
    pixels = np.asarray(Image.open(sorted(folder.glob("*.png"))[0]).convert("RGB"))[::3, ::3]
    colours, number, count = np.unique(pixels.reshape(-1, 3), axis=0, return_inverse=True, return_counts=True)
    rank = np.argsort(np.argsort(-count))
    assert len(colours) > 20
    ids = torch.from_numpy(np.where(rank <= 20, rank, 0)[number].reshape(pixels.shape[:2]).astype(np.int32))
    true = torch.stack([ids, ids], -1)[None, None]
    for codec, bounds in (
        (Palette(colours=TAB20), (1.0, 1.0, 0.99, 0.87, 0.865)),
        (LabelPlanes(classes=21), (1.0, 1.0, 0.999, 0.96, 0.96)),
    ):
        for (wear, x), bound in zip(worn(codec.encode(true)).items(), bounds, strict=True):
            found = iou_of(class_counts(codec.decode(x), true, 21).sum(0).numpy())
            assert found >= bound, (wear, found)


def test_decoding_is_fast() -> None:
    for codec in (Palette(), LabelPlanes(classes=13)):
        x = torch.rand(4, 3, 128, 128, codec.channels) * 2 - 1
        seconds = []
        for _ in range(3):
            start = process_time()
            codec.decode(x)
            seconds.append(process_time() - start)
        assert min(seconds) < 0.3


def test_mistakes() -> None:
    with pytest.raises(ValueError, match="unknown id of a segmentation 'klass'. Did you mean 'class'"):
        Palette(of="klass")
    with pytest.raises(ValueError, match="two of the colours are the same"):
        Palette(colours=((1, 2, 3), (1, 2, 3)))
    with pytest.raises(ValueError, match="or one is black"):
        Palette(colours=((0, 0, 0), (1, 2, 3)))
    with pytest.raises(ValueError, match="at least one .red, green, blue. of 0 to 255"):
        Palette(colours=((0, 0, 300),))
    with pytest.raises(ValueError, match="at least 2 ids"):
        LabelPlanes(classes=1)
    with pytest.raises(ValueError, match=r"= instance, class"):
        Palette().encode(torch.zeros(1, 1, 4, 4, 1))
