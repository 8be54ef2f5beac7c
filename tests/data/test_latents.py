"""Numbers kept by frame: what was written is read, nothing is encoded twice, and an interruption loses little."""

from __future__ import annotations

import errno
import json
import multiprocessing
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from moving import CAMERA, Moving
from polyclock.data import Latents
from polyclock.data.files import rows_of
from polyclock.data.source import Ahead, Episode

SHAPE = (2, 1, 3, 2)  # two looks at one frame


def numbers(episode: int, rows: Sequence[int]) -> np.ndarray:
    """(n, *SHAPE) that say which episode, frame, look and place they are of."""
    place = np.arange(np.prod(SHAPE), dtype=np.float32).reshape(SHAPE) / 16
    return (100 * episode + np.asarray(rows, np.float32)).reshape(-1, 1, 1, 1, 1) + place


class Counted:
    """Encodes, and keeps a list of what it was asked for; fails at a row of an episode if it is told to."""

    def __init__(self, fails: tuple[int, int] | None = None) -> None:
        self.asked: list[tuple[int, int]] = []
        self.fails = fails

    def __call__(self, episode: int, rows: Sequence[int]) -> np.ndarray:
        if self.fails is not None and self.fails[0] == episode and self.fails[1] in rows:
            raise KeyboardInterrupt
        self.asked += [(episode, int(row)) for row in rows]
        return numbers(episode, rows)


def latents(folder: Path, **settings) -> Latents:
    return Latents(Moving(), folder, {"column": CAMERA}, **settings)


def test_any_row_is_read_as_it_was_encoded(tmp_path: Path) -> None:
    wanted, encode = {0: range(80), 2: [7, 3, 79], 3: []}, Counted()
    kept = latents(tmp_path)
    kept.fill(wanted, encode)
    # The first row is encoded once more, to know its shape.
    assert len(encode.asked) == 1 + 80 + 3
    assert np.array_equal(kept.read(2, [79, 3]), numbers(2, [79, 3]))
    assert np.array_equal(latents(tmp_path).read(0, range(80)), numbers(0, range(80)))
    window = kept.window(0, 5, [9, 9, 4])
    assert isinstance(window, Ahead) and window.numbers.shape == (2, 3, 3, 2)
    assert np.array_equal(window.numbers[1, :, 0], numbers(0, [9, 9, 4])[:, 1, 0, 0])
    assert json.loads(kept.path.with_suffix(".json").read_text())["column"] == CAMERA
    room = os.stat(kept.path).st_blocks * 512
    assert room < kept.path.stat().st_size / 2 + 16384, "rows that nobody asked for take no room"


def test_a_window_of_clips_is_the_row_of_its_anchor(tmp_path: Path) -> None:
    kept = Latents(Moving(), tmp_path, {}, framewise=False)
    kept.fill({1: [0, 8]}, numbers)
    assert np.array_equal(kept.window(1, 8, [8, 9, 10]).numbers, numbers(1, [8])[0])
    with pytest.raises(ValueError, match="frame 9 of episode 1 was not encoded ahead"):
        kept.window(1, 9, [9, 10, 11])


def test_nothing_is_encoded_twice(tmp_path: Path) -> None:
    latents(tmp_path).fill({0: range(0, 80, 2)}, Counted())
    encode = Counted()
    kept = latents(tmp_path)
    kept.fill({0: range(80), 1: range(5)}, encode)
    assert sorted(encode.asked) == [(0, i) for i in range(1, 80, 2)] + [(1, i) for i in range(5)]
    assert np.array_equal(kept.read(0, range(80)), numbers(0, range(80)))
    again = Counted()
    latents(tmp_path).fill({0: range(80), 1: range(5)}, again)
    assert again.asked == []


