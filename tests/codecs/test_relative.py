"""Relative actions: exact inverses, untouched dimensions, the robot's state."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from polyclock.codecs import Relative, to_absolute, to_relative
from polyclock.codecs.codec import Codec


@pytest.mark.parametrize("mode", ["first", "delta"])
@pytest.mark.parametrize("axes", [None, (1, 3), ((0, 1), (4, 6))])
def test_decode_inverts_encode(mode: str, axes: tuple | None) -> None:
    raw = torch.randn(3, 16, 6, generator=torch.Generator().manual_seed(0)) * 100
    codec = Relative(mode=mode, axes=axes)
    x = codec.encode(raw)
    assert isinstance(codec, Codec) and codec.fit([]) is codec and x.shape == raw.shape
    assert (codec.decode(x) - raw).abs().max() <= 16 * 1.2e-7 * raw.abs().max()
    assert torch.equal(x[:, 0], raw[:, 0])
    others = {None: [], (1, 3): [0, 3, 4, 5], ((0, 1), (4, 6)): [1, 2, 3]}[axes]
    assert torch.equal(x[..., others], raw[..., others])


def test_numbers() -> None:
    raw = torch.tensor([[[1.0, 7], [3, 7], [6, 8]]])
    assert Relative().encode(raw).tolist() == [[[1, 7], [2, 0], [5, 1]]]
    assert Relative(mode="delta").encode(raw).tolist() == [[[1, 7], [2, 0], [3, 1]]]
    assert Relative(mode="delta").encode(raw[:, :1]).tolist() == [[[1, 7]]]
    assert Relative().encode(raw[:0]).shape == (0, 3, 2)


def test_windows_are_the_chunks_of_an_episode() -> None:
    codec = Relative(horizon=3)
    episode = np.arange(10, dtype=np.float32).reshape(5, 2)
    windows = codec.windows(episode)
    assert windows.shape == (3, 3, 2)
    for i, window in enumerate(windows):
        np.testing.assert_array_equal(window, episode[i : i + 3])
    np.testing.assert_array_equal(codec.windows(episode[:2]), episode[None, [0, 1, 1]])


def test_relative_to_the_state() -> None:
    generator = torch.Generator().manual_seed(0)
    action, state = torch.randn(4, 8, 7, generator=generator), torch.randn(4, 7, generator=generator)
    relative = to_relative(action, state, axes=(0, 6))
    torch.testing.assert_close(relative[2, 5, :6], action[2, 5, :6] - state[2, :6])
    assert torch.equal(relative[..., 6], action[..., 6])
    torch.testing.assert_close(to_absolute(relative, state, axes=(0, 6)), action)
    torch.testing.assert_close(to_absolute(to_relative(action, state), state), action)
    with pytest.raises(ValueError, match="action has 7 dimensions and state 6"):
        to_relative(action, state[:, :6])


def test_mistakes() -> None:
    with pytest.raises(ValueError, match="unknown mode 'deltas'. Did you mean 'delta'"):
        Relative(mode="deltas")
    with pytest.raises(ValueError, match="rising order"):
        Relative(axes=(3, 1))
    with pytest.raises(ValueError, match="do not fit in values with 2"):
        Relative(axes=(1, 3)).encode(torch.zeros(1, 2, 2))
    with pytest.raises(ValueError, match="needs horizon=T"):
        Relative().windows(np.zeros((4, 2)))
    with pytest.raises(ValueError, match="horizon=0"):
        Relative(horizon=0)
