"""The commands as a user gives them: train, go on, look, ask, measure, check; and what users get wrong."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import toy

from polyclock import from_pretrained
from polyclock.cli import COMMANDS, main
from polyclock.train import log

SOURCE = Path(__file__).resolve().parents[2] / "src"
SMALL = ["--batch-size", "4", "--warmup", "1", "--workers", "0", "--validation-batches", "1"]
EVERY = ["--validate-every", "4", "--checkpoint-every", "2", "--log-every", "2"]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return toy.write(tmp_path_factory.mktemp("toy") / "data")


def train(data: Path, out: Path, steps: int, *more: str) -> int:
    return main(["train", "tiny", "--data", str(data), "--out", str(out), "--steps", str(steps), *SMALL, *EVERY, *more])


@pytest.fixture(scope="module")
def trained(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four steps of `tiny`; no test writes to it."""
    out = tmp_path_factory.mktemp("trained") / "run"
    assert train(data, out, 4) == 0
    return out


def sentence(capsys: pytest.CaptureFixture, *words: object) -> str:
    """Run a command that must fail as a user's mistake; what it says."""
    assert main([str(w) for w in words]) == 2
    said = capsys.readouterr().err
    assert said.startswith("polyclock: ") and "Traceback" not in said
    return said.removeprefix("polyclock: ").rstrip("\n")


