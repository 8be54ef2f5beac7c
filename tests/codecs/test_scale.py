"""Scaling codecs: exact inverses, constant dimensions, one pass over the data, plain messages."""

from __future__ import annotations

import tracemalloc
from dataclasses import FrozenInstanceError, replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays as np_arrays

from polyclock.codecs import scale
from polyclock.codecs.codec import Codec
from polyclock.codecs.pixels import Pixels
from polyclock.codecs.scale import Identity, MeanStd, MinMax, Quantile

FITTED = [MinMax(), MeanStd(), Quantile(), Quantile(q=(0.0, 1.0)), Quantile(limit=7)]


def episodes(seed: int = 0, count: int = 5) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    spread, middle = np.array([1.0, 1e-3, 50.0]), np.array([0.0, 2.0, -300.0])
    return [(rng.normal(size=(int(rng.integers(3, 40)), 3)) * spread + middle).astype(np.float32) for _ in range(count)]


@pytest.mark.parametrize("codec", FITTED, ids=repr)
@given(
    data=np_arrays(np.float32, (9, 2), elements=st.floats(-1e6, 1e6, width=32)),
    probe=np_arrays(np.float32, (1, 3, 2), elements=st.floats(-1e6, 1e6, width=32)),
)
@settings(max_examples=40, deadline=None)
def test_decode_inverts_encode(codec: Codec, data: np.ndarray, probe: np.ndarray) -> None:
    fitted = codec.fit([data])
    raw = torch.from_numpy(np.concatenate([data[None], probe], axis=1))
    x = fitted.encode(raw)
    assert x.dtype == torch.float32 and x.isfinite().all()
    # Rounding is relative to the numbers of the dimension that take part, not to each one.
    size = raw.abs().amax((0, 1)).clamp_min(1e-30)
    assert ((fitted.decode(x) - raw).abs() / size).max() <= 1e-5


@pytest.mark.parametrize("codec", FITTED, ids=repr)
def test_seen_data_stay_in_range(codec: Codec) -> None:
    raw = np.concatenate(episodes())
    x = codec.fit(episodes()).encode(torch.from_numpy(raw)[None])
    low, high = x.amin((0, 1)), x.amax((0, 1))
    if isinstance(codec, MinMax) or (isinstance(codec, Quantile) and codec.q == (0.0, 1.0)):
        assert torch.allclose(low, -torch.ones(3)) and torch.allclose(high, torch.ones(3))
    if isinstance(codec, MeanStd):
        assert torch.allclose(x.mean((0, 1)), torch.zeros(3), atol=1e-3)
        assert torch.allclose(x.std((0, 1), correction=0), torch.ones(3), atol=1e-3)
    assert (low < -0.3).all() and (high > 0.3).all() and x.abs().max() < 6


