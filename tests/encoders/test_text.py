"""Frozen text encoders on tiny random models written in transformers' own format."""

from __future__ import annotations

import copy
import json
from pathlib import Path

import pytest
import torch

from polyclock.encoders import T5, CLIPText
from polyclock.encoders import text as text_file

transformers = pytest.importorskip("transformers")

LETTERS = "abcdefghijklmnopqrstuvwxyz"
TEXTS = ["open the drawer", "", "push", "open the drawer"]


@pytest.fixture(scope="module")
def t5(tmp_path_factory: pytest.TempPathFactory) -> str:
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("t5")
    pieces = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("\u2581", -2.0), *((c, -3.0) for c in LETTERS)]
    transformers.T5Tokenizer(vocab=pieces, extra_ids=0).save_pretrained(folder)
    config = transformers.T5Config(
        vocab_size=len(pieces), d_model=12, d_kv=6, d_ff=24, num_layers=2, num_heads=2, is_encoder_decoder=False
    )
    transformers.T5EncoderModel(config).save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    """Folders of the model and of the tokenizer, apart as in a diffusers pipeline."""
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("clip")
    words = ["<|startoftext|>", "<|endoftext|>", *LETTERS, *(c + "</w>" for c in LETTERS)]
    tokenizer = transformers.CLIPTokenizer(vocab={w: i for i, w in enumerate(words)}, merges=[])
    tokenizer.save_pretrained(folder / "tokenizer")
    config = transformers.CLIPTextConfig(
        vocab_size=len(words),
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=12,
        bos_token_id=0,
        eos_token_id=1,
        pad_token_id=1,
    )
    transformers.CLIPTextModel(config).save_pretrained(folder / "text_encoder")
    return str(folder / "text_encoder"), str(folder / "tokenizer")


def test_features_are_those_of_the_model(t5: str, clip: tuple[str, str]) -> None:
    ids = {"push": [3, 19, 24, 22, 11, 1], "": [1]}
    module = transformers.T5EncoderModel.from_pretrained(t5)
    net = T5(folder=t5, width=8).build(())
    for text, row in ids.items():
        with torch.no_grad():
            expected = net.out(module(input_ids=torch.tensor([row])).last_hidden_state)
        torch.testing.assert_close(net([text])[0], expected)
    module = transformers.CLIPTextModel.from_pretrained(clip[0])
    net = CLIPText(folder=clip[0], tokenizer=clip[1], width=8).build(())
    row = [0, 2 + LETTERS.index("u"), 2 + 26 + LETTERS.index("p"), 1]
    with torch.no_grad():
        expected = net.out(module(input_ids=torch.tensor([row])).last_hidden_state)
    torch.testing.assert_close(net(["up"])[0], expected)


def test_a_batch_equals_its_texts_alone(t5: str, clip: tuple[str, str]) -> None:
    for spec in (T5(folder=t5, width=8), CLIPText(folder=clip[0], tokenizer=clip[1], width=8)):
        net = spec.build(())
        features, mask = net(TEXTS)
        assert features.shape == (4, int(mask.sum(1).max()), 8) and mask[:, 0].all() and not mask.all()
        assert torch.equal(features[0], features[3]) and (features[~mask] == 0).all()
        for text, row, real in zip(TEXTS, features, mask, strict=True):
            torch.testing.assert_close(row[real], net([text])[0][0], atol=1e-6, rtol=0)


def test_only_the_linear_is_trained_and_saved(t5: str) -> None:
    net = T5(folder=t5, width=8).build(())
    net(TEXTS)[0].sum().backward()
    assert list(net.state_dict()) == ["out.weight", "out.bias"] and len(list(net.parameters())) == 2
    assert net.out.weight.grad.abs().sum() > 0
    assert copy.deepcopy(net)(TEXTS)[0].equal(net(TEXTS)[0])