def info(run: Path, capsys: pytest.CaptureFixture) -> dict:
    capsys.readouterr()
    assert main(["info", str(run), "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_the_same_command_goes_on(data: Path, trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    run = tmp_path / "run"
    shutil.copytree(trained, run, symlinks=True)
    capsys.readouterr()
    assert train(data, run, 8) == 0
    said = capsys.readouterr().out
    assert "resuming at step 4 of 8" in said and "done at step 8" in said
    assert f"cameras  {toy.CAMERA}  from the data" in said and "steps               8" in said
    steps = [row["step"] for row in log.read(run / "log.jsonl") if row["kind"] == "train"]
    assert steps == [2, 4, 6, 8]
    found, before = info(run, capsys), info(trained, capsys)
    assert (found["step"], before["step"]) == (8, 4) and found["sha256"] != before["sha256"]
    # Without steps left, nothing changes.
    assert train(data, run, 8) == 0
    assert info(run, capsys)["sha256"] == found["sha256"]


def test_other_settings_do_not_go_on(data: Path, trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    run = tmp_path / "run"
    shutil.copytree(trained, run, symlinks=True)
    words = ["train", "tiny", "--data", data, "--out", run, "--steps", "8", *SMALL, *EVERY]
    assert "cannot be resumed because training.lr" in sentence(capsys, *words, "--lr", "0.1")
    assert "cannot be resumed because facts" in sentence(capsys, *words, "--horizon", "2")
    assert "cannot be resumed because facts" in sentence(capsys, *words, "--hold-out", "none")


def test_info_tells_what_the_run_is(trained: Path, capsys: pytest.CaptureFixture) -> None:
    found = info(trained, capsys)
    assert found["recipe"] == "tiny" and found["step"] == 4 and len(found["sha256"]) == 64
    assert found["modalities"]["video"]["shape"] == [4, 16, 16, 3]
    assert found["modalities"]["video"]["column"] == toy.CAMERA
    assert found["modalities"]["action"]["shape"] == [4, 2] and found["conditions"]["text"]["kind"] == "text"
    assert found["patterns"] and all(isinstance(p, str) for p in found["patterns"])
    assert found["data"]["held_out"] == [2] and found["data"]["episodes"] == [0, 1] and found["data"]["windows"] == 80
    assert found["best"]["step"] == 4 and found["versions"]["polyclock"]
    assert main(["info", str(trained)]) == 0
    said = capsys.readouterr().out
    assert found["sha256"] in said and found["patterns"][0] in said
    # A model folder stands for itself.
    assert info(Path(found["model"]), capsys)["sha256"] == found["sha256"]


def test_a_damaged_model_is_no_traceback(trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    model = tmp_path / "model"
    shutil.copytree(trained / "model", model)
    weights = (model / "model.safetensors").read_bytes()
    (model / "model.safetensors").write_bytes(weights[:1000])
    assert f"{model} is damaged" in sentence(capsys, "info", model)
    (model / "model.safetensors").write_bytes(weights)
    (model / "config.json").write_text("{")
    assert f"{model} is damaged" in sentence(capsys, "info", model)
    # Of a run, the newest whole checkpoint counts, and the damaged one is named.
    run = tmp_path / "run"
    shutil.copytree(trained, run, symlinks=True)
    (run / "checkpoints" / "step-00000004" / "ema.safetensors").write_bytes(b"no")
    assert info(run, capsys)["step"] == 2


def test_codecs_are_fitted_on_the_training_episodes_alone(data: Path, trained: Path) -> None:
    from polyclock import from_pretrained, open_dataset

    dataset = open_dataset(data)
    fitted = from_pretrained(trained / "model").recipe.modalities["action"].codec
    assert _equal(fitted, type(fitted)().fit(list(dataset.only([0, 1]).column("action"))))
    assert not _equal(fitted, type(fitted)().fit(list(dataset.column("action"))))


def _equal(a: object, b: object) -> bool:
    from polyclock.plain import to_plain

    first: dict = {}
    second: dict = {}
    same = to_plain(a, first) == to_plain(b, second)
    return same and all(bool((first[n] == second[n]).all()) for n in first)


def test_a_query_from_a_data_set(data: Path, trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    out = tmp_path / "out"
    query = "video[1:], action | video[:1], state, text"
    words = ["--data", data, "--at", "1.5", "--count", "2", "--steps", "2", "--guide", "weight=1,drop=text+state"]
    assert main(["sample", str(trained), query, "--out", str(out), *map(str, words)]) == 0
    said = capsys.readouterr().out
    names = ["query.json", "video.npz", "video.mp4", "video.png", "action.npz"]
    assert [line.rsplit("/", 1)[-1] for line in said.splitlines() if line.startswith("wrote")] == names
    assert sorted(p.name for p in out.iterdir()) == sorted(names)
    video, action = (np.load(out / f"{n}.npz", allow_pickle=False)["values"] for n in ("video", "action"))
    assert video.shape == (2, 4, 16, 16, 3) and video.dtype == np.uint8 and action.shape == (2, 4, 2)
    assert (video[0, 0] == video[1, 0]).all() and (video[0, 1] != video[1, 1]).any(), (
        "given, and two samples of the rest"
    )
    note = json.loads((out / "query.json").read_text())
    assert note["query"] == query and note["step"] == 4
    words += ["--negative", "break it", "--out", tmp_path / "no"]
    assert main(["sample", str(trained), query, *map(str, words)]) == 0
    assert json.loads((tmp_path / "no" / "query.json").read_text())["negative"] == "break it"
    assert (np.load(tmp_path / "no" / "video.npz")["values"] != video).any()


def test_a_query_from_files(trained: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    from polyclock import open_dataset

    dataset = open_dataset(data)
    np.save(tmp_path / "action.npy", np.concatenate(list(dataset.only([2]).column("action")))[:4])
    clip = sorted((data / "videos").rglob("*.mp4"))[2]
    given = ["--given", f"action={tmp_path / 'action.npy'}", "--given", f"video={clip}@2", "--given", "text=push"]
    for name, seed in (("a", "1"), ("b", "1"), ("c", "2")):
        words = ["action[k:] | action[:k], video, text", "--set", "k=2", "--out", str(tmp_path / name), "--seed", seed]
        assert main(["sample", str(trained), *words, *given, "--steps", "2"]) == 0
    a, b, c = (np.load(tmp_path / n / "action.npz", allow_pickle=False)["values"] for n in "abc")
    assert (a == b).all() and (a[:, :2] == c[:, :2]).all() and (a[:, 2:] != c[:, 2:]).any()
    assert np.allclose(a[0, :2], np.load(tmp_path / "action.npy", allow_pickle=False)[:2], atol=1e-5)


def test_a_run_is_measured_and_reported(
    data: Path, trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    run = tmp_path / "run"
    shutil.copytree(trained, run, symlinks=True)
    capsys.readouterr()
    words = ["evaluate", str(run), "--data", str(data), "--steps", "2", "--stride", "5"]
    assert main([*words, "--json", "--windows", "4", "--probes", "consistency,calibration"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found == json.loads((run / "evaluation.json").read_text())
    assert found["data"]["windows"] == 4 and list(found["probes"]) == ["consistency", "calibration"]
    assert found["data"]["episodes"] == [2] and found["about"]["step"] == 4
    assert {"policy", "forward"} <= set(found["questions"]) and "action.error" in found["questions"]["policy"]["errors"]
    assert found["notes"][0].startswith("the checkpoint is the best of its run on the episodes asked about")
    # A run without a note of what it held out, a model folder say, must be told.
    assert "name them: --episodes" in sentence(capsys, "evaluate", run / "model", "--data", data)
    assert main(["evaluate", str(run), "--data", str(data), "--episodes", "1", "--only", "policy", "--steps", "1",
                 "--probes", "none", "--out", str(tmp_path / "seen.json")]) == 0  # fmt: skip
    notes = json.loads((tmp_path / "seen.json").read_text())["notes"]
    assert notes[0] == "the run was trained on episode 1 of those asked about" and "checkpoint" not in notes[1]
    assert "Did you mean 'policy'" in sentence(capsys, *words, "--only", "polcy")
    # Another data set is held out as a whole.
    toy.write(tmp_path / "other", episodes=2)
    other = ["evaluate", str(run), "--data", str(tmp_path / "other"), "--only", "policy", "--steps", "1", "--windows",
             "4", "--probes", "none", "--json", "--out", str(tmp_path / "other.json")]  # fmt: skip
    assert main([*other, "--training", str(data)]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["data"]["episodes"] == [0, 1] and not any("other data" in note for note in found["notes"])
    assert "the same data as --data" in sentence(capsys, *other, "--training", tmp_path / "other")
    assert main([*other, "--episodes", "0"]) == 0
    assert "other data than the run was trained on" in json.loads(capsys.readouterr().out)["notes"][0]
    assert "unknown probe 'horizons'" in sentence(capsys, *words, "--probes", "horizons")
    assert "--world metaworld/TASK" in sentence(capsys, *words, "--probes", "counterfactual")
    assert "unknown world 'mars'" in sentence(capsys, *words, "--world", "mars")
    assert main(["report", str(run), "--data", str(data), "--count", "1", "--steps", "1"]) == 0
    page = (run / "report.html").read_text()
    assert "<html" in page and "copy last frame" in page
    assert "is not there" in sentence(capsys, "report", run, "--data", tmp_path / "nothing")


def test_what_is_wrong_with_a_query(trained: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    def ask(query: str, *words: object) -> str:
        said = sentence(capsys, "sample", trained, query, "--out", tmp_path / "out", *words)
        assert not (tmp_path / "out").exists()
        return said

    said = ask("action | vidoe", "--data", data)
    assert said.splitlines()[1:] == ["  action | vidoe", "           ^^^^^"] and "Did you mean 'video'" in said
    assert "needs --given video=CLIP.mp4" in ask("action | video")
    assert "Did you mean 'video'" in ask("action | video", "--given", "vido=x.mp4")
    assert "unknown name in --given" in ask("action | video", "--given", "state=x.npy")
    assert "x.mp4 is not there" in ask("action | video", "--given", "video=x.mp4")
    assert "bind the free name(s) k first" in ask("action[k:] | action[:k]")
    assert "--set 'k' must be NAME=WHOLE NUMBER" in ask("action[k:] | action[:k]", "--set", "k")
    assert "unknown name in a Guide 'txt'" in ask("action | text", "--given", "text=a", "--guide", "weight=1,drop=txt")
    assert "must have a weight" in ask("action |", "--guide", "drop=text")
    guide = ["--guide", "weight=1,drop=state", "--negative", "ugly"]
    assert "no --guide drops a text; texts of this model: text" in ask("action | state", "--data", data, *guide)
    assert "outside episode" in ask("action | video", "--data", data, "--at", "99")
    assert "unknown flag '--ouput'. Did you mean '--out'" in ask("action |", "--ouput", "x")


def test_what_is_wrong_with_a_training(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def start(recipe: object, *words: object) -> str:
        said = sentence(capsys, "train", recipe, "--data", data, "--out", tmp_path / "run", *words)
        assert not (tmp_path / "run" / "run.json").exists() and "\n" not in said
        return said

    assert "unknown flag '--stpes'. Did you mean '--steps'" in start("tiny", "--stpes", "3")
    assert "unknown recipe 'tinny'. Did you mean 'tiny'" in start("tinny")
    (tmp_path / "tiny").mkdir()
    monkeypatch.chdir(tmp_path)  # a folder of that name does not hide the recipe
    assert "unknown flag '--stpes'" in start("tiny", "--stpes", "3")
    assert "neither checkpoints nor config.json" in start("./tiny")
    assert "unknown column for 'action': 'acton'. Did you mean 'action'" in start("tiny", "--action", "acton")
    assert "episode 9 is not in the data" in start("tiny", "--hold-out", "9")
    assert "'two' does not name episodes" in start("tiny", "--hold-out", "two")
    assert "steps=0 must be a whole number" in start("tiny", "--steps", "0")
    assert "'many' is no whole number" in start("tiny", "--steps", "many")
    assert "the file there.py is not there" in start("there.py:mine")
    assert "there is not there" in sentence(capsys, "train", "tiny", "--data", "there", "--out", tmp_path / "run")
    assert "required: --out" in sentence(capsys, "train", "tiny", "--data", data)
    assert "the device 'gpu' cannot be used" in start("tiny", "--device", "gpu")
    (tmp_path / "file").touch()
    assert "File exists" in sentence(capsys, "train", "tiny", "--data", data, "--out", tmp_path / "file", "--no-cache")
    assert "unknown command 'trian'. Did you mean 'train'" in sentence(capsys, "trian")
    assert "is not there; a run folder" in sentence(capsys, "info", tmp_path / "nothing")
    assert "has neither checkpoints nor config.json" in sentence(capsys, "info", data)


def test_training_goes_on_from_a_model(
    data: Path, trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    words = ["train", str(trained), "--data", str(data), "--out", str(tmp_path / "tuned"), "--steps", "1", *SMALL]
    assert main([*words, "--lr", "1e-12"]) == 0
    before, after = (from_pretrained(f / "model").state_dict() for f in (trained, tmp_path / "tuned"))
    for name, value in before.items():
        torch.testing.assert_close(after[name], value, rtol=0, atol=1e-6)
    old, new = (json.loads((f / "run.json").read_text())["facts"] for f in (trained, tmp_path / "tuned"))
    assert new["recipe"] == old["recipe"] and new["codecs"] == old["codecs"] and new["weights"]
    assert "neither checkpoints nor" in sentence(capsys, "train", tmp_path, "--data", data, "--out", tmp_path / "x")


def test_a_recipe_of_the_users_own(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    path = tmp_path / "mine.py"
    path.write_text(
        "from polyclock.recipes import tiny\n\n\n"
        "def small(*, rate: float, fps: float = 0.0, seed: int = 0):  # one line\n"
        "    return tiny(rate=rate * fps / 10, cameras=('observation.images.front',), seed=seed)\n\n\n"
        "def nothing():\n    return 3\n\n\ndef clash(*, lr: float = 1.0):\n    return 3\n"
    )
    words = ["train", f"{path}:small", "--data", str(data), "--out", str(tmp_path / "run"), "--steps", "1", *SMALL]
    assert main([*words, "--rate", "2.5", "--seed", "3"]) == 0
    assert "fps   10" in capsys.readouterr().out
    found = info(tmp_path / "run", capsys)
    assert found["modalities"]["video"]["rate"] == 2.5 and found["training"]["seed"] == 3
    out = ["--data", data, "--out", tmp_path / "other"]
    assert "required: --rate" in sentence(capsys, *words)
    assert "nothing returned a int; it must return a Recipe" in sentence(capsys, "train", f"{path}:nothing", *out)
    assert "'lr' is a setting of the training too" in sentence(capsys, "train", f"{path}:clash", *out)
    assert "Did you mean 'small'" in sentence(capsys, "train", f"{path}:smal", *out)


def test_a_bug_keeps_its_traceback(data: Path, tmp_path: Path) -> None:
    path = tmp_path / "broken.py"
    path.write_text("def broken():\n    return int('three')\n")
    with pytest.raises(ValueError, match="invalid literal"):
        main(["train", f"{path}:broken", "--data", str(data), "--out", str(tmp_path / "run")])


def test_a_data_set_is_looked_at_and_checked(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    assert main(["data", "info", str(data), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["episodes"] == 3 and found["frames"] == 120 and list(found["cameras"]) == [toy.CAMERA]
    assert main(["data", "verify", str(data)]) == 0
    assert "no faults" in capsys.readouterr().out
    assert main(["data", "show", str(data), "--out", str(tmp_path / "show")]) == 0
    assert len(list((tmp_path / "show").glob("*.png"))) == 3
    merged = tmp_path / "merged"
    assert main(["data", "compact", str(data), "--out", str(merged)]) == 0
    assert len(list((merged / "videos").rglob("*.mp4"))) == 1
    capsys.readouterr()
    torn = tmp_path / "torn"
    shutil.copytree(data, torn)
    video = sorted((torn / "videos").rglob("*.mp4"))[1]
    video.write_bytes(video.read_bytes()[:-900])
    assert main(["data", "verify", str(torn)]) == 1
    said = capsys.readouterr().out
    assert f"{video.relative_to(torn)}, episode 1" in said and "fault" in said.splitlines()[-1]
    assert "Did you mean 'verify'" in sentence(capsys, "data", "verfy", data)
    assert "is not there" in sentence(capsys, "data", "info", tmp_path / "nothing")


def test_help_needs_no_torch() -> None:
    code = (
        "import sys; from polyclock.cli import main\n"
        f"for words in {[[], *[[c] for c in COMMANDS], ['data', 'verify']]}:\n"
        "    assert main([*words, '--help']) == 0, words\n"
        "assert 'torch' not in sys.modules and 'numpy' not in sys.modules and 'rich' not in sys.modules"
    )
    environment = {**os.environ, "PYTHONPATH": str(SOURCE)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    for name in COMMANDS:
        assert f"polyclock {name}" in done.stdout or name in done.stdout
    assert "--time-limit" in done.stdout and "The smallest recipe" in done.stdout


def test_help_of_a_recipe_lists_its_arguments(capsys: pytest.CaptureFixture) -> None:
    assert main(["train", "tiny", "--help"]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "--horizon N frames and action steps [4]" in said and "--batch-size N" in said


@pytest.mark.slow
def test_two_processes_are_one_command(data: Path, tmp_path: Path) -> None:
    words = ["train", "tiny", "--data", str(data), "--out", str(tmp_path / "run"), "--steps", "2", *SMALL, *EVERY]
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    environment = {**os.environ, "PYTHONPATH": str(SOURCE), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [*command, "-m", "polyclock.cli", *words], env=environment, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("recipe tiny") == 1 and done.stdout.count("done at step 2") == 1
