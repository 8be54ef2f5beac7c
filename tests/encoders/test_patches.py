"""Patches of frames as tokens, row by row."""

from __future__ import annotations

import pytest
import torch

from polyclock.encoders import Patches


def test_a_token_is_a_patch_row_by_row() -> None:
    encoder = Patches(patch=(2, 3), channels=1)
    frames = torch.arange(2 * 4 * 6).reshape(1, 2, 4, 6, 1).float()
    reader = encoder.build((2, 4, 6, 1))
    found = reader(frames)
    assert found.shape == (1, reader.length, encoder.width) == (1, 8, 6)
    assert found[0, 0].tolist() == [0, 1, 2, 6, 7, 8]
    assert found[0, 1].tolist() == [3, 4, 5, 9, 10, 11]
    assert found[0, 4, 0] == 24, "the second frame comes behind the whole first one"
    assert torch.equal(reader(frames.to(torch.uint8)), found / 127.5 - 1)


def test_sizes_that_cannot_be() -> None:
    with pytest.raises(ValueError, match="do not divide images of 4 x 5"):
        Patches(patch=(2, 3)).build((1, 4, 5, 3))
    with pytest.raises(ValueError, match="needs a known shape"):
        Patches(patch=(2, 3)).build((1, None, 6, 3))
