"""Windows: every frame an anchor, each signal at its own rate, ends padded and marked."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numbered import CAMERA, lerobot_v2, numbers_of

from polyclock.data import Windows, open_dataset
from polyclock.data.window import misspelt, offsets
from polyclock.modality import Signal

pytestmark = pytest.mark.filterwarnings("ignore::polyclock.data.UntidyData")

ACTION = Signal(key="action", kind="vector", shape=(4, 2))
VIDEO = Signal(key=CAMERA, kind="video", shape=(3, 32, 32, 3), rate=10.0, start=0.1)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory):
    return open_dataset(lerobot_v2(tmp_path_factory.mktemp("w") / "arm", {0: 20, 1: 12, 2: 1}))


def test_every_frame_is_an_anchor(dataset) -> None:
    windows = Windows(dataset, {"action": ACTION})
    assert len(windows) == 33
    anchors = [windows.anchor(i) for i in range(33)]
    assert anchors == [(e, f) for e, n in ((0, 20), (1, 12), (2, 1)) for f in range(n)]
    assert [windows[i].values["action"][0].tolist() for i in (0, 19, 20, 32)] == [[0, 0], [0, 19], [1, 0], [2, 0]]
    with pytest.raises(IndexError):
        windows.anchor(33)


def test_stride_takes_every_nth_frame_of_each_episode(dataset) -> None:
    windows = Windows(dataset, {"action": ACTION}, stride=5)
    assert [windows.anchor(i) for i in range(len(windows))] == [
        (0, 0), (0, 5), (0, 10), (0, 15), (1, 0), (1, 5), (1, 10), (2, 0),
    ]  # fmt: skip


def test_rates_history_and_padding(dataset) -> None:
    signals = {
        "action": ACTION,
        "past": Signal(key="observation.state", kind="vector", shape=(3, 1), rate=15.0, start=-4 / 30),
        "video": VIDEO,
        "text": Signal(key="task", kind="text", shape=()),
    }
    windows = Windows(dataset, signals)
    sample = windows[20 + 2]  # episode 1, frame 2 of 12
    assert sample.where == "episode 1, frame 2"
    assert sample.values["action"].tolist() == [[1, 2], [1, 3], [1, 4], [1, 5]]
    assert sample.values["past"][:, 0].tolist() == pytest.approx([0.0, 0.0, 0.2])
    assert sample.valid["past"].tolist() == [False, True, True]
    assert numbers_of(sample.values["video"]) == [105, 108, 111]
    assert sample.valid["video"].tolist() == [True, True, True]
    assert sample.values["text"] == "reach" and windows[20 + 6].values["text"] == "grasp"
    late = windows[20 + 10]
    assert late.values["action"].tolist() == [[1, 10], [1, 11], [1, 11], [1, 11]]
    assert late.valid["action"].tolist() == [True, True, False, False]
    assert numbers_of(late.values["video"]) == [111, 111, 111]
    assert late.valid["video"].tolist() == [False, False, False]
    assert set(late.valid) == {"action", "past", "video"}


def test_one_read_per_signal_of_the_frames_it_asks_for(dataset) -> None:
    calls: dict[str, list[int]] = {}

    class Counting:
        facts, episodes, has = dataset.facts, dataset.episodes, dataset.has

        def read(self, episode, key, frames, size=None):
            assert key not in calls
            calls[key] = list(frames)
            return dataset.read(episode, key, frames, size)

    _ = Windows(Counting(), {"action": ACTION, "video": VIDEO})[7]
    facts = dataset.facts
    assert calls == {
        "action": [7 + i for i in offsets(ACTION, facts.fps)],
        CAMERA: [7 + i for i in offsets(VIDEO, facts.fps)],
    }


RATES = st.sampled_from([30.0, 29.97, 23.976, 20.0, 15.0, 59.94, 12.5, 10.0, 4.0, 3.0, 1.0])


@given(RATES, RATES, st.integers(-300, 300), st.integers(1, 40))
def test_offsets_are_the_nearest_frames_halves_up(fps: float, rate: float, start: int, frames: int) -> None:
    exact = {29.97: Fraction(30000, 1001), 23.976: Fraction(24000, 1001), 59.94: Fraction(60000, 1001)}
    per_second, step = exact.get(fps, Fraction(fps)), exact.get(rate, Fraction(rate))
    signal = Signal(key="a", kind="vector", shape=(frames, 1), rate=rate, start=start / 100)
    for i, offset in enumerate(offsets(signal, fps)):
        due = per_second * (Fraction(start, 100) + i / step)
        assert due - Fraction(1, 2) < offset <= due + Fraction(1, 2)


def test_offsets_at_the_rate_of_the_data_are_consecutive_for_ever() -> None:
    signal = Signal(key="a", kind="vector", shape=(100_000, 1), rate=29.97)
    assert offsets(signal, 29.97) == tuple(range(100_000))
    assert offsets(Signal(key="a", kind="vector", shape=(5, 1), rate=20.0), 30) == (0, 2, 3, 5, 6)


def test_what_the_data_lack_is_absent_or_an_error(dataset) -> None:
    wrist = Signal(key="observation.images.wrist", kind="video", shape=(1, 32, 32, 3))
    windows = Windows(dataset, {"action": ACTION, "wrist": wrist})
    assert windows.absent == ("wrist",) and set(windows[0].values) == {"action"}
    with pytest.raises(
        ValueError, match="none of the signals asked for .*wrist.* is in the data, which have: .*action"
    ):
        Windows(dataset, {"wrist": wrist})
    slip = Signal(key="observation.images.fornt", kind="video", shape=(1, 32, 32, 3))
    with pytest.raises(ValueError, match=f"no column 'observation.images.fornt'. Did you mean '{CAMERA}'"):
        Windows(dataset, {"action": ACTION, "front": slip})
    with pytest.raises(ValueError, match=r"action: one frame of 'action' has shape \(2,\), the model wants \(7,\)"):
        Windows(dataset, {"action": Signal(key="action", kind="vector", shape=(4, 7))})
    with pytest.raises(ValueError, match="column 'action' does not hold text"):
        Windows(dataset, {"text": Signal(key="action", kind="text", shape=())})
    with pytest.raises(ValueError, match="stride=0"):
        Windows(dataset, {"action": ACTION}, stride=0)


@pytest.mark.parametrize(
    ("key", "column", "slip"),
    [
        ("observation.state", "observation_state", True),
        ("Action", "action", True),
        ("observation.images.ego_veiw", "observation.images.ego_view", True),
        ("observation.sttae", "observation.state", True),
        ("observation.states", "observation.state", True),
        ("observation.images.cam_left", "observation.images.cam_right", False),
        ("observation.images.cam_1", "observation.images.cam_2", False),
        ("observation.images.camera_b", "observation.images.camera_a", False),
        ("depth", "video", False),
    ],
)
def test_misspelt(key: str, column: str, slip: bool) -> None:
    assert misspelt(key, column) is slip


def test_real_episode_ends(real_data: Path) -> None:
    dataset = open_dataset(real_data / "g1_pick_bottle")
    signals = {
        "video": Signal(key="observation.images.cam_high", kind="video", shape=(4, 64, 64, 3), rate=5.0, start=0.2),
        "action": Signal(key="action", kind="vector", shape=(16, 26)),
    }
    windows = Windows(dataset, signals)
    assert len(windows) == 278 + 221 + 277 + 267
    last = windows[len(windows) - 1]
    assert last.valid["action"].tolist() == [True] + [False] * 15 and not last.valid["video"].any()
    assert (last.values["action"] == last.values["action"][0]).all()
    assert (last.values["video"] == dataset.read(31, "observation.images.cam_high", [266], (64, 64))).all()
    assert all(np.isfinite(windows[i].values["action"]).all() for i in range(0, len(windows), 97))
