"""Blocks of another width for one stream beside Wan's: by hand, and the same whichever way a call takes."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from polyclock import from_pretrained, sample, save_pretrained
from polyclock.backbones.wan import Wan
from polyclock.encoders import Bytes
from polyclock.layout import Layout, Stream
from polyclock.modality import Condition, Modality
from polyclock.model import WorldModel
from polyclock.nn.modulation import Local
from polyclock.timesteps import Independent
from worlds import VIDEO, awake, noisy, recipe

TEXT = {"text": Condition(encoder=Bytes(width=16, depth=1, heads=2), route="context", drop=0.2)}
ACTION = Modality(shape=(8, 2), patch=(2,), rate=2.0)
WIDE = Wan(width=32, depth=2, heads=2, feedforward=64)


def model(depth: int = 2, sees: dict | None = None, **experts: int) -> WorldModel:
    modalities = {"video": VIDEO, "depth": replace(VIDEO, shape=(4, 4, 4, 1)), "action": ACTION}
    layout = Layout(Stream("video", "depth"), Stream("action"), sees=sees)
    backbone = replace(WIDE, depth=depth, experts=experts)
    made = recipe(modalities=modalities, layout=layout, modulation=Local(shared=True), backbone=backbone,
                  conditions=TEXT, registers=2, law=Independent())  # fmt: skip
    return awake(made.build())


def given(of: WorldModel, size: int = 3):
    return of.conditioner({"text": ["a", "bc", "d"][:size]}, {"text": torch.arange(size)}, size)


def test_a_layer_by_hand() -> None:
    """One layer without rotary positions: queries, keys and values of both widths, one attention, each its own way."""
    from polyclock.nn.block import Context, Run

    torch.manual_seed(0)
    stack = replace(WIDE, depth=1, experts={"action": 12}).build(cross=True, vector=32)
    with torch.no_grad():
        for p in stack.parameters():
            p.normal_(0, 0.3)
    h, c, d, words = torch.randn(2, 9, 32), torch.randn(2, 1, 32), torch.randn(2, 1, 32), torch.randn(2, 5, 32)
    out = stack(
        h, [Run(0, 6, c), Run(6, 9, d, expert="action")], (None, None), torch.zeros(9, 3), None,
        [Context(0, 9, words, None)],
    )  # fmt: skip

    def norm(x: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
        return F.layer_norm(x, x.shape[-1:], eps=1e-6) * (1 + scale) + shift

    def heads(x: Tensor) -> Tensor:
        return x.unflatten(-1, (2, 16)).transpose(1, 2)

    def rms(x: Tensor, gain: Tensor) -> Tensor:
        return F.rms_norm(x, (32,), gain, 1e-6)

    expert = stack.experts["action"]
    parts = []
    for x, block, time, vector in (
        (h[:, :6], stack.blocks[0], stack.time, c),
        (expert.enter(h[:, 6:]), expert.blocks[0], expert.time, d),
    ):
        six = [v[:, :, 0] + row for v, row in zip(time(vector), block.table, strict=True)]
        a = block.attention
        q, k, v = a.qkv(norm(x, six[0], six[1])).chunk(3, -1)
        parts.append((x, block, six, heads(rms(q, a.q_norm.weight)), heads(rms(k, a.k_norm.weight)), heads(v)))
    k, v = (torch.cat([p[i] for p in parts], 2) for i in (4, 5))
    ways = []
    for x, block, six, q, _, _ in parts:
        found = torch.softmax(q @ k.transpose(-1, -2) / 4, -1) @ v
        x = x + six[2] * block.attention.out(found.transpose(1, 2).flatten(2))
        r = block.cross
        kc, vc = r.kv(words).chunk(2, -1)
        look = torch.softmax(heads(rms(r.q(block.cross_norm(x)), r.q_norm.weight))
                             @ heads(rms(kc, r.k_norm.weight)).transpose(-1, -2) / 4, -1) @ heads(vc)  # fmt: skip
        x = x + r.out(look.transpose(1, 2).flatten(2))
        wide = block.mlp[2](F.gelu(block.mlp[0](norm(x, six[3], six[4])), approximate="tanh"))
        ways.append(x + six[5] * wide)
    whole = torch.cat([ways[0], expert.leave(ways[1])], 1)
    last = torch.cat([c.expand(-1, 6, -1), d.expand(-1, 3, -1)], 1)
    expected = norm(whole, last + stack.table[0], last + stack.table[1])
    torch.testing.assert_close(out, expected, atol=1e-4, rtol=1e-4)


def test_each_attends_to_the_other_unless_it_must_not() -> None:
    for sees, watched in ((None, True), ({"video+depth": ()}, False)):
        m = model(action=12, sees=sees)
        x, t = noisy(m)
        g = given(m)
        with torch.no_grad():
            out = m(x, t, g)
            other = m({**x, "action": x["action"] + 1}, t, g)
            third = m({**x, "video": x["video"] + 1}, t, g)
        assert torch.equal(other["video"], out["video"]) is not watched
        assert not torch.allclose(third["action"], out["action"], atol=1e-3)


@pytest.mark.parametrize("wanted", [{"action"}, {"video"}, {"video", "action"}])
def test_only_what_is_wanted(wanted: set[str]) -> None:
    m = model(action=12)
    x, t = noisy(m)
    with torch.no_grad():
        whole, some = m(x, t, given(m)), m(x, t, given(m), wanted=wanted)
    for n in wanted:
        torch.testing.assert_close(some[n], whole[n], atol=1e-5, rtol=1e-4)


def test_streams_that_stay_are_computed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A policy whose pictures look at themselves alone: the same with and without a memory."""
    m = model(action=12, sees={"video+depth": ()})
    m.patterns = None
    torch.manual_seed(1)
    how = {"video": torch.randn(2, 4, 4, 4, 3), "text": ["a", "b"], "steps": 3, "decode": False}
    once = sample(m, "action | video, text", **how)["action"]
    monkeypatch.setattr("polyclock.solver.constant_streams", lambda *_: set())
    torch.testing.assert_close(sample(m, "action | video, text", **how)["action"], once, atol=1e-5, rtol=1e-4)


