"""Films of episodes: as long as the episode, and in a grid that turns green with success."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import reaching

from polyclock.data.video import pictures_of, read_frames
from polyclock.rollout import Expert, Still, World
from polyclock.rollout.episode import clip_of
from polyclock.rollout.grid import BORDER, GAP, GREEN, HELD, LABEL, RED, Film, frames, write_grid


def world(task: str | tuple[str, ...] = "toy/reach") -> World:
    return World(task, 0, **reaching.WORLD)


def test_films_show_the_episodes_and_turn_green(tmp_path: Path) -> None:
    clips = tmp_path / "clips"
    found = world(("toy/reach", "toy/fragile")).evaluate(Expert(), 5, clips=clips, filmed=4)
    assert len(list(clips.glob("*.mp4"))) == 8
    film = pictures_of(clip_of(clips, found.rows[0]))
    assert film.height == film.width == 160 and len(film) == found.rows[0]["steps"] + 1 and float(film.rate) == 10
    path = write_grid(tmp_path / "grid.mp4", found.rows, clips)
    grid = pictures_of(path)
    assert float(grid.rate) == 5 and grid.height % 2 == grid.width % 2 == 0
    assert len(grid) == HELD + 1 + max(row["steps"] for row in found.rows if row["number"] < 4)
    first, last = read_frames(path, [0, len(grid) - 1]).astype(int)

    def edge(picture, row, column):
        top, left = LABEL + row * (LABEL + 160 + 2 * BORDER) + 40, GAP + column * (160 + 2 * BORDER + GAP)
        return picture[top : top + 100, left + 1 : left + 4].mean((0, 1))

    for row in range(2):
        for column in range(4):
            assert np.abs(edge(first, row, column) - RED).max() < 30
            broke = (row, column) == (1, 3)
            assert np.abs(edge(last, row, column) - (RED if broke else GREEN)).max() < 30
    assert write_grid(tmp_path / "none.mp4", found.rows, tmp_path / "empty") is None


def test_films_of_another_policy_in_the_same_folder_are_not_shown(tmp_path: Path) -> None:
    clips = tmp_path / "clips"
    world().evaluate(Expert(), 2, clips=clips)
    still = world().evaluate(Still(), 2, clips=clips, filmed=0)
    assert len(list(clips.glob("*.mp4"))) == 2 and write_grid(tmp_path / "grid.mp4", still.rows, clips) is None


def test_a_film_that_has_ended_shows_its_last_picture() -> None:
    film = Film(np.arange(3, dtype=np.uint8)[:, None, None, None].repeat(8, 1).repeat(8, 2).repeat(3, 3), True)
    assert [int(film.cell(i, (8, 8))[BORDER, BORDER, 0]) for i in range(5)] == [0, 1, 2, 2, 2]
    assert [tuple(film.cell(i, (8, 8))[0, 0]) == GREEN for i in range(4)] == [False, False, True, True]
    failed = Film(film.pictures, False)
    assert tuple(failed.cell(9, (8, 8))[0, 0]) == RED
    pages = list(frames([("two films", [film, failed]), ("", [film])]))
    assert len(pages) == 3 + HELD and len({page.shape for page in pages}) == 1
