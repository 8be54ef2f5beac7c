"""From a folder of mp4s and a tiny random Wan to a trained network that diffusers loads, by command line."""

from __future__ import annotations

import json
from pathlib import Path

import av
import numpy as np
import pytest
import torch

from polyclock import from_pretrained
from polyclock.cli import main

pytest.importorskip("diffusers")
pytest.importorskip("transformers")
pytest.importorskip("cv2")


def write(path: Path, seed: int, frames: int = 12) -> None:
    """A texture that moves to the right, 16 frames a second, with its caption beside it."""
    texture = np.random.default_rng(seed).integers(0, 256, (4, 6, 3), np.uint8).repeat(12, 0).repeat(12, 1)
    with av.open(str(path), "w") as file:
        stream = file.add_stream("libx264", 16)
        stream.width, stream.height, stream.pix_fmt = 72, 48, "yuv420p"
        for i in range(frames):
            picture = np.ascontiguousarray(np.roll(texture, 2 * i, 1))
            file.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        file.mux(stream.encode())
    path.with_suffix(".txt").write_text(f"colours move {'ab'[seed % 2]}")


def dino(folder: Path) -> str:
    import transformers

    torch.manual_seed(0)
    config = transformers.Dinov2Config(
        hidden_size=16, num_hidden_layers=1, num_attention_heads=2, image_size=28, patch_size=14
    )
    transformers.Dinov2Model(config).save_pretrained(folder)
    return str(folder)


@pytest.mark.slow
def test_from_clips_to_a_network_that_diffusers_loads(tmp_path: Path) -> None:
    pytest.importorskip("peft")
    import diffusers

    from interop.wan_folders import pipeline
    from polyclock.interop import expanded, wan_lora

    (tmp_path / "clips").mkdir()
    for i in range(4):
        write(tmp_path / "clips" / f"{i}.mp4", i)
    pipeline(tmp_path / "wan")
    weights, annotated, run = dino(tmp_path / "dino"), tmp_path / "annotated", tmp_path / "run"
    words = f"flow,semantics=dino:{weights}?clips=2,geometry=dino:{weights}?size=28x42&clips=2"
    assert main(["annotate", str(tmp_path / "clips"), "--experts", words, "--out", str(annotated)]) == 0
    train = [
        "train", "dreamworld", "--base", str(tmp_path / "wan"), "--data", str(annotated), "--out", str(run),
        "--image", "32,48", "--frames", "9", "--steps", "3", "--batch-size", "2", "--workers", "0", "--warmup", "1",
        "--validate-every", "0", "--ema", "0", "--lr", "1e-2", "--lora", "2", "--lora-of", "attention,cross",
        "--lora-beside", "embed.video,head.video", "--annealed", "3", "--betas", "0.9,0.99", "--no-cache",
        "--latents", str(tmp_path / "latents"),
    ]  # fmt: skip
    assert main(train) == 0
    rows = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    assert main(["sample", str(run), "video, flow, semantics, geometry | text", "--given", "text=colours move a",
                 "--steps", "2", "--guide", "weight=5,drop=text", "--guide", "weight=1,drop=flow",
                 "--out", str(tmp_path / "out")]) == 0  # fmt: skip
    assert np.load(tmp_path / "out" / "video.npz")["values"].shape == (1, 9, 32, 48, 3)
    model = from_pretrained(run / "model")
    assert model.head["flow"].weight.any() and rows
    expanded.save(model, tmp_path / "theirs")
    network = diffusers.WanTransformer3DModel.from_pretrained(tmp_path / "theirs")
    assert network.config.in_channels == 4 + 4 + 8 + 8
    assert wan_lora.save(model, tmp_path / "wan", tmp_path / "lora", rank=2) < 1e-2
