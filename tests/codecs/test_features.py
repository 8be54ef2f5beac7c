"""Projection and resampling: they commute, the fit is that of all data at once, and what is lost is known."""

from __future__ import annotations

import dataclasses
import tracemalloc
from collections.abc import Iterator

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file

from polyclock.codecs import Chain, Projection, Resample
from polyclock.codecs.codec import Codec, Column, Frozen
from polyclock.plain import from_plain, to_plain


def clip(seed: int, frames: int = 9, size: tuple[int, int] = (4, 6), width: int = 24) -> np.ndarray:
    """(n, h, w, D) features that mostly lie along a few directions, of very different means and scales."""
    dice, fixed = np.random.default_rng(seed), np.random.default_rng(99)
    hidden = dice.normal(size=(frames, *size, 5)) * [5.0, 3.0, 2.0, 1.0, 0.5]
    mixed = hidden @ fixed.normal(size=(5, width)) + 0.1 * dice.normal(size=(frames, *size, width))
    return (mixed * fixed.uniform(0.1, 10, width) + fixed.normal(size=width) * 20).astype(np.float32)


CLIPS = [clip(seed) for seed in range(6)]


def fitted(**settings) -> Projection:
    return Projection(**{"components": 5, "rows": 10**6} | settings).fit(CLIPS)


@pytest.mark.parametrize("scale", ["none", "global", "channel"])
@pytest.mark.parametrize(
    "resample",
    [
        Resample(size=(7, 9)),
        Resample(size=(2, 3), space="area"),
        Resample(size=(8, 12), space="nearest", time="pick"),
        Resample(size=(3, 5), time="adaptive", frames=9),
    ],
    ids=lambda r: f"{r.space}-{r.time}",
)
def test_projecting_and_resampling_commute(scale: str, resample: Resample) -> None:
    projection, raw = fitted(scale=scale), torch.from_numpy(np.stack(CLIPS[:2]))
    first, last = Chain(projection, resample).encode(raw), Chain(resample, projection).encode(raw)
    assert first.shape == (2, 3, *resample.size, 5)
    assert float((first - last).abs().max()) < 2e-5 * float(first.abs().max())


def test_the_fit_is_that_of_all_data_at_once() -> None:
    projection = fitted()
    rows = np.concatenate([c.reshape(-1, 24) for c in CLIPS]).astype(np.float64)
    z = (rows - rows.mean(0)) / rows.std(0)
    variance, vectors = np.linalg.eigh(np.cov(z.T, bias=True))
    np.testing.assert_allclose(projection.mean, rows.mean(0), rtol=1e-6)
    np.testing.assert_allclose(projection.std, rows.std(0), rtol=1e-6)
    np.testing.assert_allclose(projection.variance, variance[::-1], rtol=1e-4, atol=1e-6)
    for i in range(5):
        assert abs(vectors[:, -1 - i] @ projection.basis[:, i].numpy()) == pytest.approx(1, abs=1e-5)
    largest = projection.basis.abs().argmax(0)
    assert (projection.basis[largest, torch.arange(5)] > 0).all(), "the sign does not depend on the machine"
    torch.testing.assert_close(projection.explained, projection.variance[:5] / 24, rtol=1e-5, atol=1e-6)
    assert 0.99 < float(projection.explained.sum()) <= 1 + 1e-6
    other = Projection(components=5, rows=10**6).fit(reversed(CLIPS))
    torch.testing.assert_close(other.basis, projection.basis, atol=1e-5, rtol=0)


