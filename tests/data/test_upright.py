"""Clips of a phone held upright: the file says how they are to be turned, and they are read as they are shown."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from numbered import CAMERA, lerobot_v3

from polyclock.data import UntidyData, open_dataset
from polyclock.data.compact import compact
from polyclock.data.source import noted
from polyclock.data.verify import verify
from polyclock.data.video import pictures_of, read_frames

ONE = 1 << 16
UPRIGHT = (ONE, 0, 0, 0, ONE, 0, 0, 0, 1 << 30)
# Of ISO/IEC 14496-12: what a player does with the stored picture (H, W, C), by the library that writes them.
SHOWN = {
    (0, ONE, 0, -ONE, 0, 0, 0, 0, 1 << 30): lambda p: np.rot90(p, -1),  # a phone held upright: 90 degrees clockwise
    (0, -ONE, 0, ONE, 0, 0, 0, 0, 1 << 30): lambda p: np.rot90(p, 1),
    (-ONE, 0, 0, 0, -ONE, 0, 0, 0, 1 << 30): lambda p: np.rot90(p, 2),
    (-ONE, 0, 0, 0, ONE, 0, 0, 0, 1 << 30): lambda p: p[:, ::-1],  # a camera on the front, which mirrors
    (0, ONE, 0, ONE, 0, 0, 0, 0, 1 << 30): lambda p: p.swapaxes(0, 1),
}


def write(path: Path, matrix: tuple[int, ...] = UPRIGHT, form: str = "yuv420p", pixel: Fraction | None = None) -> Path:
    """Five pictures of 32 x 64 of which no two corners are alike."""
    ramp = np.add.outer(np.arange(32) * 2.0, np.arange(64) * 2.5)
    path.parent.mkdir(parents=True, exist_ok=True)
    deep = form == "gray16le"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("ffv1" if deep else "libx264", rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 32, form
        stream.set_display_matrix(matrix)
        if pixel is not None:
            stream.codec_context.sample_aspect_ratio = pixel
        for i in range(5):
            gray = (ramp + i).astype(np.uint16 if deep else np.uint8)
            shown = gray if deep else np.repeat(gray[..., None], 3, -1)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(shown, format="gray16le" if deep else "rgb24")))
        container.mux(stream.encode())
    return path


@pytest.mark.parametrize("form", ["yuv420p", "gray16le"])
@pytest.mark.parametrize("matrix", SHOWN)
def test_pictures_are_read_as_they_are_shown(tmp_path: Path, matrix: tuple[int, ...], form: str) -> None:
    stored = read_frames(write(tmp_path / "as_stored.mp4", form=form), [4, 1])
    path = write(tmp_path / "turned.mp4", matrix, form)
    want = np.stack([SHOWN[matrix](picture) for picture in stored])
    shown = read_frames(path, [4, 1])
    assert shown.shape == want.shape and (shown == want).all() and (shown != shown[:, ::-1, ::-1]).any()
    assert (pictures_of(path).height, pictures_of(path).width) == want.shape[1:3]
    small = (want.shape[1] // 2, want.shape[2] // 2)
    stored_small = read_frames(tmp_path / "as_stored.mp4", [4, 1], size=(16, 32))
    assert (read_frames(path, [4, 1], size=small) == [SHOWN[matrix](picture) for picture in stored_small]).all()


def test_rotation_is_that_of_the_library(tmp_path: Path) -> None:
    """A second opinion on which way a matrix turns: the angle that PyAV reads out of the file."""
    for matrix, degrees in zip(SHOWN, (-90, 90, 180), strict=False):
        with av.open(str(write(tmp_path / f"{degrees}.mp4", matrix))) as container:
            assert abs(next(container.decode(video=0)).rotation - degrees) in (0, 360)


def test_only_turned_clips_have_another_fingerprint(tmp_path: Path) -> None:
    turned, half = list(SHOWN)[0], list(SHOWN)[2]
    said = {}
    for matrix in (UPRIGHT, turned, half):
        folder = tmp_path / "clips"
        write(folder / "a.mp4", matrix)
        write(folder / "b.mp4")
        dataset = open_dataset(folder)
        said[matrix] = (dataset.fingerprint, noted(dataset).mark(0), noted(dataset).mark(1))
        sizes = (64, 32) if matrix == turned else (32, 64)
        assert dataset.read(0, "video", [0]).shape[1:3] == sizes
        assert dataset.facts.columns["video"] == ((None, None, 3) if matrix == turned else (32, 64, 3))
    assert len({fingerprint for fingerprint, _, _ in said.values()}) == len({a for _, a, _ in said.values()}) == 3
    assert len({b for _, _, b in said.values()}) == 1


def test_pixels_that_are_not_square_are_told(tmp_path: Path) -> None:
    write(tmp_path / "clips/a.mp4", pixel=Fraction(4, 3))
    write(tmp_path / "clips/b.mp4")
    with pytest.warns(UntidyData, match=r"1 clips, a.mp4 among them, have pixels that are not square"):
        dataset = open_dataset(tmp_path / "clips")
    assert dataset.read(0, "video", [0]).shape[1:3] == (32, 64)
    assert pictures_of(write(tmp_path / "c.mp4", list(SHOWN)[0], pixel=Fraction(4, 3))).aspect == Fraction(3, 4)


def test_a_recording_is_read_verified_and_merged_as_it_is_shown(tmp_path: Path) -> None:
    root, turned = lerobot_v3(tmp_path / "phone", [[5], [5], [5]], fps=10, rate=10), list(SHOWN)[0]
    info = root / "meta/info.json"
    info.write_text(info.read_text().replace("[64, 64, 3]", "[64, 32, 3]"))
    files = [root / f"videos/{CAMERA}/chunk-000/file-{number:03d}.mp4" for number in range(3)]
    sizes = [write(path).stat().st_size for path in files]
    before = open_dataset(root).fingerprint
    assert [write(path, turned).stat().st_size for path in files[:2]] == sizes[:2]  # the matrix alone is another
    dataset = open_dataset(root)
    assert dataset.facts.columns[CAMERA] == (64, 32, 3) and dataset.fingerprint != before
    wrong = [p.what for p in verify(root) if "pictures are" in p.what]
    assert wrong == ["pictures are 32 x 64, the metadata say [64, 32, 3]"]  # the third alone, which is not turned
    merged = open_dataset(compact(root, tmp_path / "merged"))
    for episode in range(3):
        old, new = (data.read(episode, CAMERA, range(5)) for data in (dataset, merged))
        assert old.shape[1:3] == ((64, 32) if episode < 2 else (32, 64)) and (old == new).all()
    assert len(list((tmp_path / "merged/videos").rglob("*.mp4"))) == 2  # one file has one matrix


def test_verify_tells_pixels_that_are_not_square(tmp_path: Path) -> None:
    root = lerobot_v3(tmp_path / "wide", [[5]], fps=10, rate=10)
    write(root / f"videos/{CAMERA}/chunk-000/file-000.mp4", pixel=Fraction(4, 3))
    told = [(p.note, p.what) for p in verify(root) if "square" in p.what]
    assert len(told) == 1 and told[0][0] and told[0][1].startswith("has pixels that are not square; they are read as")
