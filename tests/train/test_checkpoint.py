"""Checkpoint folders: whole or not there, whatever happens while they are written; damage is found before use."""

from __future__ import annotations

import resource
import signal
from functools import partial
from pathlib import Path

import pytest
import torch
from standin import Dying, end, in_child

from polyclock.errors import disk_full
from polyclock.train import checkpoint
from polyclock.train.checkpoint import Files


def fill(folder: Path, size: int = 100, files: Files | None = None) -> None:
    (folder / "model").mkdir()
    (folder / "model" / "config.json").write_text("{}")
    (files or Files()).write_tensors(folder / "weights.safetensors", {"w": torch.arange(float(size))})
    (folder / "state.json").write_text('{"step": 1}')


def write(root: Path, *steps: int, keep: int = 9) -> None:
    for step in steps:
        checkpoint.write(root, step, fill, keep=keep)


def names(root: Path) -> list[str]:
    return sorted(path.name for path in root.iterdir())


def test_only_the_newest_are_kept(tmp_path: Path) -> None:
    write(tmp_path, 5, 10, 100_000_000, 7, keep=2)
    assert names(tmp_path) == ["step-00000010", "step-100000000"]
    assert checkpoint.newest(tmp_path) == tmp_path / "step-100000000"


def test_a_checkpoint_that_cannot_be_removed_does_not_stop_the_run(tmp_path: Path) -> None:
    class Stuck(Files):
        def remove(self, folder: Path) -> None:
            raise PermissionError(folder)

    write(tmp_path, 1, 2)
    checkpoint.write(tmp_path, 3, fill, keep=1, files=Stuck())
    assert checkpoint.newest(tmp_path) == tmp_path / "step-00000003"
    checkpoint.recover(tmp_path)
    assert names(tmp_path) == ["step-00000003"]


def test_one_flipped_bit_in_any_file_is_found(tmp_path: Path) -> None:
    write(tmp_path, 1)
    folder = tmp_path / "step-00000001"
    assert checkpoint.fault(folder) is None
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert len(files) == 4
    for path in files:
        whole = path.read_bytes()
        for place in (*range(0, len(whole), max(1, len(whole) // 40)), len(whole) - 1):
            for bit in (0, 5):
                broken = bytearray(whole)
                broken[place] ^= 1 << bit
                path.write_bytes(broken)
                assert checkpoint.fault(folder), f"bit {bit} of byte {place} of {path.name}"
        path.write_bytes(whole[:-1])
        assert checkpoint.fault(folder), f"{path.name} cut"
        path.unlink()
        assert "missing" in str(checkpoint.fault(folder))
        path.write_bytes(whole)
    (folder / "more.txt").write_text("")
    assert checkpoint.fault(folder) == "more.txt is not in manifest.json"


def test_a_damaged_newest_is_passed_over_and_set_aside(tmp_path: Path) -> None:
    write(tmp_path, 1, 2, 3)
    (tmp_path / "step-00000003" / "weights.safetensors").write_bytes(b"")
    (tmp_path / "step-00000002" / "manifest.json").unlink()
    said: list[str] = []
    assert checkpoint.recover(tmp_path, said.append) == tmp_path / "step-00000001"
    assert "step-00000003 is not used: weights.safetensors is damaged" in said[0]
    assert "step-00000002 is not used: manifest.json is missing" in said[1]
    assert names(tmp_path) == ["step-00000001", "step-00000002.damaged", "step-00000003.damaged"]
    write(tmp_path, 2, 3)
    assert checkpoint.newest(tmp_path) == tmp_path / "step-00000003"


def test_when_none_is_whole_nobody_starts_again_in_silence(tmp_path: Path) -> None:
    assert checkpoint.recover(tmp_path / "nothing") is None
    write(tmp_path, 1)
    (tmp_path / "step-00000001" / "state.json").write_text("{}")
    with pytest.raises(ValueError, match="none of the 1 checkpoints in .* is whole"):
        checkpoint.recover(tmp_path, lambda text: None)
    assert names(tmp_path) == ["step-00000001"]


def write_and_die(root: Path, step: int, count: int) -> int:
    """Write a checkpoint in a child that dies before operation `count`; how the child ended."""
    files = Dying(count)
    return end(in_child(lambda: checkpoint.write(root, step, lambda f: fill(f, 50, files), keep=1, files=files)))


@pytest.mark.parametrize("step", [2, 1])
def test_a_kill_between_any_two_operations_loses_nothing(tmp_path: Path, step: int) -> None:
    """Step 2 is new, step 1 replaces what is there; `keep` makes the write remove a folder too."""
    survived = 0
    for count in range(60):
        root = tmp_path / str(count)
        write(root, 0, 1)
        status = write_and_die(root, step, count)
        assert status in (0, -signal.SIGKILL)
        found = checkpoint.recover(root, lambda text: pytest.fail(text))
        assert found is not None and found.name in ("step-00000001", f"step-{step:08d}")
        assert not list(root.glob(".*")), "something was left behind"
        survived += status == 0
        if survived:
            break
    assert survived == 1 and count > 10


def test_everything_is_on_the_disk_before_it_gets_its_name(tmp_path: Path) -> None:
    class Watched(Files):
        events: list[tuple[str, str]] = []

        def sync(self, path: Path) -> None:
            super().sync(path)
            self.events.append(("sync", path.name))

        def rename(self, old: Path, new: Path) -> None:
            super().rename(old, new)
            self.events.append(("rename", new.name))

    checkpoint.write(tmp_path, 1, fill, keep=1, files=Watched())
    done = Watched.events
    at = done.index(("rename", "step-00000001"))
    before = {name for kind, name in done[:at] if kind == "sync"}
    inside = {"config.json", "weights.safetensors", "state.json", "manifest.json", "model", ".new-step-00000001"}
    assert before == inside
    assert done[at + 1] == ("sync", tmp_path.name)
    assert done.index(("sync", "manifest.json")) > done.index(("sync", "weights.safetensors"))


@pytest.mark.parametrize("large", ["tensors", "text"])
def test_a_full_disk_costs_only_the_new_checkpoint(tmp_path: Path, large: str) -> None:
    write(tmp_path, 1)

    def too_much() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
        files = Files()

        def heavy(folder: Path) -> None:
            if large == "tensors":
                fill(folder, 1_000_000)
            else:
                files.write(folder / "state.json", "x" * 4_000_000)

        try:
            checkpoint.write(tmp_path, 2, heavy, keep=1, needed=4_000_000)
        except OSError as error:
            text = str(error)
            assert "the checkpoint of step 2 could not be written" in text and "about 4,000,000 bytes" in text
            assert "the checkpoint of step 1 is untouched" in text
            raise SystemExit(7) from None

    assert end(in_child(too_much)) == 7
    assert names(tmp_path) == ["step-00000001"]
    assert checkpoint.fault(tmp_path / "step-00000001") is None


def test_no_space_left_is_told_from_other_failures() -> None:
    assert disk_full(OSError(28, "No space left on device")) == 28
    assert disk_full(RuntimeError("I/O error: No space left on device (os error 28)")) == 28
    assert disk_full(PermissionError(13, "denied")) is None
    assert disk_full(ValueError("bad")) is None


def test_text_is_replaced_whole(tmp_path: Path) -> None:
    path = tmp_path / "run.json"
    path.write_text("old")
    for count in range(5):
        files = Dying(count)
        status = end(in_child(partial(checkpoint.replace_text, path, "new", files)))
        assert path.read_text() == ("old" if count < 3 else "new")
        assert (status == 0) == (count == 4)
        path.write_text("old")
