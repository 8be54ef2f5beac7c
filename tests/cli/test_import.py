"""`polyclock import`: a foreign checkpoint becomes a model folder whole or not at all, and nothing of it is run."""

from __future__ import annotations

import errno
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import uwm_weights as numbers
from polyclock import from_pretrained, sample
from polyclock.cli import main
from polyclock.data.encode import VideoCodec
from polyclock.data.formats.lerobot_writer import LeRobotWriter
from polyclock.interop import uwm
from polyclock.recipes.uwm_official import TRAINING, TUNING
from polyclock.train import log

SOURCE = Path(__file__).resolve().parents[2] / "src"
SIZES = numbers.GOLDEN["narrow"]
VIEWS = ["--views", ",".join(SIZES.views)]
SIZE = ["--resize", "72,72", "--crop", "64,64"]
KNOWN = [*VIEWS, *SIZE, "--heads", "4"]
CAMERAS = {"camera": SIZES.views[0], f"camera.{SIZES.views[1]}": SIZES.views[1]}


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file as the authors' code writes it, at the width of the narrow golden model."""
    path = tmp_path_factory.mktemp("theirs") / "models.pt"
    torch.save({"model": numbers.state(SIZES), "step": 3}, path)
    return path


@pytest.fixture(scope="module")
def imported(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The model folder made of it; no test writes to it."""
    out = tmp_path_factory.mktemp("ours") / "model"
    assert main(["import", "uwm", str(checkpoint), "--out", str(out), *KNOWN]) == 0
    return out


def sentence(capsys: pytest.CaptureFixture, *words: object) -> str:
    """Run an import that must fail as a user's mistake; the one line it says."""
    capsys.readouterr()
    assert main(["import", *map(str, words)]) == 2
    said = capsys.readouterr().err
    assert said.startswith("polyclock: ") and said.count("\n") == 1 and "Traceback" not in said
    return said.removeprefix("polyclock: ").rstrip("\n")


def test_the_folder_needs_nothing_else(imported: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    pytest.importorskip("diffusers")
    names = {str(p.relative_to(imported)) for p in imported.rglob("*") if p.is_file()}
    own = {"README.md", "codecs.safetensors", "config.json", "model.safetensors"}
    assert names == own | {"autoencoder/config.json", "autoencoder/diffusion_pytorch_model.safetensors"}
    assert [p.name for p in imported.parent.iterdir()] == ["model"], "nothing is left beside it"
    assert str(imported) not in (imported / "config.json").read_text()
    moved = tmp_path / "moved"
    shutil.copytree(imported, moved)
    picture = {c: torch.randint(0, 256, (1, 2, 40, 40, 3), dtype=torch.uint8) for c in CAMERAS}
    one, two = (sample(from_pretrained(f), "video | action, camera", steps=1, seed=1, action=torch.zeros(1, 16, 7),
                       **picture)["video"] for f in (imported, moved))  # fmt: skip
    assert torch.equal(one, two) and one.shape == (1, 2, 64, 64, 3) and one.dtype == torch.uint8
    assert main(["info", str(moved)]) == 0
    said = capsys.readouterr().out
    assert "uwm_official" in said and "condition  camera.eye_in_hand_rgb  (2, 64, 64, 3)  beside, required" in said


def test_for_actions_alone_the_autoencoder_is_not_needed(imported: Path, tmp_path: Path) -> None:
    shutil.copytree(imported, tmp_path / "bare", ignore=shutil.ignore_patterns("autoencoder"))
    model = from_pretrained(tmp_path / "bare")
    picture = {c: torch.randint(0, 256, (1, 2, 40, 40, 3), dtype=torch.uint8) for c in CAMERAS}
    assert sample(model, "action |", steps=1, **picture)["action"].shape == (1, 16, 7)
    with pytest.raises(ValueError, match=f"{tmp_path}/bare/autoencoder/config.json does not exist"):
        sample(model, "video |", steps=1, **picture)


def test_it_answers_queries_on_the_command_line(imported: Path, tmp_path: Path) -> None:
    clip = numbers.pictures("clip", (2, 50, 60, 3)).numpy()
    np.save(tmp_path / "clip.npy", clip)
    Image.fromarray(clip[0]).save(tmp_path / "still.png")
    given = [f"camera={tmp_path / 'clip.npy'}", f"camera.{SIZES.views[1]}={tmp_path / 'still.png'}"]
    words = ["sample", str(imported), f"action | {', '.join(CAMERAS)}", "--out", str(tmp_path / "out"), "--steps", "3"]
    assert main([*words, *(w for g in given for w in ("--given", g))]) == 0
    with np.load(tmp_path / "out" / "action.npz") as file:
        found = file["values"]
    seen = torch.from_numpy(clip)[None]
    values = dict(zip(CAMERAS, (seen, seen[:, :1].expand(-1, 2, -1, -1, -1)), strict=True))
    model = from_pretrained(imported)
    expected = sample(model, f"action | {', '.join(CAMERAS)}", steps=3, **values)["action"]
    assert found.shape == (1, 16, 7) and np.allclose(found, expected.numpy(), atol=1e-5)
    other = sample(model, f"action | {', '.join(CAMERAS)}", steps=3, **{n: 255 - v for n, v in values.items()})
    assert not np.allclose(found, other["action"].numpy(), atol=1e-3)


def test_what_the_file_does_not_say_is_asked_for(
    checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    words = ["uwm", checkpoint, "--out", tmp_path / "model"]
    assert "which cameras its 4 pictures come from: give views=" in sentence(capsys, *words)
    assert "to which size pictures were resized" in sentence(capsys, *words, *VIEWS)
    assert "how many heads share its width 48: give heads=" in sentence(capsys, *words, *VIEWS, *SIZE)
    assert "4 pictures cannot come from the 3 cameras a, b, c" in sentence(capsys, *words, "--views", "a,b,c", *SIZE)
    assert "72 x 72 cannot be cropped to 224 x 224" in sentence(capsys, *words, *VIEWS, "--resize", "72,72")
    assert "state" in sentence(capsys, *words, *KNOWN, "--state", "gripper=1")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_with_something_in_it_stays_as_it_is(
    checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    out = tmp_path / "model"
    out.mkdir()
    (out / "mine.txt").write_text("mine")
    words = ["uwm", checkpoint, "--out", out, *KNOWN]
    assert sentence(capsys, *words) == f"{out} is there already and not empty; name another folder"
    assert [p.name for p in out.iterdir()] == ["mine.txt"] and list(tmp_path.iterdir()) == [out]
    words[3] = out / "mine.txt"
    assert "is there already and not empty" in sentence(capsys, *words)
    # An empty one is taken.
    (out / "mine.txt").unlink()
    assert main(["import", "uwm", str(checkpoint), "--out", str(out), *KNOWN]) == 0
    assert (out / "config.json").is_file() and list(tmp_path.iterdir()) == [out]


@pytest.mark.parametrize(
    ("error", "status"),
    [(OSError(errno.ENOSPC, "No space left on device"), 2), (KeyboardInterrupt(), 130), (RuntimeError("a bug"), None)],
    ids=["full disk", "ctrl-c", "a bug"],
)
def test_what_ends_in_the_middle_leaves_nothing(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException, status: int | None
) -> None:
    reached = []

    def broken(model: object, folder: Path) -> None:
        (folder / "model.safetensors").write_bytes(b"half")
        reached.append(sorted(p.name for p in folder.iterdir()))
        raise error

    monkeypatch.setattr(uwm, "save_pretrained", broken)
    words = ["import", "uwm", str(checkpoint), "--out", str(tmp_path / "deep" / "model"), *KNOWN]
    if status is None:
        with pytest.raises(RuntimeError, match="a bug"):
            main(words)
    else:
        assert main(words) == status
    assert reached == [["autoencoder", "model.safetensors"]], "it was in the middle"
    assert list((tmp_path / "deep").iterdir()) == []


def test_killed_in_the_middle_there_is_no_model_folder(checkpoint: Path, tmp_path: Path) -> None:
    """Not even a damaged one: what was written lies aside, and the same command works afterwards."""
    script = "import os, sys; from polyclock.interop import uwm; from polyclock.cli import main\n"
    script += "real = uwm.save_pretrained\n"
    script += "uwm.save_pretrained = lambda *given: (real(*given), os.kill(os.getpid(), 9))\n"
    script += "main(sys.argv[1:])\n"
    out = tmp_path / "model"
    words = ["import", "uwm", str(checkpoint), "--out", str(out), *KNOWN]
    environment = {**os.environ, "PYTHONPATH": str(SOURCE), "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, "-c", script, *words], env=environment, capture_output=True, timeout=300)
    assert done.returncode == -9 and not out.exists()
    (left,) = tmp_path.iterdir()
    assert left.name.startswith(".model-") and (left / "model.safetensors").is_file()
    assert main(words) == 0 and (out / "config.json").is_file()


class Touch:
    """Its pickle makes a file when it is read the usual way."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple:
        return os.system, (f"touch {self.path}",)


@pytest.mark.parametrize("old", [False, True], ids=["archive", "stream"])
@pytest.mark.parametrize("place", ["model", "optimizer", "action_normalizer", "weight"])
def test_a_file_that_would_run_something_runs_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture, place: str, old: bool
) -> None:
    marker, path, out = tmp_path / "marker", tmp_path / "models.pt", tmp_path / "model"
    content: dict = {"model": {"noise_pred_net.registers": torch.zeros(1, 8, 48)}, "step": 3}
    if place == "weight":
        content["model"]["noise_pred_net.registers"] = Touch(marker)
    else:
        content[place] = Touch(marker)
    torch.save(content, path, _use_new_zipfile_serialization=not old)
    said = sentence(capsys, "uwm", path, "--out", out, *KNOWN)
    assert str(path) in said and f"{os.system.__module__}.system" in said
    assert not marker.exists() and not out.exists() and list(tmp_path.iterdir()) == [path]
    # The usual way it would have been made.
    torch.load(path, weights_only=False)
    assert marker.exists()


def test_files_that_are_no_such_checkpoint(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    words = ["--out", tmp_path / "model", *KNOWN]
    path = tmp_path / "models.pt"
    assert sentence(capsys, "uwm", path, *words) == f"{path} is no file"
    path.write_bytes(b"not at all a checkpoint")
    assert f"{path} is no file of torch.save" in sentence(capsys, "uwm", path, *words)
    torch.save({"state_dict": {}}, path)
    assert f"{path} holds no entry 'model'" in sentence(capsys, "uwm", path, *words)
    torch.save({"model": {"encoder.weight": torch.zeros(2)}}, path)
    assert str(path) in sentence(capsys, "uwm", path, *words)
    torch.save({"model": {}, "config": {}}, path)
    assert "'config'" in sentence(capsys, "uwm", path, *words)
    assert list(tmp_path.iterdir()) == [path]


def test_help_and_slips(capsys: pytest.CaptureFixture, tmp_path: Path) -> None:
    assert sentence(capsys, "uwn", "models.pt") == (
        "unknown format 'uwn'. Did you mean 'wan'? Possible: uwm, unityvideo, wan."
    )
    assert main(["import"]) == 2 and main(["import", "--help"]) == 0
    assert "authors' Unified World Models code" in capsys.readouterr().out
    assert main(["import", "uwm", "--help"]) == 0
    said = capsys.readouterr().out
    assert all(flag in said for flag in ("--views", "--resize", "--crop", "--heads", "--state", "--rate", "--out"))
    assert "out" in sentence(capsys, "uwm", tmp_path / "models.pt")


def demonstrations(folder: Path) -> Path:
    """Two episodes of a LeRobot data set with the cameras and actions that the checkpoint was made for."""
    keys = [f"observation.images.{view}" for view in SIZES.views]
    camera = {"dtype": "video", "shape": (40, 40, 3), "names": ["height", "width", "channels"]}
    features = dict.fromkeys(keys, camera) | {"action": {"dtype": "float32", "shape": (7,), "names": None}}
    writer = LeRobotWriter(folder, fps=20, features=features, video_codec=VideoCodec(encoder="h264"))
    for episode in range(2):
        frames = {key: numbers.pictures(f"{key}{episode}", (24, 40, 40, 3)).numpy() for key in keys}
        writer.add_episode(frames | {"action": numbers.uniform(f"action{episode}", (24, 7)).numpy()}, "push")
    writer.close()
    return folder


def test_the_published_settings_are_the_defaults(imported: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    """Of training from nothing, and of fine-tuning an imported model; others have those of `Training`."""
    new = {"steps": "100000", "batch-size": "144", "schedule": "constant", "warmup": "0", "clip": "0", "ema": "0"}
    tuned = new | {"steps": "10000", "batch-size": "72", "schedule": "cosine", "warmup": "1000", "clip": "1"}
    other = {"steps": "10000", "batch-size": "32", "schedule": "cosine", "warmup": "500", "ema": "0.999"}
    rates = {"lr": "0.0001", "weight-decay": "1e-06"}
    for start, numbers_ in (("uwm_official", new | rates), (str(imported), tuned | rates), ("uwm", other)):
        assert main(["train", start, "--help"]) == 0
        said = " ".join(capsys.readouterr().out.split())
        for name, value in numbers_.items():
            assert f"[{value}]" in said.split(f"--{name} ")[-1].split(" --")[0], (start, name)


@pytest.mark.slow
def test_it_goes_on_learning_and_its_recipe_begins_anew(imported: Path, tmp_path: Path) -> None:
    pytest.importorskip("diffusers")
    data = demonstrations(tmp_path / "data")
    steps = ["--steps", "2", "--batch-size", "4", "--workers", "0"]
    often = ["--validate-every", "2", "--validation-batches", "1", "--log-every", "1", "--checkpoint-every", "2"]
    words = ["--data", str(data), *steps, *often, "--device", "cpu"]
    sizes = ["--width", "48", "--depth", "2", "--heads", "4", "--time", "32", *SIZE]
    new = ["uwm_official", "--vae", str(imported / "autoencoder"), *sizes]
    for start, out, usual in (([str(imported)], tmp_path / "tuned", TUNING), (new, tmp_path / "new", TRAINING)):
        assert main(["train", *start, *words, "--out", str(out)]) == 0
        settings = json.loads((out / "run.json").read_text())["training"]
        kept = ("lr", "weight_decay", "schedule", "warmup", "clip", "ema")
        assert {n: settings[n] for n in kept} == {n: getattr(usual, n) for n in kept}
        rows = [row for row in log.read(out / "log.jsonl") if row["kind"] == "train"]
        assert [row["step"] for row in rows] == [1, 2]
        assert all(np.isfinite([row["loss"], row["grad_norm"]]).all() and row["grad_norm"] > 0 for row in rows)
    before, tuned, fresh = (from_pretrained(f) for f in (imported, tmp_path / "tuned/model", tmp_path / "new/model"))
    assert tuned.recipe == before.recipe and set(fresh.state_dict()) == set(before.state_dict())
    apart = {n: float((v - before.state_dict()[n]).abs().max()) for n, v in tuned.state_dict().items()}
    assert 0 < max(apart.values()) < 3e-4, "two steps of 1e-4 from where it was"
