"""The byte-level text encoder: padding has no influence, empty texts and empty batches work, it can learn."""

from __future__ import annotations

import pytest
import torch

from polyclock.encoders import Bytes
from polyclock.encoders.bytes import START, tokens

TEXTS = ["pick up the bottle", "", "日本語 and ümlauts", "x" * 500, "a"]


@pytest.fixture
def net() -> torch.nn.Module:
    torch.manual_seed(0)
    return Bytes(width=32, depth=2, heads=4, max_length=64).build(())


def test_a_batch_equals_its_texts_alone(net: torch.nn.Module) -> None:
    features, mask = net(TEXTS)
    assert features.shape == (5, 65, 32) and mask.sum(1).tolist() == [19, 1, 23, 65, 2]
    for text, row, real in zip(TEXTS, features, mask, strict=True):
        alone, alone_mask = net([text])
        assert alone_mask.all() and (row[~real] == 0).all()
        torch.testing.assert_close(row[real], alone[0], atol=1e-5, rtol=0)


def test_pooled_is_the_mean_over_real_tokens() -> None:
    torch.manual_seed(0)
    spec = Bytes(width=32, pool=True)
    net = spec.build(())
    features, mask = net(TEXTS)
    assert features.shape == (5, 1, 32) and mask.all() and mask.shape == (5, 1)
    assert spec.length == net.length == 1 and Bytes().length is None
    for text, row in zip(TEXTS, features, strict=True):
        torch.testing.assert_close(row, net([text])[0][0], atol=1e-5, rtol=0)


def test_texts_are_bytes_cut_at_max_length() -> None:
    assert tokens(["", "ab"], 8).tolist() == [[START, 0, 0], [START, 2 + 97, 2 + 98]]
    assert tokens(["éé"], 3).tolist() == [[START, 2 + 0xC3, 2 + 0xA9, 2 + 0xC3]]
    assert tokens(["\ud800"], 3).tolist() == [[START, 2 + ord("?")]]
    assert tokens(["abc"], 2).tolist() == tokens(["abd"], 2).tolist()


@pytest.mark.parametrize("pool", [False, True])
def test_an_empty_batch_still_gives_gradients(pool: bool) -> None:
    net = Bytes(width=16, pool=pool).build(())
    features, mask = net([])
    assert features.shape == (0, 1, 16) and mask.shape == (0, 1)
    features.sum().backward()
    assert all(p.grad is not None and not p.grad.any() for p in net.parameters())


def test_it_learns_to_tell_words_apart() -> None:
    torch.manual_seed(0)
    texts = ["open the drawer", "close the drawer", "push left", "push right"]
    net = torch.nn.ModuleDict({"text": Bytes(width=32, depth=1, pool=True).build(()), "out": torch.nn.Linear(32, 4)})
    optimizer = torch.optim.Adam(net.parameters(), 3e-3)
    for _ in range(60):
        loss = torch.nn.functional.cross_entropy(net["out"](net["text"](texts)[0][:, 0]), torch.arange(4))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss < 0.1


def test_word_order_matters(net: torch.nn.Module) -> None:
    ab, ba = net(["ab"])[0].mean(1), net(["ba"])[0].mean(1)
    assert (ab - ba).abs().max() > 1e-4


def test_mistakes() -> None:
    with pytest.raises(ValueError, match="multiple of heads"):
        Bytes(width=30, heads=4)
    with pytest.raises(ValueError, match="at least 1"):
        Bytes(max_length=0)
