"""A world whose answers are known, learnt by one small network: the example, run as a reader would."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLE = Path(__file__).parents[1] / "examples" / "00_known_world.py"


@pytest.mark.slow
def test_one_network_answers_every_question_of_the_known_world():
    run = subprocess.run([sys.executable, str(EXAMPLE)], capture_output=True, text=True, timeout=1200)
    assert run.returncode == 0, run.stderr
    answers = json.loads(run.stdout.splitlines()[-1])
    assert answers["forward"] < 0.1
    assert answers["inverse"] < 0.05
    assert answers["joint"] < 0.1
    assert 0.9 < answers["policy_abs"] < 1.1
    assert answers["policy_tv"] <= 0.05
