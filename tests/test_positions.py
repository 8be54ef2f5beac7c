"""Where a token stands: rotation by differences, learnt places and positions, frames or seconds."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from polyclock.dice import Dice
from polyclock.layout import Layout, Stream
from polyclock.nn.embed import patchify, unpatchify
from polyclock.nn.modulation import Joint
from polyclock.nn.rope import angles, rotate
from polyclock.objective import loss
from polyclock.timesteps import Shared
from worlds import BACKBONE, MODALITIES, VIDEO, awake, batch, noisy, recipe


def test_rotation_depends_on_differences_only():
    q, k = torch.randn(1, 1, 1, 12), torch.randn(1, 1, 1, 12)

    def dot(a, b):
        turn = [angles(torch.tensor([[p, 2 * p, 1.0]]), 12, 100.0) for p in (a, b)]
        return (rotate(q, turn[0].cos(), turn[0].sin()) * rotate(k, turn[1].cos(), turn[1].sin())).sum()

    assert torch.allclose(dot(0.5, 1.75), dot(10.5, 11.75), atol=1e-4)
    assert not torch.allclose(dot(0.5, 1.75), dot(0.5, 2.75), atol=1e-3)


def test_a_stream_that_learns_its_places_tells_them_apart_and_says_what_is_always_there():
    layout = Layout(Stream("video", "depth", place=True), Stream("action"))
    plain = recipe(layout=Layout(Stream("video", "depth"), Stream("action"))).build().eval()
    model = recipe(layout=layout).build().eval()
    model.load_state_dict(plain.state_dict(), strict=False)
    x, t = noisy(model)
    assert all(torch.equal(a, b) for a, b in zip(model(x, t).values(), plain(x, t).values(), strict=True))

    ground = torch.randn(4, 2 * 2 * 3)
    model.ground["video"].data = ground
    difference = model(x, t)["video"] - plain(x, t)["video"]
    expected = unpatchify(ground.expand(3, 4, 4, 12), (4, 2, 2), (1, 2, 2))
    torch.testing.assert_close(difference, expected)

    awake(model)
    still = {n: torch.zeros_like(v) for n, v in x.items()}
    frame = model(still, t)["video"][0, 0] - expected[0, 0]
    corner, other = frame[:2, :2], frame[2:, 2:]
    assert not torch.allclose(corner, other)


def test_places_of_a_stream_of_open_size_are_refused():
    open_video = {"video": replace(VIDEO, shape=(4, None, None, 3))}
    with pytest.raises(ValueError, match="its size must be known"):
        recipe(modalities=open_video, layout=Layout(Stream("video", place=True))).build()


def shuffled(backbone, **stream):
    """Whether a model that is shown its action tokens in another order answers in that order."""
    action = {"action": replace(MODALITIES["action"], shape=(8, 2), patch=(1,))}
    layout = Layout(Stream("action", **stream))
    model = awake(recipe(modalities=action, layout=layout, modulation=Joint(), backbone=backbone).build())
    x, t = noisy(model, frames="one")
    order = torch.randperm(8, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        one, two = model(x, t)["action"], model({"action": x["action"][:, order]}, t)["action"]
    return torch.allclose(two, one[:, order], atol=1e-5)


def test_without_rotation_and_places_a_stream_has_no_order():
    still = replace(BACKBONE, rope=False)
    assert shuffled(still)
    assert not shuffled(BACKBONE)
    assert not shuffled(still, positions=True)


def test_learnt_positions_are_a_vector_for_each_token():
    modalities = {"video": VIDEO, "video.wrist": replace(VIDEO, share="video", clock="video")}
    backbone, register = replace(BACKBONE, rope=False), {"registers": 2}
    layout = Layout(Stream("video", positions=True), Stream("video.wrist", positions=True))
    model = recipe(modalities=modalities, layout=layout, backbone=backbone, **register).build()
    assert {n: tuple(p.shape) for n, p in model.position.items()} == {"video": (4, 4, 32), "video/wrist": (4, 4, 32)}
    assert not model.view, "a view's vector would say nothing that its positions do not"
    assert all(0.01 < p.std() < 0.03 for p in model.position.values())
    x, t = noisy(model)
    place = model.position["video"].detach()
    stream = model.layout.streams[0]
    tokens = model._tokens(stream, x, {n: torch.arange(3) for n in x}, model.conditioner({}, {}, 3), 3)
    assert torch.allclose(tokens, model.embed["video"](patchify(x["video"], (1, 2, 2))) + place, atol=1e-6)

    plain = recipe(
        modalities=modalities, layout=Layout(Stream("video"), Stream("video.wrist")), backbone=backbone, **register
    ).build()
    torch.nn.init.zeros_(model.position["video"])
    torch.nn.init.zeros_(model.position["video/wrist"])
    told = model.load_state_dict(plain.state_dict(), strict=False)
    assert told.unexpected_keys == ["view.video/wrist"]
    awake(plain).load_state_dict(
        {n: v for n, v in awake(model).state_dict().items() if "position" not in n}, strict=False
    )
    torch.nn.init.zeros_(model.position["video"])
    torch.nn.init.zeros_(model.position["video/wrist"])
    torch.nn.init.zeros_(plain.view["video/wrist"])
    with torch.no_grad():
        assert all(torch.equal(v, plain(x, t)[n]) for n, v in model(x, t).items())


def test_positions_need_a_known_size_and_have_gradients():
    open_video = {"video": replace(VIDEO, shape=(4, None, None, 3))}
    with pytest.raises(ValueError, match="its size must be known"):
        recipe(modalities=open_video, layout=Layout(Stream("video", positions=True))).build()
    layout = Layout(*(Stream(n, positions=True) for n in MODALITIES))
    model = recipe(layout=layout, law=Shared(), backbone=replace(BACKBONE, out=True)).build()
    loss(model, batch(model, 2, {"depth": []}), Shared(), Dice(0, 0, range(2)))[0].backward()
    assert [n for n, p in model.named_parameters() if p.grad is None] == []


def test_time_positions_count_frames_where_the_backbone_says_so():
    modalities = {"video": replace(VIDEO, rate=8.0), "slow": replace(VIDEO, rate=2.0)}
    seconds = recipe(modalities=modalities, backbone=BACKBONE).build()
    frames = recipe(modalities=modalities, backbone=replace(BACKBONE, per_second=None)).build()
    for name in modalities:
        assert frames.get_buffer(f"positions/{name}")[::4, 0].tolist() == [0, 1, 2, 3]
    assert seconds.get_buffer("positions/slow")[::4, 0].tolist() == [0, 2, 4, 6]