def test_without_the_wide_tokens_and_without_the_narrow_ones() -> None:
    m, plain = model(action=12), model()
    x, t = noisy(m)
    with torch.no_grad():
        action = m({"action": x["action"]}, {"action": t["action"]}, given(m))
        film = {n: x[n] for n in ("video", "depth")}
        plain.load_state_dict(m.state_dict(), strict=False)
        here, there = m(film, t, given(m)), plain(film, t, given(m))
    assert action["action"].shape == x["action"].shape and action["action"].isfinite().all()
    assert all(torch.equal(here[n], there[n]) for n in film)


def test_it_is_smaller_trains_and_is_saved(tmp_path) -> None:
    from polyclock import Dice, loss
    from worlds import batch

    m = model(action=12)
    narrow, wide = (sum(p.numel() for p in part.parameters()) for part in (m.backbone.experts, m.backbone.blocks))
    assert narrow < 0.6 * wide
    total, _ = loss(m, batch(m), m.recipe.law, Dice(0, 0, range(4)))
    total.backward()
    assert all(p.grad is not None for p in m.parameters())
    save_pretrained(m, tmp_path)
    x, t = noisy(m)
    again = from_pretrained(tmp_path)
    with torch.no_grad():
        assert torch.equal(again(x, t, given(again))["action"], m(x, t, given(m))["action"])


def test_faults() -> None:
    with pytest.raises(ValueError, match="must stand last in the layout, in the order video"):
        m = model(**{"video+depth": 12})
        x, t = noisy(m)
        m(x, t, given(m))
    tabled = model(action=12).recipe
    m = replace(tabled, modulation=Local(shared=True, table=True)).build()
    x, t = noisy(m)
    with pytest.raises(ValueError, match="'action' has blocks of its own, and no table"):
        m(x, t, given(m))
