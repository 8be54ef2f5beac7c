"""Kill a training run many times and show that nothing is lost: `python runs/kill.py` writes runs/results/kill.json.

Half of the kills come from outside at a random moment, half from inside, between two file operations of a checkpoint
(before a write, with the file left torn, before an fsync, a rename or a removal). After each kill the same call
resumes. At the end weights, average, optimizer state, order of samples and log must be those, to the bit, of a run
that was never killed.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor

from polyclock.data import Sample
from polyclock.recipes import tiny
from polyclock.train import checkpoint, log
from polyclock.train.checkpoint import Files
from polyclock.train.job import recipe_job
from polyclock.train.loop import Job, run
from polyclock.train.settings import Training
from polyclock.train.state import versions

RESULT = Path(__file__).parent / "results" / "kill.json"
SETTINGS = Training(
    steps=600, batch_size=2, lr=1e-3, warmup=10, ema=0.99, validate_every=20, validation_batches=1, checkpoint_every=5,
    keep=2, log_every=10, workers=2, seed=3,
)  # fmt: skip


class Drift:
    """`size` windows in which a square moves by its action; every third has no video."""

    def __init__(self, size: int) -> None:
        self.size = size

    def __len__(self) -> int:
        return self.size

    def __getitem__(self, i: int) -> Sample:
        generator = np.random.default_rng(i)
        action = generator.integers(-2, 3, size=(4, 2)).astype(np.float32)
        place = np.clip(6 + action.cumsum(0), 0, 12)
        video = np.zeros((4, 16, 16, 3), np.uint8)
        for frame, (row, column) in zip(video, place.astype(int), strict=True):
            frame[row : row + 4, column : column + 4] = 255
        values: dict[str, np.ndarray | str] = {"action": action, "state": place[:1].astype(np.float32), "text": "move"}
        return Sample(values=values if i % 3 == 0 else {**values, "video": video}, where=f"window {i}")

    def column(self, key: str) -> Iterator[np.ndarray]:
        name = key.removeprefix("observation.")
        for i in range(self.size):
            value = self[i].values[name]
            assert isinstance(value, np.ndarray)
            yield value


def make_job() -> Job:
    source = Drift(90)
    return recipe_job(tiny().fit(source), source, Drift(8), data={"windows": len(source)})


# ---------------------------------------------------------------- processes that die


class Dying(Files):
    """Ends the process, as kill -9 does, before file operation number `count`; a file being written is left torn.

    note: a file that gets the name of the operation.
    """

    def __init__(self, count: int, note: Path | None = None) -> None:
        self.left = count
        self.note = note

    def _tick(self, name: str, torn: Path | None = None) -> None:
        self.left -= 1
        if self.left >= 0:
            return
        if torn is not None:
            torn.write_bytes(b"torn")
        if self.note is not None:
            self.note.write_text(name)
        os.kill(os.getpid(), signal.SIGKILL)

    def make(self, folder: Path) -> None:
        self._tick("make")
        super().make(folder)

    def write(self, path: Path, text: str) -> None:
        self._tick("write", path)
        super().write(path, text)

    def write_tensors(self, path: Path, tensors: Mapping[str, Tensor]) -> None:
        self._tick("write", path)
        super().write_tensors(path, tensors)

    def sync(self, path: Path) -> None:
        self._tick("fsync")
        super().sync(path)

    def rename(self, old: Path, new: Path) -> None:
        self._tick("rename")
        super().rename(old, new)

    def remove(self, folder: Path) -> None:
        self._tick("remove")
        super().remove(folder)


def in_child(act: Callable[[], object]) -> int:
    """Run `act` in a forked process and return its id; its exit status says whether it raised."""
    sys.stdout.flush()
    pid = os.fork()
    if pid:
        return pid
    status = 1
    try:
        act()
        status = 0
    except SystemExit as leave:
        status = int(leave.code or 0)
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(status)


def end(pid: int, seconds: float = 300) -> int:
    """Wait for a child: its exit status, or minus the signal that ended it. One that hangs is killed."""
    until = time.monotonic() + seconds
    while True:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        if time.monotonic() > until:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            raise TimeoutError(f"the child {pid} hung for {seconds} s")
        time.sleep(0.002)


# ---------------------------------------------------------------- the trial


def noting(job: Job, path: Path) -> Job:
    """The job, with a line [k, samples] added to `path` for each training batch that is handed out."""

    def loader(source: Any, **settings: int) -> Any:
        inner = job.loader(source, **settings)
        if source is not job.source:
            return inner
        given = inner.stream

        def stream(start: int, stop: int) -> Iterator[tuple[int, Any]]:
            for k, batch in given(start, stop):
                numbers = [float(v.double().sum()) for v in batch.values.values() if isinstance(v, Tensor)]
                with path.open("a") as file:
                    file.write(json.dumps([k, numbers]) + "\n")
                yield k, batch

        inner.stream = stream
        return inner

    return replace(job, loader=loader)


def notes(path: Path) -> list[list]:
    """The whole lines of what `noting` wrote."""
    text = path.read_text() if path.exists() else ""
    return [json.loads(line) for line in text[: text.rfind("\n") + 1].splitlines()]


def quiet(act: Callable[[], object]) -> Callable[[], object]:
    """`act` with what it prints thrown away."""

    def silent() -> object:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return act()

    return silent


def wait_for(order: Path, lines: int, step: int, pid: int) -> None:
    """Until the child was handed the batch of `step`, counting only lines after the first `lines`."""
    until = time.monotonic() + 120
    while not any(k >= step for k, _ in notes(order)[lines:]):
        if time.monotonic() > until or os.waitpid(pid, os.WNOHANG)[0]:
            raise RuntimeError(f"the run ended or hung before step {step}; give it more steps")
        time.sleep(0.002)


def trial(job: Job, training: Training, folder: Path, kills: int, seed: int) -> dict[str, Any]:
    """Kill a run `kills` times (half hooked, half random) and compare it with one that was left alone."""
    dice = random.Random(seed)
    begun = time.monotonic()
    whole, parts, order = folder / "whole", folder / "parts", folder / "parts.order"
    assert end(in_child(quiet(lambda: run(noting(job, folder / "whole.order"), training, whole)))) == 0
    hooked_at: Counter[str] = Counter()
    lost, damaged, whole_found = [], 0, 0
    for i in range(kills):
        have = len(notes(order))
        start = newest_step(parts)
        hooked = i % 2 == 0
        files = Dying(dice.randrange(1, 90), folder / "operation") if hooked else Files()
        pid = in_child(quiet(lambda files=files: run(noting(job, order), training, parts, files=files)))
        if not hooked:
            wait_for(order, have, start + dice.randrange(0, 2 * training.checkpoint_every), pid)
            time.sleep(dice.uniform(0, 0.05))
            os.kill(pid, signal.SIGKILL)
        status = end(pid)
        if status != -signal.SIGKILL:
            raise RuntimeError(f"kill {i} came too late: the run ended with {status}; give it more steps")
        if hooked:
            hooked_at[(folder / "operation").read_text()] += 1
        reached = max([k + 1 for k, _ in notes(order)[have:]], default=start)
        lost.append(reached - newest_step(parts))
        faults = [
            checkpoint.fault(path) for kind in ("checkpoints", "best") for _, path in checkpoint.steps(parts / kind)
        ]
        damaged += sum(fault is not None for fault in faults)
        whole_found += len(faults)
    assert end(in_child(quiet(lambda: run(noting(job, order), training, parts)))) == 0
    return {
        "kills": kills,
        "hooked": sum(hooked_at.values()),
        "hooked_at": dict(sorted(hooked_at.items())),
        "random": kills - sum(hooked_at.values()),
        "steps": training.steps,
        "checkpoint_every": training.checkpoint_every,
        "lost_steps_max": max(lost),
        "lost_steps_mean": sum(lost) / len(lost),
        "corrupt_checkpoints_seen": damaged,
        "whole_checkpoints_seen": whole_found,
        "equal": compare(whole, parts, notes(folder / "whole.order"), notes(order)),
        "seconds": round(time.monotonic() - begun, 1),
        "versions": versions(),
    }


def newest_step(out: Path) -> int:
    return max((step for step, _ in checkpoint.steps(out / "checkpoints")), default=0)


def compare(whole: Path, parts: Path, order: list[list], killed_order: list[list]) -> dict[str, bool]:
    """What is the same to the bit. Of the order: every batch, each time it was handed out."""
    ends = [checkpoint.newest(path / "checkpoints") for path in (whole, parts)]
    assert ends[0] is not None and ends[1] is not None and ends[0].name == ends[1].name
    names = {
        "weights": "model/model.safetensors",
        "average": "ema.safetensors",
        "optimizer": "optimizer.safetensors",
    }
    equal = {key: same_tensors(ends[0] / name, ends[1] / name) for key, name in names.items()}
    expected = dict(order)
    equal["order"] = {k for k, _ in killed_order} == expected.keys() and all(expected[k] == v for k, v in killed_order)
    logs = [
        [(row["kind"], row["step"], row["loss"], row["losses"]) for row in log.read(path / "log.jsonl")]
        for path in (whole, parts)
    ]
    equal["log"] = logs[0] == logs[1] and len(logs[0]) > 0
    best = [checkpoint.model_folder(path) for path in (whole, parts)]
    equal["best"] = best[0].parent.name == best[1].parent.name and same_tensors(
        best[0] / "model.safetensors", best[1] / "model.safetensors"
    )
    return equal


def same_tensors(first: Path, second: Path) -> bool:
    a, b = load_file(first), load_file(second)
    return a.keys() == b.keys() and len(a) > 0 and all(torch.equal(a[name], b[name]) for name in a)


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--kills", type=int, default=50)
    arguments.add_argument("--seed", type=int, default=0)
    arguments.add_argument("--out", type=Path, default=RESULT)
    chosen = arguments.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        result = trial(make_job(), SETTINGS, Path(folder), chosen.kills, chosen.seed)
    print(json.dumps(result, indent=1))
    if not all(result["equal"].values()) or result["corrupt_checkpoints_seen"]:
        raise SystemExit("something was lost")
    chosen.out.parent.mkdir(parents=True, exist_ok=True)
    chosen.out.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
