"""The examples on real episodes, run as a reader would."""

import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[1] / "examples"


def run(name: str, *words: object) -> str:
    command = [sys.executable, "-W", "ignore", str(EXAMPLES / name), *map(str, words)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
def test_train_then_ask(real_data, tmp_path):
    data = real_data / "g1_pick_bottle"
    assert "20 steps; validation loss" in run("01_train.py", data, tmp_path / "run", "--steps", 20)
    answers = run("02_queries.py", tmp_path / "run", data)
    assert len(answers.splitlines()) == 6 and "forward dynamics" in answers


@pytest.mark.slow
def test_a_model_acts(tmp_path):
    command = [sys.executable, str(EXAMPLES / "04_act.py"), "--model", str(tmp_path / "none")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600)
    assert done.returncode == 1 and "none is not there" in done.stderr and "Traceback" not in done.stderr
    pytest.importorskip("metaworld")
    if not (EXAMPLES.parent / "checkpoints" / "tabletop").is_dir():
        pytest.skip("this checkout has no shipped model")
    assert "wrote" in run("04_act.py", "--episodes", 1, "--out", tmp_path / "act.mp4")


@pytest.mark.slow
def test_a_new_modality_is_learnt(real_data):
    out = run("03_a_new_modality.py", real_data / "g1_pick_bottle")
    assert float(out.split()[-1]) > 0.2
