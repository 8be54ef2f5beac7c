"""The command under torchrun: two processes start a run, a signal ends it, one process finishes it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FIXTURE = ROOT / "tests" / "fixtures" / "lerobot_v3"


def command(out: Path, steps: int) -> list[str]:
    words = ["polyclock.cli", "train", "tiny", "--data", str(FIXTURE), "--out", str(out), "--steps", str(steps)]
    return [*words, "--batch-size", "4", "--log-every", "10", "--checkpoint-every", "1000", "--schedule", "constant"]


@pytest.mark.slow
def test_started_by_two_ended_by_a_signal_finished_by_one(tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src"), "OMP_NUM_THREADS": "1"}
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m"]
    with subprocess.Popen([*torchrun, *command(tmp_path, 1_000_000)], env=environment) as process:
        until = time.monotonic() + 120
        log = tmp_path / "log.jsonl"
        while not log.exists() or not log.read_text():
            assert process.poll() is None and time.monotonic() < until
            time.sleep(0.1)
        process.send_signal(signal.SIGTERM)
        process.wait(60)
    (folder,) = (tmp_path / "checkpoints").iterdir()
    state = json.loads((folder / "state.json").read_text())
    assert state["processes"] == 2 and state["step"] >= 10
    more = command(tmp_path, 1_000_000)
    with subprocess.Popen([sys.executable, "-m", *more, "--time-limit", "0.02"], env=environment) as process:
        assert process.wait(120) == 0
    newest = max((tmp_path / "checkpoints").iterdir())
    ended = json.loads((newest / "state.json").read_text())
    assert ended["processes"] == 1 and ended["step"] > state["step"]
    steps = [row["step"] for row in map(json.loads, log.read_text().splitlines()) if row["kind"] == "train"]
    assert steps == list(range(10, steps[-1] + 1, 10))