def test_one_pass_equals_all_at_once() -> None:
    parts, whole = episodes(), np.concatenate(episodes()).astype(np.float64)
    mean_std = MeanStd().fit(iter(parts))
    np.testing.assert_allclose(mean_std.mean, whole.mean(0), rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(mean_std.std, whole.std(0), rtol=1e-6)
    quantile = Quantile().fit(iter(parts))
    np.testing.assert_allclose(quantile.low, np.quantile(whole, 0.01, axis=0), rtol=1e-6)
    np.testing.assert_allclose(quantile.high, np.quantile(whole, 0.99, axis=0), rtol=1e-6)


def test_quantile_of_a_sample() -> None:
    rng = np.random.default_rng(3)
    data = [rng.uniform(0, 1, (1000, 1)).astype(np.float32) for _ in range(30)]
    codec = Quantile(limit=4000, q=(0.1, 0.9))
    first, again = codec.fit(iter(data)), codec.fit(iter(data))
    assert torch.equal(first.low, again.low) and torch.equal(first.high, again.high)
    # Four standard errors of a quantile of 4000 uniform numbers: 4 * sqrt(.1 * .9 / 4000) = .019.
    assert abs(float(first.low) - 0.1) < 0.019 and abs(float(first.high) - 0.9) < 0.019


def test_a_sample_is_bounded_in_numbers_too(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(4)
    data = [rng.normal(0, 1, (500, 768)).astype(np.float32) for _ in range(20)]

    def fit(codec: Quantile) -> tuple[Quantile, int]:
        tracemalloc.start()
        fitted = codec.fit(iter(data))
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return fitted, peak

    def same(a: Quantile, b: Quantile) -> bool:
        return torch.equal(a.low, b.low) and torch.equal(a.high, b.high)

    exact, large = fit(Quantile())
    whole = np.quantile(np.concatenate(data).astype(np.float64), (0.01, 0.99), axis=0).astype(np.float32)
    assert np.array_equal(exact.low, whole[0]) and np.array_equal(exact.high, whole[1])
    monkeypatch.setattr(scale, "HELD", 10_000 * 768)
    assert same(fit(Quantile())[0], exact)  # all rows just fit
    monkeypatch.setattr(scale, "HELD", 1000 * 768 + 767)
    sampled, small = fit(Quantile())
    assert same(sampled, Quantile(limit=1000).fit(data)) and not same(sampled, exact)
    bound = (
        1000 * 768 * 4
    )  # as float32; up to 2.5 of it are held, then thinned into one more, and one array in float64 comes in
    assert small < 6 * bound < 10 * bound < large
    monkeypatch.setattr(scale, "HELD", 5)
    assert len(Quantile().fit(data).low) == 768  # one row is the least


@pytest.mark.parametrize("codec", FITTED, ids=repr)
@pytest.mark.parametrize("value", [0.0, 0.1, -7.3e5])
def test_constant_dimension(codec: Codec, value: float) -> None:
    data = [np.stack([np.full(n, value), np.arange(n)], 1).astype(np.float32) for n in (5, 8, 3)]
    fitted = codec.fit(data)
    raw = torch.from_numpy(data[1])[None]
    x = fitted.encode(raw)
    assert (x[..., 0] == 0).all()
    assert torch.equal(fitted.decode(x)[..., 0], raw[..., 0])
    moved = raw.clone()
    moved[..., 0] += 1
    torch.testing.assert_close(fitted.encode(moved)[..., 0], torch.ones(1, 8), atol=0.1, rtol=0)


def test_rare_values_are_not_constant() -> None:
    rare = np.zeros((1000, 1), np.float32)
    rare[3] = 40.0
    codec = Quantile().fit([rare])
    assert codec.encode(torch.tensor([[[0.0], [40.0]]])).flatten().tolist() == [-1.0, 1.0]


def test_quantile_clips_only_when_asked() -> None:
    fitted = Quantile().fit(episodes())
    far = torch.full((1, 1, 3), 1e4)
    assert fitted.encode(far).min() > 10
    assert replace(fitted, clip=1.5).encode(far).max() == 1.5


@pytest.mark.parametrize("codec", [MinMax(), MeanStd(), Quantile()], ids=repr)
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_bad_numbers_are_named(codec: Codec, bad: float) -> None:
    data = episodes()
    data[2][1, 2] = bad
    with pytest.raises(ValueError, match=r"dimension 2 is .* in frame 1 of array \(episode\) number 2"):
        codec.fit(data)


@pytest.mark.parametrize("codec", [MinMax(), MeanStd(), Quantile()], ids=repr)
def test_other_mistakes(codec: Codec) -> None:
    with pytest.raises(ValueError, match="not fitted"):
        codec.encode(torch.zeros(1, 2, 3))
    with pytest.raises(ValueError, match="not fitted"):
        codec.decode(torch.zeros(1, 2, 3))
    with pytest.raises(ValueError, match="nothing to fit"):
        codec.fit([])
    with pytest.raises(ValueError, match="no frame"):
        codec.fit([np.zeros((0, 3), np.float32)])
    with pytest.raises(ValueError, match="array 1 to fit has 2 dimensions, those before it 3"):
        codec.fit([np.zeros((4, 3)), np.zeros((4, 2))])
    with pytest.raises(ValueError, match="fitted to 3 dimensions, got values with 2"):
        codec.fit(episodes()).encode(torch.zeros(1, 2, 2))
    for settings_ in ({"q": (0.9, 0.1)}, {"q": (0.0, 2.0)}, {"clip": 0.0}, {"limit": 0}):
        with pytest.raises(ValueError):
            Quantile(**settings_)


def test_is_a_frozen_value() -> None:
    codec = MinMax(low=[0.0, 1.0], high=[2.0, 3.0])
    assert (
        isinstance(codec, Codec) and isinstance(codec.low, torch.Tensor) and repr(codec) == "MinMax(low=<2>, high=<2>)"
    )
    assert codec == MinMax() and hash(codec) == hash(MinMax())
    with pytest.raises(FrozenInstanceError):
        codec.low = None
    assert codec.covers(3) == range(3, 4) and codec.raw_shape((4, None)) == (4, None)


def test_spatial_and_empty_values() -> None:
    data = [np.random.default_rng(0).normal(size=(6, 4, 5, 2)).astype(np.float32)]
    fitted = MeanStd().fit(data)
    assert fitted.mean.shape == (2,)
    assert fitted.encode(torch.zeros(0, 6, 4, 5, 2)).shape == (0, 6, 4, 5, 2)


def test_identity() -> None:
    raw = torch.randn(2, 3, 4, dtype=torch.float64)
    assert torch.equal(Identity().encode(raw), raw.float()) and Identity().fit([]) == Identity()
    assert Identity().encode(torch.zeros(1, 1, 2, 2, 3, dtype=torch.uint8)).dtype == torch.uint8


def test_pixels_are_exact() -> None:
    raw = torch.arange(256, dtype=torch.uint8).reshape(1, 1, 16, 16, 1)
    x = Pixels().encode(raw)
    assert x.min() == -1 and x.max() == 1 and x.dtype == torch.float32
    assert torch.equal(Pixels().decode(x), raw)
    assert Pixels().decode(torch.tensor([-1.7, 0.0, 2.0])).tolist() == [0, 128, 255]
    assert isinstance(Pixels(), Codec)
    assert Pixels().encode(torch.tensor([0.0, 0.25, 1.0])).tolist() == [-1, -0.5, 1]
    with pytest.raises(ValueError, match="pixels must be uint8, 0 to 255, or floats from 0 to 1, got torch.int64"):
        Pixels().encode(torch.zeros(1, 1, 2, 2, 3, dtype=torch.int64))
    with pytest.raises(ValueError, match="these lie between 0 and 255"):
        Pixels().encode(torch.tensor([0.0, 255.0]))
