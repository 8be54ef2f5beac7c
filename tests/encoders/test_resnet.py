"""The image encoder: the published network, its two sizes and poolings, uint8 and float input, empty batches."""

from __future__ import annotations

import pytest
import torch

from polyclock.encoders import ResNet


def images(b: int, frames: int, side: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (b, frames, side, side, 3), dtype=torch.uint8, generator=generator)


@pytest.mark.parametrize(
    ("size", "count"), [("18", 11_307_840), ("small", 1_292_192), ("fine", 344_224), ("mini", 344_224)]
)
def test_parameters_are_as_documented(size: str, count: int) -> None:
    net = ResNet(size=size).build((1, 64, 64, 3))
    assert sum(p.numel() for p in net.parameters()) == count
    # The body of ResNet-18 has 11,176,512 parameters, whatever the norm; what is left is our linear to the width.
    if size == "18":
        assert count - sum(p.numel() for p in net.out.parameters()) == 11_176_512


@pytest.mark.parametrize(
    ("size", "side", "cells"), [("18", 64, 4), ("18", 70, 9), ("small", 32, 16), ("fine", 64, 64), ("mini", 64, 16)]
)
def test_shapes(size: str, side: int, cells: int) -> None:
    raw = images(2, 3, side)
    mean = ResNet(size=size, width=40).build((3, side, side, 3))
    assert mean(raw).shape == (2, 3, 40) and mean.length == 3
    spec = ResNet(size=size, width=40, pool="tokens")
    net = spec.build((3, side, side, 3))
    assert net(raw).shape == (2, 3 * cells, 40) and net.length == 3 * cells and spec.length is None


def test_uint8_and_scaled_floats_agree() -> None:
    torch.manual_seed(0)
    net = ResNet(size="small").build((1, 32, 32, 3))
    raw = images(2, 1, 32)
    torch.testing.assert_close(net(raw), net(raw.float() / 255), rtol=1e-5, atol=1e-5)
    with pytest.raises(ValueError, match="floats must lie between 0 and 1; these lie between -1"):
        net(2 * raw.float() / 255 - 1)


def test_colours_are_scaled_by_those_of_imagenet() -> None:
    net, raw = ResNet(size="mini", colours="imagenet").build((1, 32, 32, 3)), images(2, 1, 32)
    seen = []
    net.stem.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    whole = net(raw)
    mean, deviation = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    expected = ((raw[:, 0].double() / 255 - mean) / deviation).movedim(-1, 1).float()
    torch.testing.assert_close(seen[0], expected, atol=1e-6, rtol=0)
    torch.testing.assert_close(net(raw.float() / 255), whole, atol=1e-5, rtol=1e-5)
    with pytest.raises(ValueError, match="red, green and blue, not 1 channels"):
        ResNet(size="mini", colours="imagenet").build((1, 32, 32, 1))(raw[..., :1])


@pytest.mark.parametrize("size", ["18", "mini"])
def test_groups_are_so_many_or_so_wide(size: str) -> None:
    """As the formula has it: each group's mean and variance over its channels and all places."""
    for spec in (ResNet(size=size, per_group=16), ResNet(size=size, groups=8)):
        norms = [m for m in spec.build((1, 32, 32, 3)).modules() if isinstance(m, torch.nn.GroupNorm)]
        assert len(norms) == (20 if size == "18" else 9)
        for norm in norms:
            assert norm.num_groups == (norm.num_channels // 16 if spec.per_group else 8)
            assert norm.eps == 1e-5 and norm.affine
    x = torch.randn(2, norms[0].num_channels, 5, 5)
    norm = ResNet(size=size, per_group=16).norm(x.shape[1])
    parts = x.unflatten(1, (-1, 16))
    mean, var = parts.mean((2, 3, 4), keepdim=True), parts.var((2, 3, 4), unbiased=False, keepdim=True)
    torch.testing.assert_close(norm(x), ((parts - mean) / (var + 1e-5).sqrt()).flatten(1, 2), atol=1e-5, rtol=1e-5)


def test_samples_and_frames_do_not_mix() -> None:
    torch.manual_seed(0)
    net = ResNet(size="small").build((2, 32, 32, 3))
    raw = images(3, 2, 32)
    whole = net(raw)
    assert whole.std() > 1e-3
    for b in range(3):
        for t in range(2):
            one = net(raw[b : b + 1, t : t + 1])
            torch.testing.assert_close(one[0, 0], whole[b, t], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("pool", ["mean", "tokens"])
def test_an_empty_batch_still_gives_gradients(pool: str) -> None:
    net = ResNet(size="small", width=16, pool=pool).build((1, 16, 16, 3))
    out = net(images(0, 1, 16))
    assert out.shape[0] == 0 and out.shape[2] == 16
    out.sum().backward()
    assert all(p.grad is not None and not p.grad.any() for p in net.parameters())


def test_it_learns_where_a_square_is() -> None:
    torch.manual_seed(0)
    raw = torch.zeros(16, 1, 16, 16, 3, dtype=torch.uint8)
    where = torch.randint(0, 12, (16, 2))
    for image, (y, x) in zip(raw, where.tolist(), strict=True):
        image[0, y : y + 4, x : x + 4] = 255
    net = ResNet(size="small", width=2, pool="mean").build((1, 16, 16, 3))
    optimizer = torch.optim.Adam(net.parameters(), 3e-3)
    target = (where - 6) / 6
    for _ in range(40):
        loss = (net(raw)[:, 0] - target).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss < 0.3 * target.var()


def test_mistakes() -> None:
    with pytest.raises(ValueError, match="possible: 18, small, fine, mini"):
        ResNet(size="50")
    with pytest.raises(ValueError, match="possible: mean, tokens"):
        ResNet(pool="max")
    with pytest.raises(ValueError, match="groups=24"):
        ResNet(groups=24)
    with pytest.raises(ValueError, match=r"per_group=64 does not divide the channels \(32, 64, 128\)"):
        ResNet(size="fine", per_group=64)
    with pytest.raises(ValueError, match="possible: half, imagenet"):
        ResNet(colours="none")
    with pytest.raises(ValueError, match="reads images"):
        ResNet().build((2, 7))
    with pytest.raises(ValueError, match="known shape"):
        ResNet(pool="tokens").build((2, None, 64, 3))
