"""Chains: composition of shapes, values, spans and fits."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from torch import Tensor

from polyclock.codecs import Chain, Identity, MeanStd, MinMax, Pixels, Quantile, Relative, Rotation
from polyclock.codecs.codec import Codec, FrameByFrame, Shape


@dataclass(frozen=True, kw_only=True)
class Pairs(FrameByFrame):
    """Two data frames side by side in one latent frame; exact."""

    def raw_shape(self, shape: Shape) -> Shape:
        return 2 * shape[0], shape[1] // 2

    def encode(self, raw: Tensor, generator: torch.Generator | None = None) -> Tensor:
        return raw.unflatten(1, (-1, 2)).flatten(2)

    def decode(self, x: Tensor) -> Tensor:
        return x.unflatten(2, (2, -1)).flatten(1, 2)

    def covers(self, frame: int) -> range:
        return range(2 * frame, 2 * frame + 2)


def poses(seed: int, n: int) -> np.ndarray:
    """(n, 7) position, Euler angles, gripper."""
    rng = np.random.default_rng(seed)
    return (np.cumsum(rng.normal(size=(n, 7)), 0) * 0.05 + [3, 0, -2, 0, 0, 0, 1]).astype(np.float32)


EPISODES = [poses(seed, n) for seed, n in enumerate((30, 12, 50))]
POSE = Chain(Rotation(axes=(3, 6)), Relative(axes=(0, 3), horizon=8), Quantile())


def test_composition() -> None:
    chain = Chain(Rotation(axes=(3, 6)), Pairs(), Pairs())
    assert isinstance(chain, Codec)
    assert chain.raw_shape((2, 40)) == (8, 7)
    assert [list(chain.covers(f)) for f in range(2)] == [[0, 1, 2, 3], [4, 5, 6, 7]]
    raw = torch.from_numpy(EPISODES[0][None, :8])
    x = chain.encode(raw)
    assert x.shape == (1, 2, 40) and torch.equal(x, Pairs().encode(Pairs().encode(chain.codecs[0].encode(raw))))
    torch.testing.assert_close(chain.decode(x), raw, atol=1e-5, rtol=0)


@pytest.mark.parametrize("one_way", [False, True])
def test_later_codecs_are_fitted_to_what_earlier_ones_encode(one_way: bool) -> None:
    source: Iterator | list = iter(EPISODES) if one_way else EPISODES
    fitted = POSE.fit(source)
    rotation, relative, _ = POSE.codecs
    chunks = [relative.windows(rotation.encode(torch.from_numpy(e)[None])[0].numpy()) for e in EPISODES]
    seen = relative.encode(torch.from_numpy(np.concatenate(chunks))).flatten(0, 1).numpy()
    assert len(seen) == 8 * (23 + 5 + 43)
    np.testing.assert_allclose(fitted.codecs[2].low, np.quantile(seen, 0.01, axis=0), rtol=1e-5, atol=1e-6)
    raw = torch.from_numpy(np.stack([e[:8] for e in EPISODES]))
    torch.testing.assert_close(fitted.decode(fitted.encode(raw)), raw, atol=2e-5, rtol=0)
    assert fitted.encode(raw).shape == (3, 8, 10) and fitted.raw_shape((8, 10)) == (8, 7)


@pytest.mark.parametrize("one_way", [False, True])
def test_two_fitted_codecs(one_way: bool) -> None:
    fitted = Chain(MeanStd(), MinMax()).fit(iter(EPISODES) if one_way else EPISODES)
    x = torch.cat([fitted.encode(torch.from_numpy(e)[None])[0] for e in EPISODES])
    torch.testing.assert_close(x.amin(0), -torch.ones(7), atol=1e-5, rtol=0)
    torch.testing.assert_close(x.amax(0), torch.ones(7), atol=1e-5, rtol=0)
    np.testing.assert_allclose(fitted.codecs[0].mean, np.concatenate(EPISODES).mean(0), rtol=1e-5, atol=1e-5)


def test_one_fitted_codec_streams() -> None:
    alive: list[int] = []

    def episodes() -> Iterator[np.ndarray]:
        for i in range(50):
            alive.append(i)
            yield np.full((100, 2), i, np.float32)

    class Watch(MinMax):
        def fit(self, arrays):  # noqa: ANN001, ANN202
            for i, _ in enumerate(arrays):
                assert len(alive) == i + 1  # nothing is read ahead
            return self

    Chain(Identity(), Watch()).fit(episodes())
    assert len(alive) == 50


def test_a_chain_of_chains_is_flat_and_a_value() -> None:
    a, b, c = Pixels(), Pairs(), MinMax()
    assert Chain(Chain(a, b), c) == Chain(a, Chain(b, c)) == Chain(codecs=[a, b, c])
    assert replace(Chain(a), codecs=(b, c)) == Chain(b, c) and hash(Chain(a)) == hash(Chain(a))
    nested = Chain(Chain(*POSE.codecs[:2]), POSE.codecs[2]).fit(EPISODES)
    assert torch.equal(nested.codecs[2].low, POSE.fit(EPISODES).codecs[2].low)


def test_faults() -> None:
    with pytest.raises(ValueError, match="at least one codec"):
        Chain()
    with pytest.raises(ValueError, match="not fitted"):
        POSE.encode(torch.zeros(1, 8, 7))
    with pytest.raises(ValueError, match="needs horizon=T"):
        Chain(Relative(), MinMax()).fit(EPISODES)
    bad = [EPISODES[0], EPISODES[1].copy()]
    bad[1][4, 6] = np.nan
    for chain in (Chain(Identity(), MinMax()), POSE):
        with pytest.raises(ValueError, match="dimension 6 is nan in frame 4 of array .* number 1"):
            chain.fit(bad)
