"""Our Wan beside diffusers' `WanTransformer3DModel`, with the same random weights: outputs and gradients."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch.nn.functional import layer_norm, rms_norm

from polyclock import Condition, DiT, Joint, Layout, Local, Modality, Stream
from polyclock.backbones.wan import SIZES, Wan
from polyclock.encoders import Vector
from polyclock.nn.attention import Memory
from polyclock.nn.block import Run
from polyclock.nn.fused import modulated, turned
from polyclock.nn.wan_block import modulate

pytest.importorskip("diffusers")
from wan_pair import fill, gradient_gap, of_theirs, ours, pair, recipe, theirs, values  # noqa: E402

HEADS = [(2, 12), (3, 10), (1, 128), (2, 128)]  # heads, and numbers in one; Wan's have 128


@pytest.mark.parametrize(("heads", "head"), HEADS)
@pytest.mark.parametrize("size", [(3, 6, 10), (1, 2, 4), (5, 4, 6)], ids=str)
def test_output_and_gradients_are_theirs(heads: int, head: int, size: tuple[int, int, int]) -> None:
    network, model = pair(heads, head)
    x, text = values(*size)
    t = torch.tensor([0.3, 0.875])
    out, expected = ours(model, x, t[:, None].expand(-1, size[0]), text), of_theirs(network, x, 1000 * t, text)
    torch.testing.assert_close(out, expected, atol=1e-5, rtol=0)
    weight = torch.randn_like(out)
    (out * weight).sum().backward()
    (expected * weight).sum().backward()
    gap, name = gradient_gap(model, network)
    assert gap < 1e-5, name


@pytest.mark.parametrize(("heads", "head"), [(2, 12), (1, 128)])
def test_a_time_for_each_frame_is_their_time_for_each_token(heads: int, head: int) -> None:
    network, model = pair(heads, head)
    x, text = values()
    t = torch.tensor([[0.0, 0.3, 0.3], [0.875, 0.1, 0.8]])
    out = ours(model, x, t, text)
    expected = of_theirs(network, x, (1000 * t).repeat_interleave(3 * 5, 1), text)
    torch.testing.assert_close(out, expected, atol=1e-5, rtol=0)
    out.square().sum().backward()
    expected.square().sum().backward()
    gap, name = gradient_gap(model, network)
    assert gap < 1e-5, name
    same = of_theirs(network, x, 1000 * t[:, 1], text)
    assert (expected - same).abs().max() > 1e-2, "the times of the frames must matter"


def test_without_the_norm_before_the_context() -> None:
    network, model = pair(2, 12, cross_norm=False)
    x, text = values()
    t = torch.tensor([0.2, 0.6])
    out, expected = ours(model, x, t[:, None].expand(-1, 3), text), of_theirs(network, x, 1000 * t, text)
    torch.testing.assert_close(out, expected, atol=1e-5, rtol=0)


def test_in_bf16_as_near_to_the_exact_answer_as_theirs() -> None:
    network, model = pair(1, 128)
    x, text = values()
    t = torch.tensor([0.25, 0.5])
    exact = of_theirs(network, x, 1000 * t, text)
    out = ours(model.to(torch.bfloat16), x, t[:, None].expand(-1, 3), text)
    half = of_theirs(network.to(torch.bfloat16), x.bfloat16(), 1000 * t, text.bfloat16())
    assert out.dtype == torch.float32 and half.dtype == torch.bfloat16
    assert 0 < (out - exact).abs().mean() < 1.5 * (half - exact).abs().mean()


def test_what_is_not_wanted_is_left_out_of_the_last_block() -> None:
    """Two streams: the wanted one's answer is the same, and a kept memory of the other gives it too."""
    one = recipe(2, 12)
    video = one.modalities["video"]
    two = {"video": video, "depth": video}
    layout = Layout(Stream("video"), Stream("depth"), sees={"video": ("video",)})
    own = replace(one.modulation, table=("depth",), last=("depth",))
    model = replace(one, modalities=two, layout=layout, modulation=own).build()
    fill(model, theirs(2, 12))
    with torch.no_grad():
        for part in (model.embed["depth"], model.modulation.table, model.modulation.last):
            for p in part.parameters():
                p.normal_()
    x, text = values()
    given = model.conditioner({"text": text}, {"text": torch.arange(2)}, 2)
    both, t = {"video": x, "depth": x.flip(0)}, torch.full((2, 3), 0.4)
    times = {"video": torch.zeros(2, 3), "depth": t}
    whole = model(both, times, given)["depth"]
    torch.testing.assert_close(model(both, times, given, wanted=["depth"])["depth"], whole, atol=1e-5, rtol=0)
    memory = Memory()
    model({"video": x}, {"video": times["video"]}, given, memory=memory)
    memory.sealed = True
    later = model({"depth": both["depth"]}, {"depth": t}, given, memory=memory, wanted=["depth"])["depth"]
    torch.testing.assert_close(later, whole, atol=1e-5, rtol=0)


