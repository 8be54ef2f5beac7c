"""Dense measures against numbers worked out by hand, and what counts and what does not."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from polyclock.evaluate import dense
from polyclock.evaluate.kinds import iou_of


def depth(*rows: list[float]) -> Tensor:
    """One sample a row: (B, 1, 1, n, 1)."""
    return torch.tensor(rows)[:, None, None, :, None]


def flow(*pixels: tuple[float, float, float]) -> Tensor:
    return torch.tensor([pixels])[:, None, None]


def figure(*joints: tuple[float, float, float]) -> Tensor:
    return torch.tensor([[joints]])


def test_depth_by_hand() -> None:
    true = depth([1.0, 2.0, 4.0, 0.0], [1.0, 1.0, 1.0, 1.0])
    guess = depth([1.2, 1.0, 0.0, 9.0], [1.0, 1.0, 1.0, 2.0])
    found = dense.depth_errors(guess, true)
    assert found["absrel"].tolist() == pytest.approx([(0.2 + 0.5 + 1.0) / 3, 0.25])
    assert found["rmse"].tolist() == pytest.approx([math.sqrt((0.04 + 1 + 16) / 3), 0.5])
    assert found["delta"].tolist() == pytest.approx([1 / 3, 0.75])
    assert all(v.dtype == torch.float64 and v.shape == (2,) for v in found.values())


def test_alignment_takes_away_what_it_names_and_no_more() -> None:
    torch.manual_seed(0)
    true = torch.rand(3, 2, 5, 6, 1) + 0.5
    for align, guess in (("scale", true * 7), ("scale and shift", true * 7 - 2)):
        assert dense.depth_errors(guess, true, align)["absrel"].max() < 1e-6
        assert dense.depth_errors(guess, true)["absrel"].min() > 1
    assert dense.depth_errors(true * 7 - 2, true, "scale")["absrel"].min() > 0.01
    assert dense.depth_errors(1 / (0.1 + 0.3 / true), true, "inverse")["absrel"].max() < 1e-6
    assert dense.depth_errors(1.1 - true / 2, true, "inverse")["absrel"].min() > 0.01
    flat = dense.depth_errors(torch.ones_like(true), true, "scale and shift")
    torch.testing.assert_close(flat["rmse"], true.double().flatten(1).std(1, correction=0))


def test_the_least_squares_are_least() -> None:
    torch.manual_seed(0)
    true, guess = torch.rand(1, 1, 8, 8, 1) + 1, torch.rand(1, 1, 8, 8, 1) + 1
    best = dense.depth_errors(guess, true, "scale and shift")["rmse"]
    table = torch.stack([guess.flatten(), torch.ones(64)], 1).double()
    fit = torch.linalg.lstsq(table, true.flatten()[:, None].double()).solution
    torch.testing.assert_close(best, (table @ fit - true.flatten()[:, None]).square().mean().sqrt()[None])


def test_each_frame_can_be_fitted_by_itself() -> None:
    torch.manual_seed(0)
    true = torch.rand(2, 2, 5, 6, 1) + 0.5
    guess = torch.cat([true[:, :1] * 7 - 2, true[:, 1:] * 3 + 1], 1)
    assert dense.depth_errors(guess, true, "scale and shift")["absrel"].min() > 0.01
    assert dense.depth_errors(guess, true, "scale and shift", framewise=True)["absrel"].max() < 1e-6
    # A frame of which less is known weighs less in the error of the clip.
    guess = guess + 0.1 * torch.rand_like(true)
    true[:, 0, :, 1:] = 0
    by_frame = dense.depth_errors(guess.flatten(0, 1)[:, None], true.flatten(0, 1)[:, None], "scale and shift")
    few, all_ = by_frame["absrel"].view(2, 2).T
    whole = dense.depth_errors(guess, true, "scale and shift", framewise=True)["absrel"]
    torch.testing.assert_close(whole, (5 * few + 30 * all_) / 35)


def test_unknown_predictions_do_not_bend_the_fit() -> None:
    true, guess = depth([1.0, 2.0, 3.0, 4.0]), depth([2.0, 4.0, 6.0, 0.0])
    for align in ("scale", "scale and shift", "inverse"):
        assert dense.depth_errors(guess, true, align)["absrel"].item() == pytest.approx(0.25)


def test_nothing_known_is_not_a_number() -> None:
    for align in dense.ALIGNMENTS:
        found = dense.depth_errors(depth([1.0, 1.0]), depth([0.0, math.inf]), align)
        assert all(v.isnan().all() for v in found.values())


def test_flow_by_hand() -> None:
    true = flow((0, 0, 0), (10, 0, 0), (100, 0, 0), (5, 5, 1))
    guess = flow((3, 4, 0), (10, 2, 1), (104, 0, 0), (0, 0, 0))
    found = dense.flow_errors(guess, true)
    assert found["epe"].item() == pytest.approx((5 + 2 + 4) / 3)
    assert found["epe_moving"].item() == pytest.approx(3)
    assert found["fl"].item() == pytest.approx(1 / 3)  # 4 px of 100 is below 5 %
    still = dense.flow_errors(guess[..., :1, :], true[..., :1, :])
    assert still["epe_moving"].isnan().all() and still["epe"].item() == 5


def test_iou_is_pooled_over_the_data_set() -> None:
    true = torch.zeros(2, 1, 2, 2, 2, dtype=torch.int32)
    guess = true.clone()
    true[0, ..., 1] = torch.tensor([[1, 1], [0, 0]])
    guess[0, ..., 1] = torch.tensor([[1, 0], [0, 7]])
    guess[1, ..., 0] = 5  # instances do not matter
    counts = dense.class_counts(guess, true, 3)
    assert counts.tolist() == [[1, 1, 0, 3, 2, 0], [4, 0, 0, 4, 0, 0]]
    assert iou_of(counts.sum(0).numpy()) == pytest.approx((5 / 7 + 0.5) / 2), "of the third class there is nothing"
    one, none = (iou_of(dense.class_counts(guess, true, (c,)).sum(0).numpy()) for c in (1, 9))
    assert one == 0.5 and math.isnan(none)


def test_joints_by_hand() -> None:
    true = figure((0, 0, 1), (20, 0, 1), (0, 40, 1), (500, 500, 0))
    guess = figure((3, 0, 1), (20, 5, 1), (0, 40, 0), (0, 0, 1))
    found = dense.keypoint_errors(guess, true)  # the box is 20 x 40 px: within 4 px
    assert found["pck"].item() == pytest.approx(1 / 3)
    assert found["joint_error"].item() == pytest.approx(4)
    lone = dense.keypoint_errors(guess[:, :, :1], true[:, :, :1])
    assert lone["pck"].isnan().all() and lone["joint_error"].item() == 3


def test_each_figure_has_its_own_box() -> None:
    true = figure((0, 0, 1), (10, 0, 1), (100, 0, 1), (200, 0, 1))
    guess = figure((5, 0, 1), (10, 0, 1), (105, 0, 1), (200, 0, 1))
    assert dense.keypoint_errors(guess, true)["pck"].item() == 1
    assert dense.keypoint_errors(guess, true, joints=2)["pck"].item() == 0.75
    with pytest.raises(ValueError, match="does not divide the 4 points"):
        dense.keypoint_errors(guess, true, joints=3)


def test_surface_by_hand() -> None:
    true = torch.tensor([[1, 0.5, 0.5], [2, 0.1, 0.1], [0, 0, 0], [0, 0, 0]])[None, None, None]
    guess = torch.tensor([[1, 0.8, 0.9], [3, 0.1, 0.1], [4, 0, 0], [0, 0, 0]])[None, None, None]
    found = dense.surface_errors(guess, true)
    assert found["part_accuracy"].item() == 0.5
    assert found["part_agreement"].item() == pytest.approx(1 / 3)
    assert found["uv_error"].item() == pytest.approx(0.5)


def test_the_truth_has_no_error() -> None:
    torch.manual_seed(0)
    maps = torch.randint(1, 9, (2, 2, 4, 4, 3)).float()
    maps[..., 2] = 0
    assert dense.depth_errors(maps[..., :1], maps[..., :1])["delta"].tolist() == [1, 1]
    assert dense.flow_errors(maps, maps)["epe"].tolist() == [0, 0]
    assert dense.surface_errors(maps, maps)["part_accuracy"].tolist() == [1, 1]
    masks = maps[..., :2].int()
    assert iou_of(dense.class_counts(masks, masks, 9).sum(0).numpy()) == 1


def test_mistakes() -> None:
    with pytest.raises(ValueError, match="unknown alignment 'shift'"):
        dense.depth_errors(depth([1.0]), depth([1.0]), "shift")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"needed: \(B, T, H, W, 3\)"):
        dense.flow_errors(depth([1.0]), depth([1.0]))
    with pytest.raises(ValueError, match="sample 1 holds a number that is not finite"):
        dense.depth_errors(depth([1.0], [math.nan]), depth([1.0], [1.0]))
    with pytest.raises(ValueError, match="the true one"):
        dense.depth_errors(depth([1.0]), depth([1.0, 2.0]))
    with pytest.raises(ValueError, match="at least one class"):
        dense.class_counts(torch.zeros(1, 1, 1, 1, 2), torch.zeros(1, 1, 1, 1, 2), 0)
