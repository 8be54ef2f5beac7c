"""`polyclock sample RUN "depth | video" --given video=clip.mp4`: any mp4 in, previews and numbers out."""

from __future__ import annotations

import json
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from polyclock.cli import main
from polyclock.commands import given
from polyclock.data.encode import VideoCodec, encode_video
from polyclock.modality import Signal

ROOT = Path(__file__).resolve().parents[2]
SIGNAL = {"video": Signal(key="v", kind="video", shape=(2, 16, 16, 3), rate=5.0)}


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    """1.2 s at 25 a second, 54 x 96: left third red, middle green, right blue."""
    picture = np.zeros((54, 96, 3), np.uint8)
    picture[:, :24, 0], picture[:, 24:72, 1], picture[:, 72:, 2] = 220, 220, 220
    encode_video(tmp_path / "clip.mp4", np.stack([picture] * 30), 25.0, VideoCodec(encoder="h264", group=5, crf=10))
    return tmp_path / "clip.mp4"


def test_numbers_and_previews_of_each_modality(clip: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    words = [str(ROOT / "checkpoints/tabletop"), "depth, flow, segmentation, skeleton | video"]
    words += ["--given", f"video={clip}", "--fit", "cover", "--windows", "3", "--steps", "1", "--device", "cpu"]
    assert main(["sample", *words, "--out", str(out)]) == 0
    shapes = {"depth": (64, 64, 1), "flow": (64, 64, 3), "segmentation": (64, 64, 2), "skeleton": (11, 3)}
    note = json.loads((out / "query.json").read_text())["answers"]
    for name, shape in shapes.items():
        with np.load(out / f"{name}.npz") as file:
            assert file["values"].shape == (1, 6, *shape), "three windows of two frames"
        with av.open(str(out / f"{name}.mp4")) as video:
            assert sum(1 for _ in video.decode(video=0)) == 6
        with Image.open(out / f"{name}.png") as strip:
            assert strip.size == (6 * 130, 130)
        assert note[name]["shape"] == [1, 6, *shape] and note[name]["rate"] == 10.0
    assert note["depth"]["colours"].startswith("red = ") and "px" in note["flow"]["colours"]


def test_pictures_of_another_shape_are_stretched_or_cut(clip: Path) -> None:
    with pytest.warns(UserWarning, match="54 x 96 are stretched to 16 x 16, .* --fit cover cuts"):
        stretched = given.from_words([f"video={clip}"], SIGNAL, {}, 0.0)["video"]
    cut = given.from_words([f"video={clip}"], SIGNAL, {}, 0.0, cover=True)["video"]
    assert stretched.shape == cut.shape == (1, 2, 16, 16, 3)
    assert stretched[0, 0, 8, 1].argmax() == 0 and stretched[0, 0, 8, 14].argmax() == 2
    assert (cut[0, 0, :, 2:14].argmax(-1) == 1).all(), "the middle"


def test_how_many_windows_a_video_holds(clip: Path) -> None:
    assert given.windows_in([f"video={clip}"], SIGNAL, 0.0) == (pytest.approx(0.4), 3)
    assert given.windows_in([f"video={clip}@0.5"], SIGNAL, 0.0)[1] == 1
    with pytest.raises(ValueError, match="several windows need a video given as a file"):
        given.windows_in(["text=hello"], SIGNAL, 0.0)


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--windows", "9"], "--windows 9: the given videos hold 6 windows of 0.20 s"),
        (["--windows", "few"], "--windows 'few' must be a number, or all"),
        (["--start", "1.18"], "is 1.20 s long, but 2 frames at 10 a second from 1.18 s on are needed"),
    ],
)
def test_a_video_that_is_too_short_is_told_in_one_sentence(
    clip: Path, tmp_path: Path, capsys: pytest.CaptureFixture, more: list[str], message: str
) -> None:
    words = [str(ROOT / "checkpoints/tabletop"), "depth | video", "--given", f"video={clip}", "--fit", "cover"]
    assert main(["sample", *words, *more, "--out", str(tmp_path / "out")]) == 2
    said = [line for line in capsys.readouterr().err.splitlines() if not line.startswith("polyclock: note")]
    assert len(said) == 1 and message in said[0]
