"""Four sources as channels of one Wan transformer: silent at the start, there and back, as diffusers computes it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from polyclock.interop import expanded, wan, wan_lora
from polyclock.interop.wan_folder import read_config
from polyclock.model import WorldModel

diffusers = pytest.importorskip("diffusers")
from wan_folders import CHANNELS, WORDS, transformer  # noqa: E402

SOURCES = {"video": CHANNELS, "flow": CHANNELS, "semantics": 2, "geometry": 3}
TOTAL = sum(SOURCES.values())


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> tuple[nn.Module, Path]:
    network, folder = transformer(), tmp_path_factory.mktemp("base")
    network.save_pretrained(folder)
    return network, folder


def joined(folder: Path) -> WorldModel:
    """A network of video alone with three sources that join it."""
    model = wan.empty(expanded.recipe_of(folder, SOURCES, frames=3))
    wan.load_weights(model, folder)
    return model.eval()


def awake(model: WorldModel) -> WorldModel:
    """The same after some training: nothing is zero, and the biases of all sources differ."""
    torch.manual_seed(4)
    with torch.no_grad():
        for n in SOURCES:
            for part in (model.embed[n], model.head[n]):
                part.weight.add_(0.1 * torch.randn_like(part.weight))
                part.bias.add_(0.1 * torch.randn_like(part.bias))
    return model


def values(seed: int = 0) -> tuple[dict[str, Tensor], Tensor]:
    torch.manual_seed(seed)
    return {n: torch.randn(2, 3, 4, 6, c) for n, c in SOURCES.items()}, torch.randn(2, 512, WORDS)


@torch.no_grad()
def ours(model: WorldModel, x: dict[str, Tensor], words: Tensor, time: float) -> dict[str, Tensor]:
    given = model.conditioner({"text": words}, {"text": torch.arange(len(words))}, len(words))
    return model(x, {n: torch.full((2, 3), time) for n in x}, given)


@torch.no_grad()
def theirs(network: nn.Module, x: dict[str, Tensor], words: Tensor, time: float) -> Tensor:
    """(B, T, H, W, C) of all channels."""
    stacked = torch.cat(list(x.values()), -1).movedim(-1, 1)
    return network(stacked, torch.full((2,), 1000 * time), words)[0].movedim(1, -1)


def test_at_the_start_the_video_is_the_base_networks_to_the_bit(base: tuple[nn.Module, Path]) -> None:
    network, folder = base
    model, alone = joined(folder), wan.load(folder, frames=3)
    for seed, time in ((0, 0.7), (1, 0.25), (2, 1.0)):
        x, words = values(seed)
        wild = x | {n: 100 * v for n, v in x.items() if n != "video"}
        plain = ours(alone, {"video": x["video"]}, words, time)["video"]
        for features in (x, wild):
            out = ours(model, features, words, time)
            assert torch.equal(out["video"], plain)
            assert not any(out[n].any() for n in SOURCES if n != "video")
        torch.testing.assert_close(plain, theirs(network, {"video": x["video"]}, words, time), atol=1e-5, rtol=0)


def test_diffusers_evaluates_what_is_written_equally(base: tuple[nn.Module, Path], tmp_path: Path) -> None:
    _, folder = base
    model = awake(joined(folder))
    expanded.save(model, tmp_path / "out")
    network = diffusers.WanTransformer3DModel.from_pretrained(tmp_path / "out")
    assert network.patch_embedding.weight.shape == (64, TOTAL, 1, 2, 2)
    assert network.proj_out.weight.shape == (4 * TOTAL, 64)
    assert network.config.in_channels == network.config.out_channels == TOTAL
    x, words = values()
    expected = theirs(network.eval(), x, words, 0.6).split(list(SOURCES.values()), -1)
    out = ours(model, x, words, 0.6)
    for n, v in zip(SOURCES, expected, strict=True):
        torch.testing.assert_close(out[n], v, atol=1e-5, rtol=1e-5)
    with safe_open(tmp_path / "out" / "diffusion_pytorch_model.safetensors", "pt") as file:
        order = json.loads(file.metadata()["sources"])
    assert list(order.items()) == list(SOURCES.items())


def test_the_expanded_ends_by_hand(base: tuple[nn.Module, Path]) -> None:
    """The recipe of the spec: columns beside the old ones, rows between them, everything new zero."""
    network, folder = base
    ends = expanded.ends_of(joined(folder), tuple(SOURCES))
    enter = torch.zeros(64, TOTAL, 1, 2, 2)
    enter[:, :CHANNELS] = network.patch_embedding.weight
    leave = torch.zeros(4, TOTAL, 64)
    leave[:, :CHANNELS] = network.proj_out.weight.view(4, CHANNELS, 64)
    bias = torch.zeros(4, TOTAL)
    bias[:, :CHANNELS] = network.proj_out.bias.view(4, CHANNELS)
    for name, value in zip(expanded.ENDS, (enter, network.patch_embedding.bias, leave.flatten(0, 1), bias.flatten()),
                           strict=True):  # fmt: skip
        assert torch.equal(ends[name], value), name


def test_there_and_back(base: tuple[nn.Module, Path], tmp_path: Path) -> None:
    _, folder = base
    model = awake(joined(folder))
    expanded.save(model, tmp_path / "a", shard_size="60KB")
    again = expanded.load(tmp_path / "a", frames=3)
    assert list(again.modalities) == list(SOURCES) and again.modalities["flow"].clock == "video"
    x, words = values()
    first, second = ours(model, x, words, 0.4), ours(again, x, words, 0.4)
    for n in SOURCES:
        torch.testing.assert_close(second[n], first[n], atol=1e-5, rtol=1e-5)
    expanded.save(again, tmp_path / "b")
    assert read_config(tmp_path / "a") == read_config(tmp_path / "b")
    whole = {n: v for f in (tmp_path / "a").glob("*.safetensors") for n, v in load_file(f).items()}
    for n, v in load_file(tmp_path / "b" / "diffusion_pytorch_model.safetensors").items():
        assert torch.equal(v, whole[n]), n


def test_folders_of_others_and_what_does_not_fit(base: tuple[nn.Module, Path], tmp_path: Path) -> None:
    network, folder = base
    with pytest.raises(ValueError, match=r"has 4 channels, and its sources are said to have \{\}"):
        expanded.load(folder)
    other = transformer(TOTAL)
    other.save_pretrained(tmp_path / "other")
    for note in ("[", "5", '{"video": "many"}'):
        state = load_file(tmp_path / "other" / "diffusion_pytorch_model.safetensors")
        (tmp_path / "noted").mkdir(exist_ok=True)
        save_file(state, tmp_path / "noted" / "diffusion_pytorch_model.safetensors", {"sources": note})
        with pytest.raises(ValueError, match=r"call their sources .*, not \{name: channels\}"):
            expanded.sources_of(tmp_path / "noted")
    model = expanded.load(tmp_path / "other", sources=SOURCES, frames=3)
    x, words = values()
    expected = theirs(other, x, words, 0.3).split(list(SOURCES.values()), -1)
    out = ours(model, x, words, 0.3)
    assert all(torch.allclose(out[n], v, atol=1e-5) for n, v in zip(SOURCES, expected, strict=True))
    expanded.save(model, tmp_path / "full")
    with pytest.raises(ValueError, match="is not empty"):
        expanded.save(model, tmp_path / "full")
    apart = replace(model.recipe, modalities={
        n: replace(m, clock=None) for n, m in model.recipe.modalities.items()
    }).build()  # fmt: skip
    with pytest.raises(ValueError, match="a source follows another clock than the video"):
        expanded.save(apart, tmp_path / "b")
    marked = replace(model.recipe, registers=2).build()
    with pytest.raises(ValueError, match="weights that a Wan transformer has not, such as"):
        expanded.save(marked, tmp_path / "b")
    with pytest.raises(ValueError, match="need .64, 13, 1, 2, 2."):
        expanded.put_ends(model, tuple(SOURCES), expanded.ends_of(wan.load(folder, frames=3), ("video",)))


# LoRA files.


def learnt(folder: Path, rank: int = 3) -> WorldModel:
    """A model with low-rank changes of every linear map in its blocks, fused ones included."""
    model = awake(joined(folder))
    torch.manual_seed(5)
    with torch.no_grad():
        for name, p in model.backbone.blocks.named_parameters():
            if p.ndim == 2 and name.endswith("weight") and "table" not in name:
                down = 0.1 * torch.randn(rank, p.shape[1])
                p.add_(0.1 * torch.randn(p.shape[0], rank) @ down)
    return model


def test_changes_go_to_diffusers_and_back(base: tuple[nn.Module, Path], tmp_path: Path) -> None:
    pytest.importorskip("peft")
    _, folder = base
    model = learnt(folder)
    assert wan_lora.save(model, folder, tmp_path, rank=3) < 1e-4
    found = load_file(tmp_path / wan_lora.FILE)
    assert found["transformer.blocks.0.attn1.to_q.lora_A.weight"].shape == (3, 64)
    assert found["transformer.blocks.2.ffn.net.2.lora_B.weight"].shape == (64, 3)
    assert len(found) == 2 * 3 * 10 and not any("proj_out" in n for n in found)
    # In diffusers: a network with the expanded ends, and the changes as an adapter.
    network = transformer(TOTAL)
    expanded.save(joined(folder), tmp_path / "start")
    network = diffusers.WanTransformer3DModel.from_pretrained(tmp_path / "start").eval()
    network.load_state_dict(load_file(tmp_path / wan_lora.BESIDE), strict=False)
    network.load_lora_adapter(found, prefix="transformer")
    x, words = values()
    expected = theirs(network, x, words, 0.5).split(list(SOURCES.values()), -1)
    out = ours(model, x, words, 0.5)
    for n, v in zip(SOURCES, expected, strict=True):
        torch.testing.assert_close(out[n], v, atol=3e-5, rtol=1e-4)
    again = joined(folder)
    wan_lora.load(again, tmp_path)
    for name, p in model.backbone.named_parameters():
        torch.testing.assert_close(again.backbone.get_parameter(name), p, atol=2e-6, rtol=1e-5)
    back = ours(again, x, words, 0.5)
    assert all(torch.allclose(back[n], out[n], atol=3e-5) for n in SOURCES)


def test_changes_that_diffusers_wrote(base: tuple[nn.Module, Path], tmp_path: Path) -> None:
    """An adapter of peft with an alpha of its own, saved as their training scripts do."""
    peft = pytest.importorskip("peft")
    from diffusers import WanPipeline
    from peft.utils import get_peft_model_state_dict

    network = transformer()
    config = peft.LoraConfig(r=4, lora_alpha=8, target_modules=["to_q", "to_k", "to_v", "to_out.0"])
    network.add_adapter(config)
    torch.manual_seed(6)
    with torch.no_grad():
        for n, p in network.named_parameters():
            if "lora_" in n:
                p.copy_(0.1 * torch.randn_like(p))
    layers = get_peft_model_state_dict(network)
    about = {"r": 4, "lora_alpha": 8}
    WanPipeline.save_lora_weights(tmp_path, transformer_lora_layers=layers, transformer_lora_adapter_metadata=about)
    model = wan.load(base[1], frames=3)
    wan_lora.load(model, tmp_path)
    x, words = values()
    out = ours(model, {"video": x["video"]}, words, 0.5)["video"]
    expected = theirs(network, {"video": x["video"]}, words, 0.5)
    torch.testing.assert_close(out, expected, atol=3e-5, rtol=1e-4)
    plain = wan.load(base[1], frames=3)
    assert not torch.allclose(ours(plain, {"video": x["video"]}, words, 0.5)["video"], expected, atol=1e-2)
    wan_lora.load(plain, tmp_path / wan_lora.FILE, scale=0.0)
    assert torch.equal(plain.backbone.table, wan.load(base[1], frames=3).backbone.table)


def test_changes_that_no_file_can_hold(base: tuple[nn.Module, Path], tmp_path: Path) -> None:
    _, folder = base
    with pytest.raises(ValueError, match="there is no change to write"):
        wan_lora.save(joined(folder), folder, tmp_path, rank=2)
    with pytest.raises(ValueError, match=r"rank=2 leaves \d+% of the change of 'blocks"):
        wan_lora.save(learnt(folder), folder, tmp_path, rank=2)
    model = learnt(folder)
    with torch.no_grad():
        model.backbone.table.add_(1.0)
    with pytest.raises(ValueError, match="'scale_shift_table' is another than in"):
        wan_lora.save(model, folder, tmp_path, rank=3)
    odd = {"lora_A": torch.zeros(2, 64), "lora_B": torch.zeros(64, 2)}
    odd = {f"transformer.blocks.0.nothing.{n}.weight": v for n, v in odd.items()}
    save_file(odd, tmp_path / "odd.safetensors")
    with pytest.raises(ValueError, match=r"unknown map in .* 'blocks\.0\.nothing'"):
        wan_lora.load(model, tmp_path / "odd.safetensors")
    save_file({"transformer.blocks.0.attn1.to_q.lora_A.weight": torch.zeros(2, 64)}, tmp_path / "half.safetensors")
    with pytest.raises(ValueError, match="but not 'transformer.blocks.0.attn1.to_q.lora_B.weight'"):
        wan_lora.load(model, tmp_path / "half.safetensors")


def test_a_file_that_is_refused_changes_nothing(base: tuple[nn.Module, Path], tmp_path: Path) -> None:
    at, model = "transformer.blocks.0.attn1.to_q.lora_", joined(base[1])
    before = {n: v.clone() for n, v in model.state_dict().items()}
    whole = {f"{at}A.weight": torch.ones(2, 64), f"{at}B.weight": torch.ones(64, 2)}
    for change, about, message in (
        ({"transformer.blocks.1.attn1.to_q.lora_B.weight": torch.ones(64, 2)}, {}, "but not .*lora_A.weight'"),
        ({f"{at}B.weight": torch.ones(64, 3)}, {}, r"are \(64, 3\) and \(2, 64\)"),
        ({f"{at}B.weight": torch.ones(64)}, {}, r"are \(64,\) and \(2, 64\)"),
        ({}, {"transformer.use_rslora": True}, "use_rslora=True; possible: plain LoRA"),
        ({}, {"transformer.alpha_pattern": {"to_q": 8}}, "alpha_pattern="),
        ({}, [1], "damaged header"),
    ):
        save_file(whole | change, tmp_path / "odd.safetensors", {"lora_adapter_metadata": json.dumps(about)})
        with pytest.raises(ValueError, match=message):
            wan_lora.load(model, tmp_path / "odd.safetensors")
    save_file({"proj_out.bias": torch.zeros(1)}, tmp_path / wan_lora.BESIDE)
    save_file(whole, tmp_path / wan_lora.FILE)
    with pytest.raises(ValueError, match="'patch_embedding.weight' is nothing; .* need .64, 13, 1, 2, 2."):
        wan_lora.load(model, tmp_path)
    assert all(torch.equal(v, before[n]) for n, v in model.state_dict().items())
