"""Variations of the tabletop: pictures change as they are meant to and no others do, and nothing happens otherwise."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

pytest.importorskip("metaworld")

from polyclock.envs import open_env, starts
from polyclock.envs.metaworld import Tabletop
from polyclock.envs.metaworld_anatomy import body_name
from polyclock.envs.metaworld_tables import REFERENCE, class_of
from polyclock.envs.metaworld_variations import BESIDE, SURFACES, VARIATIONS, WIDE
from polyclock.envs.scene import View
from polyclock.envs.world import Start

TASK = "drawer-close"
START, OTHER = starts(TASK, count=2)


@pytest.fixture(scope="module")
def worlds() -> Iterator[dict[str, Tabletop]]:
    """The world as it was made, named plain, and its variations."""
    found = {name: Tabletop(TASK, size=64, variation=name) for name in VARIATIONS} | {"plain": Tabletop(TASK, size=64)}
    yield found
    for world in found.values():
        world.close()


def picture(world: Tabletop, start: Start) -> np.ndarray:
    return world.reset(start)["observation.images.corner2"]


def view(world: Tabletop, start: Start) -> View:
    world.begin(start)
    return world.scene.view(world.data, "corner2")


def of_the_room(world: Tabletop, found: View) -> np.ndarray:
    """(H, W): where floor, walls, table or nothing is seen."""
    classes = np.array([class_of(body_name(world.model, int(body))) for body in world.model.geom_bodyid])
    return (found.geom < 0) | np.isin(classes[found.geom], SURFACES)


def lived(world: Tabletop, start: Start) -> list[tuple]:
    """The expert's episode, looked at now and then: what it did, all that the simulator has, whether it is done."""
    world.begin(start)
    found: list[tuple] = []
    for step in range(world.limit):
        action = world.expert()
        done = world.act(action)
        found.append((action.tobytes(), world.save().physics.tobytes(), world._seen.tobytes(), done))
        if step % 20 == 0:
            world.observe()
        if done:
            break
    return found


def test_what_happens_is_what_happens_without(worlds) -> None:
    plain = lived(worlds["plain"], START)
    assert plain[-1][-1] and len(plain) > 20, "the expert solves it"
    for name in VARIATIONS:
        assert lived(worlds[name], START) == plain, name


@pytest.mark.slow
@pytest.mark.parametrize("task", REFERENCE)
def test_no_variation_changes_what_happens_in_a_task(task: str) -> None:
    begun = starts(task)[::17]
    plain = Tabletop(task, size=32)
    expected = [lived(plain, start) for start in begun]
    shown = [picture(plain, start) for start in begun]
    assert all(episode[-1][-1] for episode in expected)
    for name in VARIATIONS:
        world = Tabletop(task, size=32, variation=name)
        for start, episode, looks in zip(begun, expected, shown, strict=True):
            assert lived(world, start) == episode, (name, start.number)
            change = np.abs(picture(world, start).astype(float) - looks).mean(-1)
            assert (change > 5).mean() > 0.015, (name, start.number)
        world.close()
    plain.close()


def test_a_start_has_its_looks_whatever_was_before(worlds) -> None:
    for name in VARIATIONS:
        world = worlds[name]
        first = picture(world, START)
        state = world.save()
        other = picture(world, OTHER)
        assert np.abs(other.astype(float) - first).mean() > 1, name
        assert np.array_equal(world.restore(state)["observation.images.corner2"], first), name
        assert np.array_equal(picture(world, OTHER), other), name


def test_light_changes_colours_and_no_shape(worlds) -> None:
    for start in (START, OTHER):
        plain, lit = view(worlds["plain"], start), view(worlds["light"], start)
        assert np.array_equal(lit.geom, plain.geom) and np.array_equal(lit.depth, plain.depth)
        shown = plain.geom > worlds["plain"].model.geom("floor").id  # which has all the light that it can show
        change = np.abs(lit.rgb.astype(float) - plain.rgb).mean(-1)[shown]
        assert change.mean() > 10 and (change > 3).mean() > 0.9


def test_background_changes_the_room_and_nothing_in_it(worlds) -> None:
    for start in (START, OTHER):
        plain, other = view(worlds["plain"], start), view(worlds["background"], start)
        room = of_the_room(worlds["plain"], plain)
        assert np.array_equal(other.rgb[~room], plain.rgb[~room]) and (~room).sum() > 200
        change = np.abs(other.rgb.astype(float) - plain.rgb).mean(-1)[room]
        assert np.median(change) > 20 and (change > 5).mean() > 0.9


def test_clutter_is_seen_and_hides_nothing_that_matters(worlds) -> None:
    for start in starts(TASK)[::17]:
        plain, messy = view(worlds["plain"], start), view(worlds["clutter"], start)
        room = of_the_room(worlds["plain"], plain)
        there = (messy.geom == -1) & (plain.geom >= 0)
        assert there.mean() > 0.015, "of the whole picture"
        assert (messy.depth[there] < plain.depth[there]).all() and np.array_equal(
            messy.depth[~there], plain.depth[~there]
        )
        assert np.array_equal(messy.rgb[~there], plain.rgb[~there])
        assert np.abs(messy.rgb.astype(float) - plain.rgb).mean(-1)[there].mean() > 20
        assert (there & ~room).sum() < 0.1 * (~room).sum(), "of arm and drawer nine tenths and more are seen as before"


def test_clutter_stands_where_no_hand_and_no_object_comes(worlds) -> None:
    world = worlds["clutter"]
    model = world.model
    solid = [class_of(body_name(model, int(body))) not in (*SURFACES, "arm") for body in model.geom_bodyid]
    nearest = BESIDE[0] - np.sqrt(2) * WIDE[1]
    world.begin(START)
    for _ in range(60):
        world.act(world.expert())
        reach = np.abs(world.data.geom_xpos[solid, 0]) + np.minimum(model.geom_rbound[solid], 0.1)
        assert reach.max() < nearest
    pieces = world.scene.ornaments
    assert len(pieces) >= 6 and min(abs(piece.place[0]) for piece in pieces) >= BESIDE[0]


def test_a_variation_that_there_is_not_is_one_sentence() -> None:
    with pytest.raises(ValueError, match="unknown variation 'lihgt'. Did you mean 'light'. Possible: light, backgr"):
        open_env(f"metaworld/{TASK}", variation="lihgt")