def test_a_table_of_a_modality_is_added_in_every_block_and_last_vectors_at_the_end() -> None:
    network, one = theirs(2, 12), recipe(2, 12)
    model = replace(one, modulation=replace(one.modulation, table=True, last=True, label=True)).build()
    fill(model, network)
    x, text = values()
    t = torch.full((2, 3), 0.3)
    torch.testing.assert_close(ours(model, x, t, text), of_theirs(network, x, 1000 * t[:, 0], text), atol=1e-5, rtol=0)
    with torch.no_grad():
        for own in (model.modulation.table, model.modulation.last):
            own["video"].normal_()
        for i, block in enumerate(network.blocks):
            block.scale_shift_table += model.modulation.table["video"][i].unflatten(-1, (6, -1))
        network.scale_shift_table += model.modulation.last["video"].unflatten(-1, (2, -1))
    torch.testing.assert_close(ours(model, x, t, text), of_theirs(network, x, 1000 * t[:, 0], text), atol=1e-5, rtol=0)


def test_numbers_beside_the_vectors() -> None:
    """They are part of the map of the time, and silent at the start."""
    one = recipe(2, 12)
    state = Condition(encoder=Vector(width=5), route="beside", shape=(2, 3), required=True)
    model = replace(one, conditions={**one.conditions, "state": state}).build()
    with torch.no_grad():
        model.backbone.time.linear.weight.normal_(std=0.1)
    x, text = values()
    every = torch.arange(2)
    rows = {"text": every, "state": every}

    def answer(numbers: torch.Tensor) -> torch.Tensor:
        given = model.conditioner({"text": text, "state": numbers}, rows, 2)
        first = model({"video": x}, {"video": torch.full((2, 3), 0.3)}, given)["video"]
        prepared = model({"video": x}, {"video": torch.full((2, 3), 0.3)}, model.prepared(given))["video"]
        torch.testing.assert_close(first, prepared)
        return first

    a, b = torch.randn(2, 2, 3), torch.randn(2, 2, 3)
    assert torch.equal(answer(a), answer(b))
    with torch.no_grad():
        model.backbone.time.beside.weight.normal_()
    assert (answer(a) - answer(b)).abs().max() > 1e-3


def test_modulation_of_several_runs_by_views() -> None:
    h = torch.randn(2, 2 + 3 * 4, 8)
    runs = [Run(0, 2, torch.zeros(2, 1, 8)), Run(2, 14, torch.zeros(2, 3, 8))]
    shifts, scales = ([torch.randn(2, frames, 1, 8) for frames in (1, 3)] for _ in range(2))
    out = modulate(h, runs, shifts, scales, 1e-6)
    wide = [torch.cat([part[:, :, 0].repeat_interleave(n, 1) for part, n in zip(parts, (2, 4), strict=True)], 1)
            for parts in (shifts, scales)]  # fmt: skip
    torch.testing.assert_close(out, layer_norm(h, (8,), eps=1e-6) * wide[1] + wide[0])


def test_turning_keeps_lengths_and_depends_on_distance_alone() -> None:
    angle, gain = torch.randn(5, 1, 4), torch.rand(16)
    q, k = torch.randn(1, 5, 16), torch.randn(1, 5, 16)

    def turn(x: torch.Tensor, by: torch.Tensor | None) -> torch.Tensor:
        return turned(x, gain, None if by is None else torch.polar(torch.ones_like(by), by), 2, 1e-6)

    normed = rms_norm(q, (16,), gain, 1e-6).unflatten(-1, (2, 8))
    torch.testing.assert_close(turn(q, None), normed)
    torch.testing.assert_close(turn(q, angle).norm(dim=-1), normed.norm(dim=-1))
    a, b, c, d = turn(q, angle), turn(k, angle), turn(q, angle + 0.7), turn(k, angle + 0.7)
    torch.testing.assert_close(a @ b.mT, c @ d.mT)


def test_gradients_of_what_is_done_in_one_go() -> None:
    """Against finite differences, in double precision."""

    def double(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, dtype=torch.float64, requires_grad=True)

    torch.manual_seed(0)
    angle = torch.randn(3, 1, 2, dtype=torch.float64)
    turn = torch.polar(torch.ones_like(angle), angle)
    h, shift, scale = double(2, 3, 2, 8), double(2, 3, 1, 8), double(2, 3, 1, 8)
    assert torch.autograd.gradcheck(lambda *a: modulated(*a, 1e-6), (h, shift, scale))
    x, gain = double(2, 3, 8), double(8)
    for way in (turn, None):
        assert torch.autograd.gradcheck(lambda x, gain: turned(x, gain, way, 2, 1e-6), (x, gain))  # noqa: B023


def test_sizes_and_mistakes() -> None:
    assert set(SIZES) >= {"1.3B", "5B", "14B", "tiny"} and Wan(size="1.3B").numbers == (1536, 30, 12)
    assert Wan(size="14B").hidden == 13824 and Wan(size="5B", depth=2).numbers == (3072, 2, 24)
    with pytest.raises(ValueError, match="unknown Wan size 'huge'"):
        Wan(size="huge")
    with pytest.raises(ValueError, match="even multiple of its 5 heads"):
        Wan(heads=5)
    one = recipe(2, 12)
    with pytest.raises(ValueError, match="c must have that width, not 48"):
        replace(one, modulation=Joint(width=48)).build()
    assert replace(one, backbone=DiT(width=24, depth=1, heads=2)).build() is not None
    assert isinstance(one.modulation, Local) and isinstance(one.modalities["video"], Modality)
