"""The vector encoder: one token a frame, frames apart, empty batches."""

from __future__ import annotations

import pytest
import torch

from polyclock.encoders import Vector


def test_one_token_for_each_frame() -> None:
    torch.manual_seed(0)
    spec = Vector(width=24, hidden=48)
    net = spec.build((3, 7))
    values = torch.randn(5, 3, 7)
    out = net(values)
    assert out.shape == (5, 3, 24) and net.length == 3 and spec.length is None
    torch.testing.assert_close(net(values[2:3, 1:2])[0, 0], out[2, 1])
    assert sum(p.numel() for p in net.parameters()) == 7 * 48 + 48 + 48 * 24 + 24


def test_keypoints_are_flattened() -> None:
    assert Vector(width=8).build((2, 17, 3))(torch.zeros(4, 2, 17, 3)).shape == (4, 2, 8)


def test_an_empty_batch_still_gives_gradients() -> None:
    net = Vector(width=8).build((2, 3))
    net(torch.zeros(0, 2, 3)).sum().backward()
    assert all(p.grad is not None and not p.grad.any() for p in net.parameters())


def test_an_unknown_shape_is_refused() -> None:
    with pytest.raises(ValueError, match="known shape"):
        Vector().build((2, None))
