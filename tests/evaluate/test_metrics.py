"""Measures against numbers worked out by hand."""

from __future__ import annotations

import pytest
import torch

from polyclock.evaluate import metrics


def clip(value: int, *shape: int) -> torch.Tensor:
    return torch.full(shape, value, dtype=torch.uint8)


def test_the_error_of_actions_is_in_standard_deviations_and_leaves_out_what_never_moves() -> None:
    true = torch.zeros(2, 3, 3)
    guess = torch.tensor([1.0, 4.0, 100.0]).expand(2, 3, 3)
    assert metrics.scaled_error(guess, true, torch.tensor([2.0, 4.0, 0.0])).tolist() == [0.75, 0.75]
    assert metrics.rmse(guess, true)[0].item() == pytest.approx(((1 + 16 + 10000) / 3) ** 0.5)
    with pytest.raises(ValueError, match="constant in the training data"):
        metrics.scaled_error(guess, true, torch.zeros(3))


def test_psnr_of_a_known_difference() -> None:
    a, b = clip(100, 1, 2, 16, 16, 3), clip(151, 1, 2, 16, 16, 3)
    assert metrics.mse(a, b).item() == pytest.approx(0.04)
    assert metrics.psnr(a, b).item() == pytest.approx(13.9794, abs=1e-4)
    assert metrics.psnr(a, a).item() == metrics.MOST_DECIBELS


@pytest.mark.parametrize("side", [8, 16, 32])
def test_ssim_orders_pictures_and_is_one_for_the_same(side: int) -> None:
    torch.manual_seed(0)
    true = torch.randint(0, 256, (2, 3, side, side, 3), dtype=torch.uint8)
    near = (true.int() + torch.randint(-9, 10, true.shape)).clamp(0, 255).to(torch.uint8)
    assert metrics.ssim(true, true).tolist() == pytest.approx([1.0, 1.0])
    assert bool((metrics.ssim(near, true) < 1).all())
    assert bool((metrics.ssim(true.flip(2), true) < metrics.ssim(near, true)).all())


@pytest.mark.parametrize("size", [(64, 64), (20, 33), (11, 12), (8, 10), (3, 40), (1, 7)])
def test_ssim_is_that_of_torchmetrics(size: tuple[int, int]) -> None:
    """They convolve with the whole window at once, which takes several times as long."""
    image = pytest.importorskip("torchmetrics.functional.image")
    torch.manual_seed(0)
    smooth = torch.nn.functional.interpolate(torch.rand(6, 3, 4, 4), size, mode="bicubic").clamp(0, 1)
    true = (255 * smooth).byte().movedim(1, -1).unflatten(0, (2, 3))
    guess = (true.int() + torch.randint(-30, 31, true.shape)).clamp(0, 255).to(torch.uint8)
    guess[0, 0], guess[1, 2] = 128, true[1, 2]
    side = min(11, (min(size) - 1) // 2 * 2 + 1)
    x, y = (v.flatten(0, 1).movedim(-1, 1).double() / 255 for v in (guess, true))
    expected = image.structural_similarity_index_measure(
        x, y, data_range=1.0, gaussian_kernel=side == 11, kernel_size=side, reduction="none"
    )
    torch.testing.assert_close(metrics.ssim(guess, true), expected.view(2, 3).mean(1), atol=1e-12, rtol=0)


def test_ssim_is_by_window() -> None:
    torch.manual_seed(0)
    true = torch.randint(0, 256, (2, 2, 16, 16, 3), dtype=torch.uint8)
    guess = torch.stack([true[0], true[0]])
    both = metrics.ssim(guess, true)
    assert both[0].item() == pytest.approx(1.0) and both[1].item() < 0.5
    assert metrics.ssim(guess[1:], true[1:]).item() == pytest.approx(both[1].item())


def test_pictures_must_be_pictures() -> None:
    with pytest.raises(ValueError, match="predicted must be uint8"):
        metrics.mse(torch.zeros(1, 1, 4, 4, 3), clip(0, 1, 1, 4, 4, 3))
    with pytest.raises(ValueError, match="has shape"):
        metrics.mse(clip(0, 1, 2, 4, 4, 3), clip(0, 1, 1, 4, 4, 3))


def test_mse_of_moving_pixels_leaves_out_the_rest() -> None:
    a, b = clip(100, 2, 1, 4, 4, 3), clip(100, 2, 1, 4, 4, 3)
    b[0, 0, 0, 0] = 151
    moving = torch.zeros(2, 1, 4, 4, dtype=torch.bool)
    moving[0, 0, 0, :2] = True
    found = metrics.mse_moving(a, b, moving)
    assert found[0].item() == pytest.approx(0.02) and found[1].isnan()
