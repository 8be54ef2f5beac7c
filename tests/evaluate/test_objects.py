"""Objects of a world that is known, looked for in films: true, frozen, with one gone, moved, or of another colour."""

from __future__ import annotations

import pytest
import torch
from acted import FRAMES, clip, masks, wall

from polyclock.evaluate.objects import Sought, mask_errors


def sought(world) -> Sought:
    return Sought(world["video"], world["segmentation"])


def errors(world, film, first: int = 1) -> dict[str, float]:
    return {name: float(v) for name, v in sought(world).errors(film, first).items()}


def test_the_true_film_has_all_objects_in_their_places() -> None:
    world = clip()
    found = errors(world, world["video"])
    assert found == pytest.approx(
        {"permanence": 1, "place_error": 0, "place_error_moving": 0, "object_error": 0}, abs=1e-6
    )
    assert sorted(sought(world).frame.tolist()) == [0, 0, 1, 1, 2, 2, 3, 3]
    assert int(sought(world).moves.sum()) == FRAMES - 1, "the square, in all frames but the first"


def test_a_frozen_film_has_its_objects_where_they_were() -> None:
    world = clip()
    found = errors(world, world["video"][:, :1].expand_as(world["video"]))
    assert found["permanence"] == 1 and found["place_error_moving"] == pytest.approx(4, abs=0.2)  # 2, 4 and 6 px
    assert found["place_error"] == pytest.approx(2, abs=0.2)  # half of the objects stand still


def test_an_object_that_is_gone_is_missed() -> None:
    world = clip()
    film = world["video"].clone()
    square = world["segmentation"][..., 0] == 1
    film[square] = (torch.from_numpy(wall()) * 255).to(torch.uint8).expand(1, FRAMES, -1, -1, -1)[square]
    found = errors(world, film)
    assert found["permanence"] == 0.5 and found["object_error"] > 0.1
    # One that is gone after two frames is missed in two of the three that were predicted.
    late = world["video"].clone()
    late[:, 2:] = film[:, 2:]
    assert errors(world, late)["permanence"] == pytest.approx(4 / 6)


def test_a_teleported_object_is_there_but_far_off() -> None:
    world = clip()
    other = clip(start=11)
    found = errors(world, other["video"])
    assert found["permanence"] == 1 and found["place_error_moving"] == pytest.approx(7, abs=0.2)
    assert found["object_error"] < 0.01, "it is itself all the same"


def test_an_object_of_another_colour_is_another_object() -> None:
    world = clip()
    film = world["video"].clone()
    square = world["segmentation"][..., 0] == 1
    film[square] = film[square].flip(-1)  # red becomes blue
    assert errors(world, film)["permanence"] == 0.5
    dim = world["video"].clone()
    dim[square] = (dim[square].float() * 0.8).to(torch.uint8)
    found = errors(world, dim)
    assert found["permanence"] == 1 and 0.02 < found["object_error"] < 0.1


def test_part_of_a_pixel_is_seen() -> None:
    world = clip()
    film = (world["video"].float() + world["video"].roll(1, 3).float()) / 2  # half a pixel to the right
    assert errors(world, film.to(torch.uint8))["place_error_moving"] == pytest.approx(0.5, abs=0.15)


def test_what_cannot_be_told_from_the_wall_does_not_count() -> None:
    world = clip()
    flat = torch.full_like(world["video"], 100)
    found = Sought(flat, world["segmentation"]).errors(world["video"])
    assert all(torch.isnan(v).all() for v in found.values())
    assert all(torch.isnan(v).all() for v in Sought(flat, 0 * world["segmentation"]).errors(flat).values())


def test_two_windows_are_measured_apart() -> None:
    first, second = clip(), clip(start=7)
    both = Sought(*(torch.cat([first[n], second[n]]) for n in ("video", "segmentation")))
    film = torch.cat([first["video"], first["video"]])
    found = both.errors(film, 1)
    assert found["place_error_moving"].tolist() == pytest.approx([0, 3], abs=0.2)


def test_masks_keep_what_was_there() -> None:
    world = clip()
    true = mask_errors(world["segmentation"], world["segmentation"], 1)
    assert float(true["permanence"]) == 1 and float(true["place_error"]) == 0
    frozen = mask_errors(world["segmentation"][:, :1].expand_as(world["segmentation"]), world["segmentation"], 1)
    assert float(frozen["permanence"]) == 1 and float(frozen["place_error"]) == pytest.approx(2, abs=0.01)
    gone = world["segmentation"].clone()
    gone[gone == 1] = 0
    assert float(mask_errors(gone, world["segmentation"], 1)["permanence"]) == 0.5
    # Scattered pixels of the right number are no object.
    generator = torch.Generator().manual_seed(0)
    noise = torch.randint(0, 3, world["segmentation"].shape[:-1], generator=generator)[..., None].expand(
        -1, -1, -1, -1, 2
    )
    assert float(mask_errors(noise.int(), world["segmentation"])["permanence"]) == 0
    # A class map without instances is compared by class.
    classes = world["segmentation"].clone()
    classes[..., 0] = 0
    assert float(mask_errors(classes, world["segmentation"])["permanence"]) == 1
    square, _ = masks(4)
    quarter = torch.zeros_like(world["segmentation"])
    quarter[:, 0][:, torch.from_numpy(square)] = 1
    quarter[:, 0, 10:] = 0  # two of seven rows are left
    first = mask_errors(quarter[:, :1], world["segmentation"][:, :1])
    assert float(first["permanence"]) == 0.5


def test_a_window_is_measured_alike_whatever_is_beside_it() -> None:
    """A window without instances is compared by class, also beside one that has them."""
    world = clip()
    classes = world["segmentation"].clone()
    classes[..., 0] = 0
    video, labels = torch.cat([world["video"]] * 2), torch.cat([classes, world["segmentation"]])
    assert Sought(video, labels).errors(video, 1)["permanence"].tolist() == [1, 1]
    found = mask_errors(labels, torch.cat([world["segmentation"]] * 2), 1)
    assert found["permanence"].tolist() == [1, 1] and found["place_error"].tolist() == [0, 0]


def test_objects_are_worked_on_a_few_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same numbers, whether what was worked out of them is kept or made anew."""
    world = clip()
    film, plain = world["video"].roll(1, 2), sought(world)
    first = plain.errors(film)
    turned, sizes = torch.fft.rfft2, []
    monkeypatch.setattr(torch.fft, "rfft2", lambda v, s: sizes.append(len(v)) or turned(v, s=s))
    monkeypatch.setattr("polyclock.evaluate.objects.AT_ONCE", 5)
    monkeypatch.setattr("polyclock.evaluate.objects.KEPT", 0)
    again = sought(world).errors(film)
    assert max(sizes) == 5 < len(plain.sample)
    for name, value in first.items():
        torch.testing.assert_close(again[name], value, equal_nan=True)
