"""Files given on the command line become raw values of the signal's shape, or one sentence says why not."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import toy
from PIL import Image

from polyclock.commands import given, outputs
from polyclock.data import open_dataset
from polyclock.data.encode import VideoCodec, encode_video
from polyclock.modality import Signal

SIGNALS = {
    "video": Signal(key=toy.CAMERA, kind="video", shape=(4, 16, 16, 3), rate=5.0),
    "state": Signal(key="observation.state", kind="vector", shape=(1, 2), rate=5.0),
    "action": Signal(key="action", kind="vector", shape=(4, 2), rate=5.0),
    "text": Signal(key="task", kind="text", shape=()),
}


def read(*words: str, spans: dict[str, int] | None = None, start: float = 0.0) -> dict:
    return given.from_words(words, SIGNALS, spans or {}, start)


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    """20 frames at 10 a second; frame i is of brightness 10 i."""
    frames = np.stack([np.full((32, 32, 3), 10 * i, np.uint8) for i in range(20)])
    encode_video(tmp_path / "clip.mp4", frames, 10.0, VideoCodec(encoder="h264", group=4, crf=1))
    return tmp_path / "clip.mp4"


def brightness(video: np.ndarray) -> list[int]:
    return [round(float(f.mean()) / 10) for f in video[0]]


def test_a_video_is_taken_at_the_rate_of_the_signal(clip: Path) -> None:
    found = read(f"video={clip}")["video"]
    assert found.shape == (1, 4, 16, 16, 3) and found.dtype == np.uint8
    assert brightness(found) == [0, 2, 4, 6]
    assert brightness(read(f"video={clip}@0.5")["video"]) == [5, 7, 9, 11]
    assert brightness(read(f"video={clip}", start=1.0)["video"]) == [10, 12, 14, 16]


def test_a_video_that_ends_early_may_fill_the_span(clip: Path) -> None:
    assert brightness(read(f"video={clip}@1.6", spans={"video": 2})["video"]) == [16, 18]
    with pytest.raises(ValueError, match=r"is 2.00 s long, but 4 frames at 5 a second from 1.6 s on are needed"):
        read(f"video={clip}@1.6")


def test_a_picture_stands_for_every_frame(tmp_path: Path) -> None:
    board = np.indices((32, 32)).sum(0) % 2 * 200
    Image.fromarray(np.repeat(board[..., None], 3, 2).astype(np.uint8)).save(tmp_path / "a.png")
    found = read(f"video={tmp_path / 'a.png'}")["video"]
    assert found.shape == (1, 4, 16, 16, 3) and (found == 100).all(), "smaller by averaging areas"


def test_numbers_come_from_arrays_and_tables(tmp_path: Path) -> None:
    action = np.arange(8, dtype=np.float64).reshape(4, 2)
    np.save(tmp_path / "a.npy", action)
    np.savez(tmp_path / "a.npz", values=np.stack([action, action]))
    np.savez(tmp_path / "named.npz", action=action, other=action + 1)
    (tmp_path / "a.json").write_text(json.dumps(action.tolist()))
    (tmp_path / "a.csv").write_text("x,y\n" + "\n".join(f"{a},{b}" for a, b in action))
    for name in ("a.npy", "named.npz", "a.json", "a.csv"):
        found = read(f"action={tmp_path / name}")["action"]
        assert found.dtype == np.float32 and (found == action[None]).all(), name
    assert read(f"action={tmp_path / 'a.npz'}")["action"].shape == (2, 4, 2)
    np.save(tmp_path / "s.npy", action[0])
    assert read(f"state={tmp_path / 's.npy'}")["state"].shape == (1, 1, 2)


def test_text_is_a_file_or_the_sentence(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("open the drawer\n")
    assert read(f"text={tmp_path / 'a.txt'}")["text"] == "open the drawer"
    assert read("text=pick it up = now")["text"] == "pick it up = now"


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("vidoe=a.mp4", "Did you mean 'video'"),
        ("video", "must be NAME=FILE"),
        ("video=there.mp4", "there.mp4 is not there"),
        ("video=a.txt", "unknown kind of file for 'video': '.txt'"),
        ("action=a.mp4", "unknown kind of file for 'action': '.mp4'"),
        ("video=torn.mp4", "torn.mp4"),
        ("video=torn.png", "cannot be read as a picture"),
        ("action=words.csv", "does not hold numbers"),
        ("action=torn.json", "does not hold numbers"),
        ("action=torn.npz", "torn.npz holds no plain array"),
        ("action=objects.npy", "objects.npy holds no plain array"),
        ("action=flat.npy", r"has shape \(3,\); it must be \(4, 2\)"),
        ("video=float.npy", "pictures must be uint8"),
    ],
)
def test_what_cannot_be_taken_is_said_in_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, word: str, message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("torn.mp4", "torn.png", "torn.json", "torn.npz", "a.txt", "a.mp4"):
        Path(name).write_bytes(b"{ not this \x00")
    Path("words.csv").write_text("x,y\none,two\n")
    np.save("objects.npy", np.array([{"a": 1}], dtype=object))
    np.save("flat.npy", np.zeros(3))
    np.save("float.npy", np.zeros((4, 16, 16, 3)))
    with pytest.raises(ValueError, match=f"(?s)^[^\n]*{message}[^\n]*$"):
        read(word)


def test_a_window_of_a_data_set(tmp_path: Path) -> None:
    dataset = open_dataset(toy.write(tmp_path / "data", episodes=2))
    found = given.from_window(dataset, 1, 1.0, SIGNALS)
    assert found["text"] == "push the block" and found["video"].shape == (1, 4, 16, 16, 3)
    assert (found["action"][0] == np.concatenate(list(dataset.only([1]).column("action")))[10:18:2]).all()
    with pytest.raises(ValueError, match="--at 4 is outside episode 1, which is 4.00 s long"):
        given.from_window(dataset, 1, 4.0, SIGNALS)
    with pytest.raises(ValueError, match="episode 7 is not in the data"):
        given.from_window(dataset, 7, 0.0, SIGNALS)


def test_answers_are_written_whole_and_read_back(tmp_path: Path) -> None:
    video = np.random.default_rng(0).integers(0, 255, (2, 4, 16, 16, 3)).astype(np.uint8)
    names = [p.name for p in outputs.write(tmp_path / "out", "video", video, 5.0)]
    assert names == ["video.npz", "video.mp4", "video.png"] == sorted(names, key=names.index)
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == sorted(names), "nothing is left aside"
    assert (read(f"video={tmp_path / 'out' / 'video.npz'}")["video"] == video).all()
    with Image.open(tmp_path / "out" / "video.png") as strip:
        assert strip.size == (4 * 130, 2 * 130)
    assert outputs.as_pictures(np.zeros((1, 4, 7))) is None
    depth = outputs.as_pictures(np.linspace(0, 5, 16, dtype=np.float32).reshape(1, 1, 4, 4, 1))
    assert depth is not None and depth.shape == (1, 1, 4, 4, 3) and depth.max() == 255 and depth.min() == 0