def test_an_interruption_loses_a_piece_at_most(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        latents(tmp_path).fill({0: range(80), 1: range(80)}, Counted(fails=(1, 45)), piece=10)
    kept = latents(tmp_path)
    assert np.array_equal(kept.read(1, range(40)), numbers(1, range(40)))
    with pytest.raises(ValueError, match="frame 40 of episode 1 was not encoded ahead"):
        kept.read(1, range(80))
    encode = Counted()
    kept.fill({0: range(80), 1: range(80)}, encode, piece=10)
    assert encode.asked == [(1, i) for i in range(40, 80)]
    assert np.array_equal(kept.read(1, range(80)), numbers(1, range(80)))
    assert not list(tmp_path.glob(".*.part"))


def test_it_tells_how_far_it_is(tmp_path: Path) -> None:
    kept, told = latents(tmp_path), []
    kept.fill({1: range(3)}, numbers)
    held, busy = kept._claimed, [2, 0]  # at which another process is, when asked first

    @contextmanager
    def claimed(marks: int, episode: int) -> Iterator[bool]:
        if episode in busy:
            busy.remove(episode)
            yield False
        else:
            with held(marks, episode) as mine:
                yield mine

    kept._claimed = claimed  # type: ignore[method-assign]
    kept.fill({e: range(3) for e in range(4)}, numbers, tell=told.append)
    assert told == [f"{n} of 3 episodes encoded" for n in (1, 2, 3)]


_FULL = """
import resource, signal, sys
import numpy as np
from moving import Moving
from polyclock.data import Latents

kept = Latents(Moving(), sys.argv[1], {})
kept.fill({0: [0]}, lambda episode, rows: np.ones((len(rows), 1, 1, 1, 5000), np.float32))
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, resource.RLIM_INFINITY))
try:
    kept.fill({0: [1, 2]}, lambda episode, rows: np.ones((len(rows), 1, 1, 1, 5000), np.float32))
except OSError as error:
    print("said", error.errno)
"""


def test_a_row_that_found_no_room_is_not_there(tmp_path: Path) -> None:
    """The limit lies within row 2; what is written up to it is a part of the row, without an error."""
    here = Path(__file__).parents[1]
    done = subprocess.run([sys.executable, "-c", _FULL, tmp_path], cwd=here, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["said", str(errno.EFBIG)], done.stdout + done.stderr
    kept = Latents(Moving(), tmp_path, {})
    assert kept.read(0, [0]).min() == 1
    with pytest.raises(ValueError, match="frame 1 of episode 0 was not encoded ahead"):
        kept.read(0, [1, 2])


def _one_of_several(folder: Path, log: Path) -> None:
    def encode(episode: int, rows: Sequence[int]) -> np.ndarray:
        with open(log, "a") as file:
            file.write("".join(f"{episode} {row}\n" for row in rows))
        return numbers(episode, rows)

    kept = latents(folder)
    kept.fill({e: range(80) for e in range(4)}, encode, piece=4)
    assert all(np.array_equal(kept.read(e, range(80)), numbers(e, range(80))) for e in range(4))


def test_several_processes_share_the_work(tmp_path: Path) -> None:
    context, log = multiprocessing.get_context("fork"), tmp_path / "log"
    crew = [context.Process(target=_one_of_several, args=(tmp_path / "kept", log)) for _ in range(3)]
    for process in crew:
        process.start()
    for process in crew:
        process.join(60)
    assert [process.exitcode for process in crew] == [0, 0, 0]
    asked = log.read_text().splitlines()
    assert len(asked) == 321 and len(set(asked)) == 320, "each row once, and one to know the shape"


def test_what_the_numbers_depend_on_names_the_file(tmp_path: Path) -> None:
    short = Moving(tuple(Episode(index=i, length=20) for i in range(2)))
    made = [
        latents(tmp_path),
        latents(tmp_path, precision="float16"),
        Latents(Moving(), tmp_path, {"column": "another"}),
        Latents(short, tmp_path, {"column": CAMERA}),
    ]
    assert len({kept.path for kept in made}) == 4 and latents(tmp_path).path == made[0].path


def test_half_precision_is_near_and_says_where_it_cannot_be(tmp_path: Path) -> None:
    kept = latents(tmp_path, precision="float16")
    kept.fill({0: range(80)}, numbers)
    found = kept.read(0, range(80))
    assert found.dtype == np.float16
    assert np.abs(found / np.maximum(1, numbers(0, range(80))) - numbers(0, range(80)).clip(max=1)).max() < 1e-3
    with (
        pytest.raises(ValueError, match="episode 1: what was said of it is not finite as float16"),
        np.errstate(over="ignore"),
    ):
        kept.fill({1: range(3)}, lambda episode, rows: 1e6 * numbers(episode, rows))


def test_faults_are_named(tmp_path: Path) -> None:
    kept = latents(tmp_path)
    with pytest.raises(ValueError, match="is not there: nothing was encoded ahead"):
        kept.read(0, [0])
    kept.fill({0: range(3)}, numbers)
    with pytest.raises(ValueError, match="episode 0 has no frame 80"):
        kept.read(0, [80])
    with pytest.raises(ValueError, match="episode 0 has no frame -1"):
        kept.read(0, [5, -1])
    with pytest.raises(ValueError, match="episode 9 has no frame 0"):
        kept.read(9, [0])
    with pytest.raises(ValueError, match=r"rows of \(2, 1, 3, 2\); episode 1 gave \(2, 1, 1, 3, 2\)"):
        kept.fill({1: range(2)}, lambda episode, rows: numbers(episode, rows)[:, :1])
    np.save(kept.path, np.zeros((3, *SHAPE), np.float32))
    with pytest.raises(ValueError, match="expected float32 for 320 frames; remove it"):
        latents(tmp_path).read(0, [0])


def test_rows_of_a_mapped_array_are_copies(tmp_path: Path) -> None:
    """Rows that lie together, far apart, in any order, none, and of an array that is no file."""
    np.save(tmp_path / "x.npy", np.arange(9000.0).reshape(90, 100))
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
    for chosen in ([3, 4, 5], [89, 0], [7, 7, 6], [89], []):
        for array in (mapped, np.array(mapped)):
            found = rows_of(array, np.array(chosen, np.int64))
            assert np.array_equal(found, np.arange(9000.0).reshape(90, 100)[chosen]) and found.flags.writeable