def test_components_have_the_variance_that_is_asked_for() -> None:
    raw = torch.from_numpy(np.stack(CLIPS))
    for scale, wanted in (("none", None), ("global", 1.0), ("channel", 1.0)):
        x = fitted(scale=scale).encode(raw).reshape(-1, 5)
        variance = x.var(0, correction=0)
        assert float(x.mean(0).abs().max()) < 1e-3
        if scale == "none":
            torch.testing.assert_close(variance, fitted().variance[:5], rtol=1e-3, atol=1e-3)
        elif scale == "global":
            assert float(variance.mean()) == pytest.approx(wanted, rel=1e-3) and float(variance[0]) > 2
        else:
            torch.testing.assert_close(variance, torch.ones(5), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("scale", ["none", "global", "channel"])
def test_decoding_gives_the_nearest_features_in_the_span(scale: str) -> None:
    raw = torch.from_numpy(np.stack(CLIPS))
    three = fitted(components=3, scale=scale)
    back = three.decode(three.encode(raw))
    lost = ((back - raw) / three.std).square().mean()
    torch.testing.assert_close(float(lost), float(1 - three.explained.sum()), rtol=1e-3, atol=0)
    torch.testing.assert_close(three.encode(back), three.encode(raw), rtol=1e-3, atol=1e-3)
    whole = Projection(components=24, scale=scale, rows=10**6).fit(CLIPS)
    np.testing.assert_allclose(whole.decode(whole.encode(raw)) / whole.std, raw / whole.std, atol=2e-3)


def test_a_fit_holds_no_more_than_a_clip() -> None:
    def many(count: int) -> Iterator[np.ndarray]:
        for seed in range(count):
            yield clip(seed, 9, (16, 16), 48)

    peaks = []
    for count in (4, 40):
        tracemalloc.start()
        Chain(Projection(components=4), Resample(size=(2, 2))).fit(Column(lambda count=count: many(count)))
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 1.2 * peaks[0]


def test_few_rows_are_drawn_alike() -> None:
    a, b = (Projection(components=3, rows=50).fit(CLIPS) for _ in range(2))
    assert a.digest == b.digest != fitted(components=3).digest
    close = torch.abs((a.basis * fitted(components=3).basis).sum(0))
    assert float(close[0]) > 0.99


def test_each_video_may_have_its_own_components() -> None:
    own = Projection(components=3, per="video", rows=10**6)
    assert own.fit(CLIPS).basis is None and not own.framewise and own.frozen
    raw = torch.from_numpy(np.stack(CLIPS[:2]))
    x = own.encode(raw)
    alone = Projection(components=3, rows=10**6).fit(CLIPS[1:2])
    torch.testing.assert_close(x[1], alone.encode(raw[1:2])[0])
    assert float((x[0] - fitted(components=3).encode(raw[:1])[0]).abs().max()) > 0.1
    with pytest.raises(ValueError, match="cannot be decoded"):
        own.decode(x)


def test_components_that_are_stored_come_from_what_made_them() -> None:
    by = fitted(scale="channel")
    stored = Projection(components=5, scale="channel").fit(Column(lambda: iter(()), by))
    assert stored.stored and stored.digest == by.digest == stored.made and by.made is None and not stored.frozen
    x = by.encode(torch.from_numpy(np.stack(CLIPS[:1])))
    assert torch.equal(stored.encode(x), x) and torch.equal(stored.decode(x), x)
    torch.testing.assert_close(stored.back(x), by.decode(x))
    assert stored.raw_shape((3, 4, 6, 5)) == (3, 4, 6, 5) and by.raw_shape((3, 4, 6, 5)) == (3, 4, 6, 24)
    for other in (Projection(components=4), Projection(components=5)):
        with pytest.raises(ValueError, match="the column was made by Projection"):
            other.fit(Column(lambda: iter(()), by))
    chain = Chain(stored, Resample(size=(8, 12)))
    assert chain.made == by.digest and chain.fits and not chain.frozen
    with pytest.raises(ValueError, match="the data hold 24 channels in place of 5"):
        stored.encode(torch.zeros(1, 1, 4, 6, 24))


def test_it_is_saved_and_checked() -> None:
    by, tensors = fitted(), {}
    plain = to_plain(Chain(by, Resample(size=(8, 12))), tensors)
    table = {c.__name__: c for c in (Chain, Projection, Resample)}
    again = from_plain(plain, tensors, table)
    assert again.codecs[0].digest == by.digest and again.codecs[1] == Resample(size=(8, 12))
    assert again.frozen and again.framewise and again.digest == by.digest and isinstance(again, Frozen)
    raw = torch.from_numpy(np.stack(CLIPS[:1]))
    assert torch.equal(again.finish(again.ahead(raw)), again.encode(raw))
    with pytest.raises(ValueError, match="the basis of a projection is not orthonormal"):
        dataclasses.replace(by, basis=by.basis * 1.1)
    with pytest.raises(ValueError, match="cannot have tensors of shapes"):
        dataclasses.replace(by, mean=by.mean[:-1])
    with pytest.raises(ValueError, match="not finite, or a deviation that is not above 0"):
        dataclasses.replace(by, std=by.std * 0)
    with pytest.raises(ValueError, match="some are missing"):
        dataclasses.replace(by, mean=None)


def test_it_survives_a_file(tmp_path) -> None:
    tensors: dict[str, torch.Tensor] = {}
    plain = to_plain(fitted(), tensors)
    save_file(tensors, tmp_path / "codecs.safetensors")
    again = from_plain(plain, load_file(tmp_path / "codecs.safetensors"), {"Projection": Projection})
    assert again.digest == fitted().digest


def test_a_channel_that_is_constant_does_no_harm() -> None:
    flat = [np.concatenate([c, np.full_like(c[..., :1], 7)], -1) for c in CLIPS]
    projection = Projection(components=5, scale="channel").fit(flat)
    assert float(projection.std[-1]) == 1 and projection.basis[-1].abs().max() < 1e-6
    back = projection.decode(projection.encode(torch.from_numpy(np.stack(flat[:1]))))
    torch.testing.assert_close(back[..., -1], torch.full_like(back[..., -1], 7))


def test_time_is_that_of_a_causal_autoencoder() -> None:
    x = torch.arange(9.0).reshape(1, 9, 1, 1, 1)
    found = {time: Resample(size=(1, 1), time=time).encode(x).flatten().tolist() for time in ("causal", "pick")}
    assert found == {"causal": [0, 2.5, 6.5], "pick": [0, 4, 8]}
    assert [list(Resample(size=(1, 1)).covers(f)) for f in range(3)] == [[0], [1, 2, 3, 4], [5, 6, 7, 8]]
    adaptive = Resample(size=(1, 1), time="adaptive", frames=81)
    x = torch.randn(1, 81, 1, 1, 1)
    wanted = F.adaptive_avg_pool1d(x.flatten()[None], 21)
    torch.testing.assert_close(adaptive.encode(x).flatten(), wanted.flatten())
    assert list(adaptive.covers(0)) == [0, 1, 2, 3] and adaptive.covers(20).stop == 81
    still = Resample(size=(2, 2), group=1)
    assert still.framewise and still.encode(torch.ones(1, 5, 2, 2, 3)).shape == (1, 5, 2, 2, 3)


def test_decoding_repeats_frames_and_gives_the_grid() -> None:
    for settings in ({}, {"time": "pick"}, {"time": "adaptive", "frames": 9}):
        codec = Resample(size=(4, 6), grid=(8, 12), **settings)
        assert codec.raw_shape((3, 4, 6, 2)) == (9, 8, 12, 2) and isinstance(codec, Codec)
        level = torch.arange(3.0).reshape(1, 3, 1, 1, 1).expand(1, 3, 4, 6, 2)
        back = codec.decode(level)
        assert back.shape == (1, 9, 8, 12, 2)
        if not settings.get("frames"):
            assert back[0, :, 0, 0, 0].tolist() == [0, 1, 1, 1, 1, 2, 2, 2, 2]
            torch.testing.assert_close(codec.encode(back), level)


def test_samples_that_lack_it() -> None:
    chain = Chain(fitted(), Resample(size=(8, 12)))
    assert chain.encode(torch.zeros(0, 9, 1, 1, 1)).shape == (0, 3, 8, 12, 5)
    stored = Chain(Projection(components=5).fit(Column(lambda: iter(()), fitted())), Resample(size=(8, 12)))
    assert stored.encode(torch.zeros(0, 9, 1, 1, 5)).shape == (0, 3, 8, 12, 5)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Projection(scale="white"), "unknown scale of a projection 'white'"),
        (lambda: Projection(components=0), "at least 1 and 2 are needed"),
        (
            lambda: Projection().encode(torch.zeros(1, 1, 2, 2, 24)),
            r"fit\(arrays\), or recipe.fit\(dataset\), comes first",
        ),
        (lambda: Projection(components=30).fit(CLIPS), "cannot be projected to 30 components"),
        (lambda: Projection().fit([]), "0 vectors of 0 channels"),
        (lambda: Projection().fit([CLIPS[0], CLIPS[0][..., :9]]), "features of width 9, those before them 24"),
        (lambda: Projection().fit([CLIPS[0] * np.nan]), "dimension 0 is nan in frame 0"),
        (lambda: fitted().encode(torch.zeros(1, 1, 2, 2, 9)), "got features of width 9"),
        (lambda: fitted().raw_shape((3, 4, 6, 8)), "makes 5 channels; the modality has shape"),
        (lambda: Resample(size=(2, 2), time="adaptive"), "frames is the length with 'adaptive' alone"),
        (lambda: Resample(size=(2, 0)), "are at least 1"),
        (lambda: Resample(size=(2, 2), space="cubic"), "unknown space of resampling 'cubic'"),
        (lambda: Resample(size=(2, 2)).encode(torch.zeros(1, 8, 2, 2, 1)), r"takes 1 \+ 4 k frames, got 8"),
        (lambda: Resample(size=(2, 2), grid=(3, 3)).encode(torch.zeros(1, 5, 2, 2, 1)), r"takes maps of \(3, 3\)"),
        (lambda: Resample(size=(2, 2)).raw_shape((3, 4, 4, 8)), "makes maps of 2 x 2"),
    ],
)
def test_mistakes(make, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()
