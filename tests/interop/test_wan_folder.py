"""Folders of Wan transformers in diffusers' format: read, written, refused."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from polyclock import Layout, Modality, Stream
from polyclock.backbones.wan import SIZES, Wan
from polyclock.interop import wan
from polyclock.interop.expanded import sources_of
from polyclock.interop.wan_folder import backbone_of, bytes_of, read_config
from polyclock.pretrained import from_pretrained

diffusers = pytest.importorskip("diffusers")
from wan_folders import CHANNELS, WORDS, transformer  # noqa: E402

Folder = tuple[nn.Module, Path]


@pytest.fixture(scope="module")
def one_file(tmp_path_factory: pytest.TempPathFactory) -> Folder:
    network, folder = transformer(), tmp_path_factory.mktemp("one")
    network.save_pretrained(folder)
    return network, folder


@pytest.fixture(scope="module")
def sharded(tmp_path_factory: pytest.TempPathFactory) -> Folder:
    network, folder = transformer().to(torch.bfloat16), tmp_path_factory.mktemp("sharded")
    network.save_pretrained(folder, max_shard_size="60KB")
    assert len(list(folder.glob("*.safetensors"))) > 3
    return network, folder


def same(a: nn.Module, b: nn.Module) -> bool:
    first, second = a.state_dict(), b.state_dict()
    return first.keys() == second.keys() and all(
        torch.equal(v, second[n]) and v.dtype == second[n].dtype for n, v in first.items()
    )


def test_there_and_back_to_the_bit(one_file: Folder, tmp_path: Path) -> None:
    network, folder = one_file
    model = wan.load(folder)
    assert {p.dtype for p in model.parameters()} == {torch.float32}
    assert not any(v.is_meta for v in (*model.parameters(), *model.buffers()))
    wan.save(model, tmp_path / "back")
    assert sorted(p.name for p in (tmp_path / "back").iterdir()) == [
        "config.json", "diffusion_pytorch_model.safetensors",
    ]  # fmt: skip
    assert same(diffusers.WanTransformer3DModel.from_pretrained(tmp_path / "back"), network)
    theirs, ours = read_config(folder), read_config(tmp_path / "back")
    assert {n: v for n, v in theirs.items() if n != "_diffusers_version"} == ours


def test_in_pieces_and_in_bf16(sharded: Folder, tmp_path: Path) -> None:
    network, folder = sharded
    model = wan.load(folder)
    assert {p.dtype for p in model.parameters()} == {torch.bfloat16}
    wan.save(model, tmp_path / "back", shard_size="50KB")
    files = sorted(p.name for p in (tmp_path / "back").glob("*.safetensors"))
    assert len(files) > 4 and files[0] == f"diffusion_pytorch_model-00001-of-{len(files):05}.safetensors"
    index = json.loads((tmp_path / "back" / "diffusion_pytorch_model.safetensors.index.json").read_text())
    assert index["metadata"]["total_size"] == sum(v.numel() * 2 for v in network.state_dict().values())
    with torch.device("meta"):
        again = diffusers.WanTransformer3DModel.from_config(json.loads((tmp_path / "back" / "config.json").read_text()))
    stored = {n: v for file in files for n, v in load_file(tmp_path / "back" / file).items()}
    again.load_state_dict(stored, assign=True)
    assert same(again, network)
    whole = diffusers.WanTransformer3DModel.from_pretrained(tmp_path / "back", torch_dtype=torch.float32)
    assert same(whole, network.float())


def test_another_dtype(one_file: Folder, tmp_path: Path) -> None:
    network, folder = one_file
    assert {p.dtype for p in wan.load(folder, dtype="bfloat16").parameters()} == {torch.bfloat16}
    wan.save(wan.load(folder), tmp_path, dtype=torch.bfloat16)
    stored = load_file(tmp_path / "diffusion_pytorch_model.safetensors")
    assert all(torch.equal(v, network.state_dict()[n].bfloat16()) for n, v in stored.items())
    with pytest.raises(ValueError, match="unknown dtype 'int8'"):
        wan.load(folder, dtype="int8")


@pytest.mark.parametrize("size", ["1.3B", "5B", "14B"])
def test_published_sizes_by_name_and_shape(size: str, tmp_path: Path) -> None:
    """Every weight of the published layouts, without memory for one of them."""
    heads, depth, channels = {"1.3B": (12, 30, 16), "5B": (24, 30, 48), "14B": (40, 40, 16)}[size]
    with torch.device("meta"):
        network = diffusers.WanTransformer3DModel(
            num_attention_heads=heads, num_layers=depth, ffn_dim=SIZES[size][3],
            in_channels=channels, out_channels=channels,
        )  # fmt: skip
    (tmp_path / "config.json").write_text(network.to_json_string())
    recipe = wan.recipe_of(tmp_path)
    assert recipe.backbone.numbers == Wan(size=size).numbers and recipe.backbone.hidden == Wan(size=size).hidden
    model = wan.empty(recipe)
    table, theirs, ours = wan.table_of(model), network.state_dict(), model.state_dict()
    assert sorted(n for link in table for n in link.theirs) == sorted(theirs)
    assert {link.ours for link in table} == {n for n, v in ours.items() if v.numel()}
    for link in table:
        parts = [theirs[n] for n in link.theirs]
        assert link.read(parts).shape == ours[link.ours].shape, link.ours
        back = link.write(ours[link.ours], recipe.modalities["video"].patch)
        assert [p.shape for p in back] == [p.shape for p in parts], link.ours
    million = sum(v.numel() for v in ours.values()) / 1e6
    assert million == sum(v.numel() for v in theirs.values()) / 1e6
    assert round(million) == {"1.3B": 1419, "5B": 5000, "14B": 14288}[size]


def test_modalities_that_join_begin_as_in_a_new_model(one_file: Folder) -> None:
    network, folder = one_file
    base = wan.recipe_of(folder, frames=3)
    video = base.modalities["video"]
    depth = replace(video, zero_init=True, null="zero")
    other = replace(video, mark=True)
    layout = Layout(Stream("video", "depth"), Stream("flow"))
    recipe = replace(base, modalities={"video": video, "depth": depth, "flow": other}, layout=layout,
                     modulation=replace(base.modulation, table=True), registers=2)  # fmt: skip
    model = wan.empty(recipe)
    wan.load_weights(model, folder)
    assert not any(v.is_meta for v in (*model.parameters(), *model.buffers()))
    assert not model.head["depth"].weight.any() and model.embed["flow"].weight.any()
    assert not model.modulation.table["flow"].any() and model.modulation.table["flow"].shape[0] == 3
    real = replace(recipe, seed=7).build()
    wan.load_weights(real, folder)
    for link in wan.table_of(model):
        assert torch.equal(model.get_parameter(link.ours), real.get_parameter(link.ours)), link.ours
    x, words = torch.randn(1, 3, 4, 4, CHANNELS), torch.randn(1, 512, WORDS)
    given = model.conditioner({"text": words}, {"text": torch.arange(1)}, 1)
    t = {n: torch.full((1, 3), 0.4) for n in recipe.modalities}
    out = model(dict.fromkeys(recipe.modalities, x), t, given)
    assert all(v.shape == x.shape and v.isfinite().all() for v in out.values())


def test_blocks_of_an_expert_begin_as_in_a_new_model(one_file: Folder) -> None:
    """There are as many as the base has, and none of them is in its folder."""
    base = wan.recipe_of(one_file[1], frames=3)
    actions = Modality(shape=(4, 2), patch=(1,), rate=10.0)
    recipe = replace(
        base, modalities=dict(base.modalities) | {"action": actions}, layout=Layout(Stream("video"), Stream("action")),
        backbone=replace(base.backbone, experts={"action": 16}),
    )  # fmt: skip
    model = wan.empty(recipe)
    wan.load_weights(model, one_file[1])
    new = recipe.build().state_dict()
    assert not any(v.is_meta for v in (*model.parameters(), *model.buffers()))
    assert all(torch.equal(v, new[n]) for n, v in model.state_dict().items() if "experts" in n or "action" in n)


def test_what_stands_beside_is_refused_or_left_out(one_file: Folder, tmp_path: Path) -> None:
    network, folder = one_file
    base = wan.recipe_of(folder, frames=3)
    video = base.modalities["video"]
    two = replace(base, modalities={"video": video, "depth": video}, layout=Layout(Stream("video"), Stream("depth")))
    model = wan.empty(two)
    wan.load_weights(model, folder)
    with pytest.raises(ValueError, match=r"4 weights that a Wan transformer has not, such as 'embed\.depth\.bias'"):
        wan.save(model, tmp_path / "a")
    wan.save(model, tmp_path / "a", leave_out=True)
    assert same(diffusers.WanTransformer3DModel.from_pretrained(tmp_path / "a"), network)
    with pytest.raises(ValueError, match="is not empty"):
        wan.save(model, tmp_path / "a", leave_out=True)
    with pytest.raises(ValueError, match="unknown modality 'vide'"):
        wan.save(model, tmp_path / "b", video="vide")
    other = replace(base, backbone=replace(base.backbone, per_second=4.0)).build()
    with pytest.raises(ValueError, match="other positions than Wan"):
        wan.save(other, tmp_path / "b")


def test_weights_that_do_not_fit_are_named(one_file: Folder, tmp_path: Path) -> None:
    network, folder = one_file
    state, config = network.state_dict(), json.loads((folder / "config.json").read_text())

    def written(change, **settings: object) -> Path:
        weights = {n: v.contiguous() for n, v in state.items()}
        change(weights)
        out = tmp_path / f"f{len(list(tmp_path.iterdir()))}"
        out.mkdir()
        save_file(weights, out / "diffusion_pytorch_model.safetensors")
        (out / "config.json").write_text(json.dumps(config | settings))
        return out

    with pytest.raises(ValueError, match=r"lacks 'blocks\.1\.ffn\.net\.2\.bias' \(1 of \d+ weights are missing\)"):
        wan.load(written(lambda w: w.pop("blocks.1.ffn.net.2.bias")))
    with pytest.raises(ValueError, match=r"unknown weight in .*: 'blocks\.3\.ffn'"):
        wan.load(written(lambda w: w.update({"blocks.3.ffn": torch.zeros(1)})))
    with pytest.raises(
        ValueError, match=r"proj_out\.bias in .* make 'head\.video\.bias' of shape \(3,\); the model has"
    ):
        wan.load(written(lambda w: w.update({"proj_out.bias": torch.zeros(3)})))
    old = written(lambda w: w.update({"blocks.0.attn2.norm_added_q.weight": torch.zeros(1)}))
    assert wan.load(old) is not None, "a key that diffusers passes over"
    with pytest.raises(ValueError, match=r"lacks 'blocks\.3\.") as caught:
        wan.load(written(lambda w: None, num_layers=4))
    assert "weights are missing" in str(caught.value)


def test_other_networks_are_refused_by_name(one_file: Folder, tmp_path: Path) -> None:
    _, folder = one_file
    config = json.loads((folder / "config.json").read_text())

    def described(**settings: object) -> Path:
        (tmp_path / "config.json").write_text(json.dumps(config | settings))
        return tmp_path

    for settings, message in (
        ({"image_dim": 1280}, "image_dim=1280 is an image-to-video variant that reads CLIP features"),
        ({"added_kv_proj_dim": 64}, "added_kv_proj_dim=64 is an image-to-video variant"),
        ({"in_channels": 36, "out_channels": 16}, "36 channels go in and 16 come out"),
        ({"_class_name": "WanVACETransformer3DModel"}, "describes 'WanVACETransformer3DModel'"),
        ({"vace_layers": [1]}, "unknown setting in .*: 'vace_layers'"),
        ({"qk_norm": "layer_norm"}, "qk_norm='layer_norm'"),
    ):
        with pytest.raises(ValueError, match=message):
            wan.recipe_of(described(**settings))
    with pytest.raises(ValueError, match="does not exist; the folder must hold a WanTransformer3DModel"):
        wan.load(tmp_path / "nowhere")
    (tmp_path / "both" / "transformer_2").mkdir(parents=True)
    with pytest.raises(ValueError, match="two networks for two ranges of times"):
        wan.load(tmp_path / "both")
    assert backbone_of(read_config(folder)).numbers == (64, 3, 2)


def test_a_damaged_folder(sharded: Folder, tmp_path: Path) -> None:
    _, folder = sharded
    (tmp_path / "config.json").write_text((folder / "config.json").read_text())
    with pytest.raises(ValueError, match="holds neither diffusion_pytorch_model.safetensors nor"):
        wan.load(tmp_path)
    index = tmp_path / "diffusion_pytorch_model.safetensors.index.json"
    for text in ("{}", '{"weight_map": ["a"]}', '{"weight_map": 1}', "[]"):
        index.write_text(text)
        with pytest.raises(ValueError, match="is no index of safetensors"):
            wan.load(tmp_path)
    index.write_text('{"weight_map": {"proj_out.bias": 1}}')
    with pytest.raises(ValueError, match="names '1', which is no file in"):
        wan.load(tmp_path)
    index.write_text('{"weight_map": {}}')
    assert sources_of(tmp_path) is None
    index.write_text(json.dumps({"weight_map": {"proj_out.bias": "../config.json"}}))
    with pytest.raises(ValueError, match=r"names '\.\./config\.json', which is no file in"):
        wan.load(tmp_path)
    index.unlink()
    (tmp_path / "diffusion_pytorch_model.safetensors").write_bytes(b"cut")
    with pytest.raises(ValueError, match="holds no readable safetensors"):
        wan.load(tmp_path)


def test_as_a_model_folder_of_ours(one_file: Folder, tmp_path: Path) -> None:
    network, folder = one_file
    wan.load(folder, frames=2, folder=tmp_path / "ours")
    model = from_pretrained(tmp_path / "ours")
    assert isinstance(model.modalities["video"], Modality) and model.modalities["video"].frames == 2
    wan.save(model, tmp_path / "back")
    assert same(diffusers.WanTransformer3DModel.from_pretrained(tmp_path / "back"), network)


def test_sizes_of_files() -> None:
    assert [bytes_of(s) for s in ("5GB", "7 MB", 12, "3KB")] == [5 * 10**9, 7 * 10**6, 12, 3000]
    for wrong in ("5GiB", "0", "-1GB", "much"):
        with pytest.raises(ValueError, match="shard_size="):
            bytes_of(wrong)
