"""`polyclock data verify` on what experts and frozen codecs said: each planted fault is named, by file and episode."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from moving import CAMERA, Moving
from polyclock.cli import main
from polyclock.data import Latents, open_dataset
from polyclock.data.encode import VideoCodec, encode_video
from polyclock.data.verify import verify
from polyclock.experts.annotate import annotate
from polyclock.experts.expert import FEATURES
from polyclock.experts.projected import Projected

sys.path.append(str(Path(__file__).parents[1] / "experts"))
from moving_clips import shifting  # noqa: E402


@dataclass(frozen=True, kw_only=True)
class Colours:
    """uint8 (T, H, W, 3) -> the pixels of every second row and column."""

    modality = FEATURES
    note = {"kind": FEATURES}
    after = 0
    fingerprint = "colours"

    def __call__(self, frames: np.ndarray) -> np.ndarray:
        if frames.mean() < 1:
            raise ValueError("too dark")
        return frames[:, ::2, ::2].astype(np.float32)


@pytest.fixture
def out(tmp_path: Path) -> Path:
    (tmp_path / "clips").mkdir()
    for i in range(3):
        clip = shifting(5, (i, 1), (16, 24)) * (i < 2)
        codec = VideoCodec(encoder="h264", group=4, crf=4)
        encode_video(tmp_path / "clips" / f"{i}.mp4", clip, 10.0, codec)
    experts = {"semantics": Projected(expert=Colours(), components=2), "colours": Colours()}
    annotate(open_dataset(tmp_path / "clips"), str(tmp_path / "clips"), tmp_path / "out", experts)
    kept = Latents(open_dataset(tmp_path / "out"), tmp_path / "out" / "latents", {"column": "video"})
    kept.fill({0: range(5)}, lambda e, rows: np.full((len(rows), 1, 1, 4), 1.0 + e) * np.arange(1, 5))
    return tmp_path / "out"


def faults(out: Path, notes: bool = False) -> list[str]:
    return [str(p).replace(next((out / "latents").glob("*.npy")).stem, "X") for p in verify(out) if p.note == notes]


def test_what_is_whole_has_no_fault(out: Path, capsys: pytest.CaptureFixture) -> None:
    assert faults(out) == []
    assert faults(out, notes=True) == [
        f"quarantine, episode 2: there is no {n}: it failed" for n in ("colours", "semantics")
    ]
    assert main(["data", "verify", str(out)]) == 0 and "no faults" in capsys.readouterr().out
    assert main(["data", "verify", str(out / "latents")]) == 0


def column(out: Path, name: str, episode: int) -> Path:
    return out / "columns" / name / "000" / f"{episode:06d}.npy"


def flip(path: Path, place: int) -> None:
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)


def test_each_planted_fault_is_named(out: Path, capsys: pytest.CaptureFixture) -> None:
    flip(column(out, "semantics", 1), -3)
    column(out, "colours", 0).unlink()
    (path,) = (out / "latents").glob("*.npy")
    flip(path, path.stat().st_size - 10 * 4 * 4 - 14)  # within row 4 of 15
    assert faults(out) == [
        "columns/colours/000/000000.npy, episode 0: is missing",
        "columns/semantics/000/000001.npy, episode 1: is not as it was written: its hash differs",
        "latents/X.npy: row 4 is not as it was written: its checksum differs",
    ]
    assert main(["data", "verify", str(out)]) == 1 and "3 faults" in capsys.readouterr().out


def test_projections_sums_and_leftovers(out: Path) -> None:
    (projection,) = (out / "projections").iterdir()
    projection.write_bytes(b"nothing")
    (sums,) = (out / "latents").glob("*.sums")
    sums.unlink()
    (out / "columns" / "colours" / ".000009.npy.partial").write_bytes(b"")
    (fault,) = faults(out)
    assert fault.startswith(
        f"projections/{projection.name}: semantics: projections/{projection.name} holds no projection"
    )
    notes = faults(out, notes=True)
    assert "latents/X.npy: 5 rows have no checksum, the first is row 0" in notes
    assert "columns/colours/.000009.npy.partial: was left by a killed writer, or is being written" in notes


def test_a_source_that_changed_or_went(out: Path) -> None:
    codec = VideoCodec(encoder="h264", group=4, crf=4)
    encode_video(out.parent / "clips" / "1.mp4", shifting(7, (1, 1), (16, 24)), 10.0, codec)
    stale = [n for n in faults(out, notes=True) if "no longer as it was" in n]
    assert stale == [
        f"records, episode 1: {n} is of an episode that is no longer as it was, or gone"
        for n in ("colours", "semantics")
    ]
    assert faults(out) == []
    (out.parent / "clips").rename(out.parent / "elsewhere")
    assert [f for f in faults(out) if "annotations.json: the source cannot be opened" in f]
    said = json.loads((out / "annotations.json").read_text())
    (out / "annotations.json").write_text(json.dumps(said | {"version": 9}))
    assert faults(out) == ["annotations.json: annotations.json has version 9; this program reads 1"]


def test_a_damaged_record_is_named(out: Path) -> None:
    (path,) = (out / "records").glob("*.jsonl")
    first, rest = path.read_bytes().split(b"\n", 1)
    path.write_bytes(first[:-9] + b"\n" + rest)
    (fault,) = faults(out)
    assert fault.startswith(f"annotations.json: records/{path.name}, line 1, is not JSON")
    with pytest.raises(ValueError, match=f"{path.name}, line 1, is not JSON"):
        open_dataset(out)


def test_rows_beyond_the_array(tmp_path: Path) -> None:
    kept = Latents(Moving(), tmp_path, {"column": CAMERA})
    kept.fill({3: [79]}, lambda e, rows: np.ones((len(rows), 1, 2, 2)))
    np.save(kept.path, np.zeros((8, 1, 2, 2), np.float32))
    assert [p.what for p in verify(tmp_path)] == ["holds 8 rows; row 319 is said to be there"]
    kept.path.write_bytes(b"torn")
    assert verify(tmp_path)[0].what.startswith("cannot be read")