def test_features_are_kept_for_each_text(t5: str, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = T5(folder=t5, width=8, max_length=9)
    of_one = text_file.Reader(spec, torch.device("cpu")).read("a").nbytes
    monkeypatch.setattr(text_file, "KEPT", 2 * of_one)
    net, runs = spec.build(()), []
    read = text_file.Reader.read
    monkeypatch.setattr(text_file.Reader, "read", lambda self, text: (runs.append(text), read(self, text))[1])
    for texts in (["a", "b"], ["b", "a", "a"], ["c"], ["b"], ["a"]):
        net(texts)
    assert runs == ["a", "b", "c", "b", "a"], "what was used longest ago is let go"


def test_features_first_asked_for_in_inference_mode_can_be_trained_on(t5: str) -> None:
    spec = T5(folder=t5, width=8, max_length=11)
    net = spec.build(())
    with torch.inference_mode(), torch.autocast("cpu", dtype=torch.bfloat16):
        net(["hello"])
    net(["hello"])[0].sum().backward()
    fresh = text_file.Reader(spec, torch.device("cpu"))
    assert torch.equal(fresh.read("hello"), text_file.library(spec, "cpu").features("hello"))


def test_pool_cut_and_empty_batch(t5: str, clip: tuple[str, str]) -> None:
    spec = T5(folder=t5, width=8, pool=True)
    net = spec.build(())
    features, mask = net(TEXTS)
    assert features.shape == (4, 1, 8) and mask.all() and spec.length == net.length == 1
    whole, real = T5(folder=t5, width=8).build(())(TEXTS)
    assert whole.shape[1] == 17 and real.sum(1).tolist() == [17, 1, 6, 17]
    assert T5(folder=t5, max_length=5).build(())(["a" * 50])[0].shape[1] == 5
    # CLIP has no more than 12 places, whatever is asked for.
    assert CLIPText(folder=clip[0], tokenizer=clip[1]).build(())(["a" * 50])[0].shape[1] == 12
    empty, none = net([])
    empty.sum().backward()
    assert empty.shape == (0, 1, 8) and none.shape == (0, 1) and not net.out.weight.grad.any()


def test_mistakes(t5: str, clip: tuple[str, str], tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="config.json does not exist"):
        T5(folder=str(tmp_path / "nowhere")).build(())
    with pytest.raises(ValueError, match="describes 'clip_text_model'; possible here: t5, mt5, umt5"):
        T5(folder=clip[0]).build(())
    with pytest.raises(ValueError, match="max_length=1"):
        T5(folder=t5, max_length=1)
    with pytest.raises(ValueError, match="holds none of tokenizer.json"):
        CLIPText(folder=clip[0]).build(())(["a"])
    (tmp_path / "config.json").write_text(json.dumps(json.loads((Path(t5) / "config.json").read_text())))
    (tmp_path / "pytorch_model.bin").write_bytes(b"not read at all")
    with pytest.raises(ValueError, match="no readable safetensors"):
        T5(folder=str(tmp_path), tokenizer=t5).build(())(["a"])


def test_filled_up_with_zeros_that_are_looked_at(t5: str) -> None:
    """As Wan was trained: the features of the text itself, then zeros up to the full length, none of them masked."""
    module = transformers.T5EncoderModel.from_pretrained(t5)
    spec = T5(folder=t5, width=0, max_length=9, fill=True)
    net = spec.build(())
    features, mask = net(["push", ""])
    with torch.no_grad():
        expected = module(input_ids=torch.tensor([[3, 19, 24, 22, 11, 1]])).last_hidden_state[0]
    torch.testing.assert_close(features[0, :6], expected)
    assert not features[0, 6:].any() and not features[1, 1:].any() and features[1, 0].any()
    assert mask.all() and mask.shape == (2, 9) and spec.length == net.length == 9 and net.width == 12
    assert not list(net.parameters()) and not net.state_dict()
    with pytest.raises(ValueError, match="choose one"):
        T5(folder=t5, pool=True, fill=True)


def test_bf16_of_the_frozen_model(t5: str) -> None:
    spec = T5(folder=t5, width=0, precision="bf16")
    features, _ = spec.build(())(["push"])
    exact, _ = T5(folder=t5, width=0).build(())(["push"])
    assert features.dtype == torch.float32 and 0 < (features - exact).abs().max() < 0.05
    with pytest.raises(ValueError, match="unknown precision 'fp8'"):
        T5(folder=t5, precision="fp8")


def test_features_on_disk_need_no_frozen_model(t5: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = T5(folder=t5, width=0, store=str(tmp_path / "texts"))
    first, _ = spec.build(())(["push", "open"])
    monkeypatch.setattr(text_file, "Reader", None)
    text_file.library.cache_clear()
    with torch.inference_mode():
        again, _ = spec.build(())(["open", "push"])
    assert torch.equal(first, again.flip(0))
    with pytest.raises(TypeError):
        spec.build(())(["a text that nobody asked about"])
    text_file.library.cache_clear()
    file = text_file.library(spec, "cpu").store.path("push")
    file.write_bytes(b"cut")
    with pytest.raises(ValueError, match="holds no features of a text"):
        spec.build(())(["push"])


def test_another_network_is_another_fingerprint(t5: str, tmp_path: Path) -> None:
    import shutil

    from safetensors.torch import load_file, save_file

    from polyclock.encoders.text_store import fingerprint

    other = tmp_path / "other"
    shutil.copytree(t5, other)
    assert fingerprint([t5], 77) == fingerprint([other], 77) != fingerprint([t5], 78)
    weights = load_file(other / "model.safetensors")
    name = next(iter(weights))
    weights[name] = weights[name] + 1e-3
    save_file(weights, other / "model.safetensors", metadata={"format": "pt"})
    assert fingerprint([t5], 77) != fingerprint([other], 77)
