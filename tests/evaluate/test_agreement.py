"""Flow, depth and pictures of a world that is known: truth agrees, and what is shuffled, frozen or turned does not."""

from __future__ import annotations

import pytest
import torch
from acted import FRAMES, SIDE, clip

from polyclock.evaluate.agreement import (
    Step,
    depth_and_pictures,
    flicker,
    flow_and_depth,
    flow_and_pictures,
    steps,
    warped,
)
from polyclock.evaluate.kinds import explained_of

OF = [Step(t, t, t + 1) for t in range(FRAMES - 1)]


def explained(found) -> float:
    return float(explained_of(found["warp_explained"].sum(0).numpy()))


def test_steps_join_frames_that_the_flow_leads_to() -> None:
    assert steps([0, 4, 8], 4, [0, 4, 8]) == [Step(0, 0, 1), Step(1, 1, 2)]
    assert steps([0, 4], 8, [0, 4, 8]) == [Step(0, 0, 2)]
    assert steps([0, 4], 3, [0, 4, 8]) == []


def test_warping_takes_what_lies_at_the_end_of_the_flow() -> None:
    values = torch.arange(12.0).view(1, 3, 4, 1)
    flow = torch.zeros(1, 3, 4, 2)
    flow[..., 0] = 1
    found, inside = warped(values, flow)
    assert found[0, :, :3, 0].tolist() == values[0, :, 1:, 0].tolist() and inside[0, 0].tolist() == [True] * 3 + [False]
    flow[..., 0], flow[..., 1] = 0.25, 0.5
    found, _ = warped(values, flow)
    assert float(found[0, 0, 0]) == pytest.approx(0.25 + 0.5 * 4)


def test_true_flow_carries_a_picture_into_the_next() -> None:
    world = clip()
    seen = world["flow"][..., 2] <= 0.5
    true = flow_and_pictures(world["video"], world["flow"], OF, seen)
    assert float(true["warp_error"]) < 0.004 and explained(true) > 0.99
    # What the square covers has no counterpart, which costs the truth something where it counts.
    every = flow_and_pictures(world["video"], world["flow"], OF)
    assert 0.4 < explained(every) < explained(true) and float(every["warp_error"]) > float(true["warp_error"])
    none = flow_and_pictures(world["video"], 0 * world["flow"], OF, seen)
    assert explained(none) == pytest.approx(0) and float(none["warp_error"]) > 5 * float(true["warp_error"])
    for wrong in (world["flow"].roll(12, 3), world["flow"].transpose(2, 3).flip(-1)):
        found = flow_and_pictures(world["video"], wrong, OF, seen)
        assert explained(found) < 0 and float(found["warp_error"]) > float(none["warp_error"])
    # A frozen film with a flow: the flow explains nothing, as there is nothing to explain.
    frozen = flow_and_pictures(world["video"][:, :1].expand_as(world["video"]), world["flow"], OF, seen)
    assert float(frozen["warp_error"]) > 5 * float(true["warp_error"])


def test_calling_everything_occluded_is_no_excuse() -> None:
    world = clip()
    excused = world["flow"].roll(9, 2).clone()
    told = flow_and_pictures(world["video"], excused, OF)
    excused[..., 2] = 1
    assert torch.equal(flow_and_pictures(world["video"], excused, OF)["warp_error"], told["warp_error"])


def test_depth_goes_with_the_flow() -> None:
    world = clip()
    seen = world["flow"][..., 2] <= 0.5
    true = float(flow_and_depth(world["depth"], world["flow"], OF, seen))
    assert true < 1e-6, "what is not occluded goes where it goes, at its depth"
    frozen = world["depth"][:, :1].expand_as(world["depth"])
    for depth, flow in (
        (frozen, world["flow"]),
        (world["depth"], 0 * world["flow"]),
        (world["depth"].roll(5, 2), world["flow"]),
    ):
        assert float(flow_and_depth(depth, flow, OF, seen)) > 0.005
    assert torch.isnan(flow_and_depth(0 * world["depth"], world["flow"], OF)), "where no depth is known nothing counts"


def test_edges_of_depth_are_edges_of_the_picture() -> None:
    world = clip()
    true = float(depth_and_pictures(world["depth"], world["video"]))
    assert true > 0.92
    generator = torch.Generator().manual_seed(0)
    noise = torch.rand(world["depth"].shape, generator=generator) + 0.5
    assert float(depth_and_pictures(noise, world["video"])) == pytest.approx(0.5, abs=0.08)
    assert float(depth_and_pictures(torch.ones_like(noise), world["video"])) == 0.5
    assert float(depth_and_pictures(world["depth"].transpose(2, 3), world["video"])) < 0.8
    # Neither the unit nor a blur of the depth matters much, and what is unknown has no edge.
    assert float(depth_and_pictures(100 * world["depth"], world["video"])) == true
    soft = torch.nn.functional.avg_pool2d(world["depth"][0].movedim(-1, 1), 3, 1, 1, count_include_pad=False).movedim(
        1, -1
    )[None]
    assert float(depth_and_pictures(soft, world["video"])) > 0.85
    unknown = world["depth"] * (torch.arange(SIDE) % 4 > 0)[:, None]
    assert float(depth_and_pictures(unknown, world["video"])) > 0.9


def test_the_depth_of_another_moment_disagrees_with_what_moves() -> None:
    world = clip()
    moving = world["flow"][..., :2].norm(dim=-1) > 0.5
    later = world["depth"].roll(-2, 1)
    true, wrong = (float(depth_and_pictures(d, world["video"], moving)) for d in (world["depth"], later))
    assert true > wrong + 0.1
    assert torch.isnan(depth_and_pictures(later, world["video"], torch.zeros_like(moving)))


def test_flicker_is_of_what_stands_still() -> None:
    world = clip()
    square = world["segmentation"][..., 0] == 1
    still = ~(square | square.roll(-1, 1))
    assert float(flicker(world["video"], still)) == 0
    assert float(flicker(world["video"])) > 0.01, "without the truth what moves counts as well"
    shaken = world["video"].clone()
    shaken[:, ::2] = (shaken[:, ::2].int() + 10).clamp_max(255).to(torch.uint8)
    assert float(flicker(shaken, still)) == pytest.approx(10 / 255, rel=1e-3)
    assert float(flicker(world["video"][:, :1].expand_as(world["video"]))) == 0
