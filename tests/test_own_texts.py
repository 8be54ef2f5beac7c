"""A sample's own text, from a column of the data to the words that its map's stream is told; and said at the call."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from polyclock import Dice, loss, sample
from polyclock.cli import main
from polyclock.commands import run_folder
from polyclock.data import Windows, collate, dense, open_dataset
from polyclock.data.choices import one_each
from polyclock.data.encode import VideoCodec, encode_video
from polyclock.data.formats.lerobot_writer import LeRobotWriter
from polyclock.recipes import unityvideo
from worlds import awake

MAPS = ("depth", "segmentation")
TINY = {"size": "tiny", "image": 16, "patch": 8, "frames": 2, "maps": MAPS}
PLAIN = "segmentation of all things"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three episodes of 6 frames with one, two and no text of their own."""
    out, size = tmp_path_factory.mktemp("people") / "data", (32, 32)
    features = {
        "observation.images.main": {"dtype": "video", "shape": (*size, 3), "names": None},
        "observation.depth.main": dense.feature("depth", size),
        "observation.segmentation.main": dense.feature("segmentation", size, classes={0: "background", 1: "person"}),
        "prompt": {"dtype": "string", "shape": (1,), "names": None},
    }
    dice = np.random.default_rng(0)
    with LeRobotWriter(out, fps=10, features=features, video_codec=VideoCodec(encoder="h264")) as writer:
        for text in ("one person", "two persons", ""):
            columns = {
                "observation.images.main": dice.integers(0, 255, (6, *size, 3), dtype=np.uint8),
                "observation.depth.main": dice.uniform(2, 4, (6, *size, 1)).astype(np.float32),
                "observation.segmentation.main": dice.integers(0, 2, (6, *size, 2)).astype(np.int32),
                "prompt": np.full(6, text),
            }
            writer.add_episode(columns, "a walk")
    return out


@pytest.fixture(scope="module")
def run(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two steps of training on it."""
    out = tmp_path_factory.mktemp("run") / "run"
    words = ["train", "unityvideo", "--data", str(folder), "--out", str(out), "--steps", "2", "--batch-size", "6"]
    words += ["--image", "16", "--frame", "32", "--maps", ",".join(MAPS), "--workers", "0", "--warmup", "0"]
    assert main([*words, "--validation-batches", "1", "--device", "cpu"]) == 0
    return out


def listened(model) -> list[list[str]]:
    """What the text encoder is asked to read from now on, one list for each time."""
    seen: list[list[str]] = []
    model.conditioner.encoder["text"].register_forward_pre_hook(lambda _, given: seen.append(list(given[0])))
    return seen


def test_texts_of_the_data_take_the_place_of_braces_sample_by_sample(folder: Path) -> None:
    recipe = unityvideo(**TINY)
    signals, dataset = recipe.signals(), open_dataset(folder)
    source = one_each(Windows(dataset, signals), [MAPS], {"depth": 0.0})
    batch = collate([source[i] for i in (0, 6, 12, 1)], range(4), signals)
    assert batch.rows["prompt"].tolist() == [0, 1, 3] and batch.rows["depth"].tolist() == []
    model = awake(recipe.build())
    told = listened(model)
    dice = Dice(0, 0, range(4))
    total, _ = loss(model, model.encode(batch, dice), recipe.law, dice)
    total.backward()
    assert torch.isfinite(total)
    words = {t for texts in told for t in texts}
    assert words - {"a walk"} == {"segmentation of one person", "segmentation of two persons", PLAIN}
    given = model.conditioner({"prompt": batch.values["prompt"]}, {n: batch.rows[n] for n in ("prompt", *MAPS)}, 4)
    one, two, plain, again = given.features["prompt"]
    assert torch.equal(one, again)
    assert not torch.allclose(one, two) and not torch.allclose(two, plain)


def test_other_maps_are_told_what_they_are_whatever_the_data_say(folder: Path) -> None:
    recipe = unityvideo(**TINY)
    source = one_each(Windows(open_dataset(folder), recipe.signals()), [MAPS], {"segmentation": 0.0})
    batch = collate([source[i] for i in (0, 6)], range(2), recipe.signals())
    model = recipe.build()
    told = listened(model)
    model.conditioner({"prompt": batch.values["prompt"]}, {n: batch.rows[n] for n in ("prompt", *MAPS)}, 2)
    assert told == [["depth map"]]


def test_what_is_said_at_the_call_need_not_stand_in_the_query() -> None:
    model = awake(unityvideo(**TINY).build())
    video = torch.randint(0, 256, (1, 2, 16, 16, 3), dtype=torch.uint8)
    told = listened(model)

    def ask(query: str, **values):
        return sample(model, query, steps=1, strict=True, decode=False, video=video, **values)["segmentation"]

    plain = ask("segmentation | video")
    two = ask("segmentation | video", prompt=["two persons"])
    assert torch.equal(two, ask("segmentation | video, prompt", prompt=["two persons"]))
    assert not torch.allclose(plain, two)
    assert told == [[PLAIN], *[["segmentation of two persons"]] * 2]
    with pytest.raises(ValueError, match="unknown value for the query 'segmentation | video' 'text'"):
        ask("segmentation | video", text=["a walk"])


def asked(run: Path, out: Path, *words: str) -> np.ndarray:
    query = ["sample", str(run), "segmentation | video", "--steps", "2", "--device", "cpu", "--out", str(out)]
    assert main([*query, *words]) == 0
    with np.load(out / "segmentation.npz") as file:
        return file["values"]


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """What the text encoder of any run is asked to read, one list for each time."""
    seen: list[list[str]] = []
    load = run_folder.load

    def loaded(*given):
        model = load(*given)
        model.conditioner.encoder["text"].register_forward_pre_hook(lambda _, texts: seen.append(list(texts[0])))
        return model

    monkeypatch.setattr(run_folder, "load", loaded)
    return seen


def test_a_run_is_asked_with_words_of_one_s_own(run: Path, folder: Path, tmp_path: Path, told) -> None:
    frames = np.random.default_rng(1).integers(0, 255, (20, 32, 32, 3), dtype=np.uint8)
    encode_video(tmp_path / "clip.mp4", frames, 10.0, VideoCodec(encoder="h264"))
    video = ["--given", f"video={tmp_path / 'clip.mp4'}"]
    two = asked(run, tmp_path / "two", *video, "--given", "prompt=two persons")
    assert two.shape == (1, 2, 16, 16, 2)
    asked(run, tmp_path / "plain", *video)
    asked(run, tmp_path / "data", "--data", str(folder), "--episode", "1")
    asked(run, tmp_path / "none", "--data", str(folder), "--episode", "2")
    asked(run, tmp_path / "both", *video, "--data", f"{folder}?hide=prompt")
    said = ["two persons", "all things", "two persons", "all things", "all things"]
    assert told == [[f"segmentation of {words}"] for words in said]


def test_a_run_is_evaluated_with_the_texts_of_its_data(run: Path, folder: Path, tmp_path: Path, told) -> None:
    """Of windows that have one, as of any signal that the data have."""
    words = ["evaluate", str(run), "--data", str(folder), "--episodes", "0-2", "--steps", "1", "--windows", "4"]
    assert main([*words, "--device", "cpu", "--out", str(tmp_path / "report.json")]) == 0
    words = {text for texts in told for text in texts}
    assert {"segmentation of one person", "segmentation of two persons", "depth map"} <= words and PLAIN not in words
