"""The examples in the documentation run, from the top of a page to its end."""

from __future__ import annotations

import re
import runpy
import warnings
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from polyclock import save_pretrained
from polyclock.codecs import Identity
from polyclock.recipes.tiny import tiny
from polyclock.recipes.uwm_official import uwm_official

ROOT = Path(__file__).resolve().parents[1]


def run_page(page: str, folder: Path, **names: object) -> int:
    """Run a page's examples as one script that already has `names`; how many there were."""
    text = (ROOT / page).read_text(encoding="utf-8")
    blocks = list(re.finditer(r"```python\n(.*?)```", text, re.S))
    script = ""
    for block in blocks:
        # Empty lines where the prose is, so that a traceback gives the line of the page.
        script += "\n" * (text[: block.start(1)].count("\n") - script.count("\n")) + block[1]
    path = folder / Path(page).with_suffix(".py").name
    path.write_text(script, encoding="utf-8")
    runpy.run_path(str(path), init_globals=names)
    return len(blocks)


def test_the_examples_of_the_concepts_run(tmp_path: Path) -> None:
    assert run_page("docs/concepts.md", tmp_path) > 5


def test_the_examples_of_the_paper_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With random weights, narrow, and an autoencoder that shrinks pictures by four."""
    diffusers = pytest.importorskip("diffusers")
    torch.manual_seed(0)
    down, up = ("DownEncoderBlock2D",) * 3, ("UpDecoderBlock2D",) * 3
    sizes = {"block_out_channels": (8, 8, 16), "norm_num_groups": 4, "latent_channels": 4}
    module = diffusers.AutoencoderKL(**sizes, down_block_types=down, up_block_types=up)
    module.save_pretrained(tmp_path / "MODEL" / "autoencoder")
    cameras = tuple(f"observation.images.{name}" for name in ("agentview_rgb", "eye_in_hand_rgb"))
    recipe = uwm_official(
        vae=str(tmp_path / "MODEL" / "autoencoder"), cameras=cameras, resize=(36, 36), crop=(32, 32), width=48, depth=1,
        heads=4, time=32,
    )  # fmt: skip
    action = replace(recipe.modalities["action"], shape=(16, 7))
    model = replace(recipe, modalities=recipe.modalities | {"action": action}).build()
    save_pretrained(model, tmp_path / "MODEL")
    monkeypatch.chdir(tmp_path)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # every question of the page is one that the model was trained on
        assert run_page("docs/papers/uwm.md", tmp_path) == 2


def test_the_example_of_the_readme_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With an untrained model: the queries, names and shapes are right, whatever the answers are."""
    recipe = tiny()
    action = replace(recipe.modalities["action"], shape=(4, 7), codec=Identity())
    state = replace(recipe.conditions["state"], shape=(1, 5), codec=Identity())
    recipe = replace(
        recipe,
        modalities=recipe.modalities | {"action": action},
        conditions=recipe.conditions | {"state": state},
    )
    save_pretrained(recipe.build(), tmp_path / "RUN" / "model")
    monkeypatch.chdir(tmp_path)
    clip = torch.randint(0, 256, (1, 4, 16, 16, 3), dtype=torch.uint8)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # every question of the page is one that the model was trained on
        assert run_page("README.md", tmp_path, clip=clip, seen=clip[:, :2], chunk=torch.randn(1, 4, 7)) == 1


def test_the_examples_of_features_run(tmp_path: Path) -> None:
    assert run_page("docs/features.md", tmp_path) == 2


def test_the_example_of_the_systems_beside_it_runs(tmp_path: Path) -> None:
    assert run_page("docs/papers/baselines.md", tmp_path) == 1
