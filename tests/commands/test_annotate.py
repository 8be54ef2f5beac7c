"""`polyclock annotate`: new columns beside the videos, resumed after a kill; failures are set aside with the reason."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from polyclock.cli import main
from polyclock.commands.annotate import parse_experts
from polyclock.data import Windows, open_dataset
from polyclock.data.encode import VideoCodec, encode_video
from polyclock.experts import annotate as engine
from polyclock.experts.dis import Dis
from polyclock.modality import Signal

pytest.importorskip("cv2")
for folder in ("cli", "experts"):
    sys.path.append(str(Path(__file__).parents[1] / folder))
import toy  # noqa: E402
from moving_clips import shifting  # noqa: E402

STEPS = {"a": (2.0, 0.0), "b": (-1.0, 1.0), "c": (0.0, 0.0)}


@pytest.fixture
def clips(tmp_path: Path) -> Path:
    folder = tmp_path / "clips"
    folder.mkdir()
    for name, step in STEPS.items():
        count, size = (12, (48, 64)) if name == "a" else (10, (56, 72))
        codec = VideoCodec(encoder="h264", group=4, crf=4)
        encode_video(folder / f"{name}.mp4", shifting(count, step, size), 10.0, codec)
    return folder


def run(*words: object) -> int:
    return main(["annotate", *map(str, words)])


def records(out: Path, folder: str = "records") -> list[dict]:
    return [json.loads(line) for p in sorted((out / folder).glob("*.jsonl")) for line in p.read_text().splitlines()]


def test_a_folder_of_videos_gains_columns(clips: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    out = tmp_path / "out"
    assert run(clips, "--experts", "flow,duration?least=1.1,motion", "--out", out) == 0
    said = capsys.readouterr().out
    assert f"{out}: 3 clips, 32 frames by flow, duration, motion" in said and "frames/s" in said
    assert f"2 of 3 clips are marked by filters; {out}?kept=yes opens the others" in said
    found = open_dataset(out)
    assert [e.length for e in found.episodes] == [12, 10, 10] and found.facts.columns["flow"] == (None, None, 3)
    assert found.dense["flow"] == {"kind": "flow", "unit": "px", "scale": 1 / 64, "steps": 1}
    for i, step in enumerate(STEPS.values()):
        flow = found.read(i, "flow", range(3))
        assert np.allclose(flow[:, 12:-12, 12:-12, :2].mean((0, 1, 2)), step, atol=0.15)
        assert (found.read(i, "video", [2]) == open_dataset(clips).read(i, "video", [2])).all()
    half = found.read(0, "flow", [1], (24, 32))
    assert np.allclose(half[:, 6:-6, 6:-6, :2].mean((0, 1, 2)), (1, 0), atol=0.1), "px of the size that is read"
    kept = open_dataset(f"{out}?kept=yes")
    assert [e.index for e in kept.episodes] == [0] and kept.fingerprint != found.fingerprint
    assert found.why(1) == "1 seconds long, at least 1.1 wanted" and "motion" in found.why(2)
    signals = {
        "video": Signal(key="video", kind="video", shape=(2, 24, 32, 3)),
        "flow": Signal(key="flow", kind="video", shape=(2, 24, 32, 3)),
    }
    sample = Windows(found, signals)[0]
    assert sample.values["flow"].dtype == np.float32 and sample.values["video"].dtype == np.uint8
    assert len(list(found.column("flow"))) == 3 and not list((tmp_path / "clips").glob("*.npy"))


def test_what_is_done_is_skipped_and_experts_are_added(
    clips: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    out = tmp_path / "out"
    assert run(clips, "--experts", "flow", "--out", out, "--limit", 2) == 0
    before = {p: p.stat().st_mtime_ns for p in out.rglob("*.mp4")}
    assert len(before) == 2 and not open_dataset(out).has(2, "flow")
    capsys.readouterr()
    assert run(clips, "--experts", "flow", "--experts", "slow=dis?steps=3&preset=fast,quality", "--out", out) == 0
    assert "3 clips, 32 frames" in capsys.readouterr().out
    assert {p: p.stat().st_mtime_ns for p in before} == before, "not made again"
    found = open_dataset(out)
    assert {"flow", "slow"} <= set(found.facts.columns) and found.dense["slow"]["steps"] == 3
    assert np.allclose(found.read(0, "slow", [2])[:, 12:-12, 12:-12, 0].mean(), 6, atol=0.3)
    assert run(clips, "--experts", "flow", "--out", out) == 0
    assert "0 clips, 0 frames by flow; nothing was left to do\n3 clips were done before" in capsys.readouterr().out
    # Another expert of the same name: its answers take the place of the old ones.
    assert run(clips, "--experts", "flow=dis?preset=ultrafast", "--out", out) == 0
    assert "3 clips, 32 frames" in capsys.readouterr().out and len(records(out)) == 12


def test_a_source_that_changed_is_asked_about_again(clips: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    run(clips, "--experts", "flow", "--out", out)
    moved = shutil.move(str(tmp_path), str(tmp_path.parent / f"{tmp_path.name}-moved"))
    clips, out = Path(moved) / "clips", Path(moved) / "out"
    assert open_dataset(out).has(1, "flow"), "found as seen from the folder"
    codec = VideoCodec(encoder="h264", group=4, crf=4)
    encode_video(clips / "b.mp4", shifting(7, (1, 0)), 10.0, codec)
    with pytest.warns(UserWarning, match="1 of 3 annotations are of episodes that are no longer as they were"):
        found = open_dataset(out)
    assert [found.has(i, "flow") for i in range(3)] == [True, False, True]
    run(clips, "--experts", "flow", "--out", out)
    assert len(records(out)) == 4 and open_dataset(out).read(1, "flow", [6]).shape == (1, 48, 64, 3)


def test_a_robot_s_cameras_and_the_size(tmp_path: Path) -> None:
    data, out = toy.write(tmp_path / "data", episodes=2), tmp_path / "out"
    assert run(data, "--experts", "flow,motion", "--size", "16x24", "--out", out) == 0
    found = open_dataset(out)
    assert found.facts.columns["observation.flow.front"] == (16, 24, 3) and found.facts.action_dim == 2
    assert found.read(1, "action", [3]).shape == (1, 2) and found.read(1, "observation.flow.front", [3]).std() > 0
    truth = tmp_path / "truth"
    assert run(f"{out}", "--experts", "flow", "--out", truth) == 2, "the column is there already"


def test_joints_are_kept_in_pixels_of_the_stored_picture(tmp_path: Path) -> None:
    """An expert sees 16 x 24; what the data set holds is measured in pictures of 32 x 32."""

    class Corner:
        modality, after, fingerprint = "skeleton", 0, "corner"
        note = {"kind": "skeleton", "unit": "px", "joints": ["corner"]}

        def __call__(self, frames: np.ndarray) -> np.ndarray:
            return np.tile(np.float32([frames.shape[2], frames.shape[1], 1]), (len(frames), 1, 1))

    data = toy.write(tmp_path / "data", episodes=1)
    out = tmp_path / "out"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(engine, "fields", lambda _: ())
        patch.setattr(engine, "settings", lambda _: {})
        engine.annotate(open_dataset(data), str(data), out, {"skeleton": Corner()}, size=(16, 24))
    found = open_dataset(out).read(0, "observation.skeleton.front", [0, 39])
    assert found.dtype == np.float32 and found.tolist() == [[[32, 32, 1]]] * 2


def test_shards_share_the_work(clips: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert run(clips, "--experts", "flow", "--shard", "1/2", "--out", out) == 0
    assert [open_dataset(out).has(i, "flow") for i in range(3)] == [False, True, False]
    assert run(clips, "--experts", "flow", "--shard", "0/2", "--out", out) == 0
    assert [open_dataset(out).has(i, "flow") for i in range(3)] == [True, True, True]
    assert run(clips, "--experts", "flow", "--out", out) == 0 and len(records(out)) == 3, "however they were shared"


def test_what_fails_is_set_aside_with_the_reason(
    clips: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    out, call = tmp_path / "out", Dis.__call__

    def stumbles(self: Dis, frames: np.ndarray) -> np.ndarray:
        if frames.shape[1] == 48:
            raise RuntimeError("stumbled\nover a stone")
        return call(self, frames)

    monkeypatch.setattr(Dis, "__call__", stumbles)
    assert run(clips, "--experts", "flow,quality", "--out", out) == 1
    assert f"1 answers are lacking: {out / 'quarantine'} says why; --retry asks again" in capsys.readouterr().out
    (entry,) = records(out, "quarantine")
    assert (entry["episode"], entry["name"], entry["why"]) == (0, "flow", "RuntimeError: stumbled over a stone")
    found = open_dataset(out)
    assert not found.has(0, "flow") and found.has(1, "flow") and not list(out.rglob(".*"))
    monkeypatch.setattr(Dis, "__call__", call)
    assert run(clips, "--experts", "flow,quality", "--out", out) == 1, "it stays there"
    assert run(clips, "--experts", "flow,quality", "--out", out, "--retry") == 0
    assert open_dataset(out).has(0, "flow")
    assert run(clips, "--experts", "flow,quality", "--out", out) == 0, "and it is done"


def test_a_clip_s_size_is_that_of_its_file_whatever_is_shown(clips: Path, tmp_path: Path) -> None:
    assert run(clips, "--experts", "resolution?least=50", "--size", "32x32", "--out", tmp_path / "out") == 0
    assert [r["values"]["side"] for r in records(tmp_path / "out")] == [48, 56, 56]
    assert [bool(r["why"]) for r in records(tmp_path / "out")] == [True, False, False]


def test_a_clip_in_pieces_is_the_same_as_whole(clips: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run(clips, "--experts", "flow=dis?steps=2", "--out", tmp_path / "whole")
    monkeypatch.setattr(engine, "PIECE", 5)
    monkeypatch.setattr(engine, "HELD", 0)
    run(clips, "--experts", "flow=dis?steps=2", "--out", tmp_path / "pieces")
    whole, pieces = (open_dataset(tmp_path / n).read(0, "flow", range(12)) for n in ("whole", "pieces"))
    assert (whole == pieces).all() and whole[:10].std() > 0
    monkeypatch.setattr(engine, "WHOLE", 1000)
    assert run(clips, "--experts", "quality", "--out", tmp_path / "large") == 1
    assert "must see all 12 frames at once" in records(tmp_path / "large", "quarantine")[0]["why"]


@pytest.mark.slow
def test_a_kill_at_any_moment_leaves_what_is_finished(clips: Path, tmp_path: Path) -> None:
    """Killed right before and right after an answer takes its place: afterwards all is there once and readable."""
    out = tmp_path / "out"
    code = (
        "import os, signal, sys; from polyclock.data import files; from polyclock.cli import main\n"
        "def hook(text):\n    if text == sys.argv[2]: os.kill(os.getpid(), signal.SIGKILL)\n"
        "files.hook = hook\n"
        "sys.exit(main(['annotate', sys.argv[1], '--experts', 'flow', '--out', sys.argv[3]]))"
    )
    for moment in ("synced 000001.mp4", "renamed 000001.mp4"):
        done = subprocess.run([sys.executable, "-c", code, str(clips), moment, str(out)], timeout=120)
        assert done.returncode == -signal.SIGKILL
        found = open_dataset(out)
        assert [found.has(i, "flow") for i in range(3)] == [True, False, False]
    log = out / "records" / "0-of-1.jsonl"
    log.write_bytes(log.read_bytes() + b'{"episode": 1, "na')  # a line torn by a kill
    assert open_dataset(out).has(0, "flow")
    assert run(clips, "--experts", "flow", "--out", out) == 0
    assert [r["episode"] for r in records(out)] == [0, 1, 2]
    assert [len(c) for c in open_dataset(out).column("flow")] == [12, 10, 10] and not list(out.rglob(".*"))


def test_one_process_works_on_a_shard(clips: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    from polyclock.data.annotation import Log

    out = tmp_path / "out"
    run(clips, "--experts", "flow", "--out", out, "--limit", 1)
    held = Log(out / "records" / "0-of-1.jsonl", "x")
    capsys.readouterr()
    assert run(clips, "--experts", "flow", "--out", out) == 2
    assert "another process is at work on shard 0/1" in capsys.readouterr().err
    held.close()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--experts", "flaw"], "unknown expert 'flaw'. Did you mean 'flow'"),
        (["--experts", "flow?prest=fast"], "unknown setting of dis: 'prest'. Did you mean 'preset'"),
        (["--experts", "flow?steps=two"], "setting steps of dis: 'two' is no whole number"),
        (["--experts", "flow=dis:file.pt"], "dis has no weights"),
        (["--experts", "depth"], "depth_anything needs weights, a folder with config.json"),
        (["--experts", "raft"], "RAFT's network must be given"),
        (["--experts", "densepose:none.pt"], "none.pt is not there; DensePose's network must be given"),
        (["--experts", "depth=depth_anything:no/such/place"], "neither a folder that is here nor a hub's name"),
        (["--experts", "flow,flow"], "two would be called 'flow'"),
        (["--experts", "a b"], "must be [NAME=]EXPERT"),
        (["--experts", "flow", "--cameras", "vidoe"], "unknown camera 'vidoe'. Did you mean 'video'"),
        (["--experts", "video=dis"], "the data have a column 'video' already"),
        (["--experts", "flow", "--size", "16"], "--size '16' must be height x width"),
        (["--experts", "flow", "--shard", "2/2"], "--shard '2/2' must be I/N"),
    ],
)
def test_mistakes_are_told_in_one_sentence(
    clips: Path, tmp_path: Path, capsys: pytest.CaptureFixture, words: list[str], message: str
) -> None:
    assert run(clips, *words, "--out", tmp_path / "out") == 2
    assert message in capsys.readouterr().err and not (tmp_path / "out").exists()


def test_folders_that_hold_something_else_are_left_alone(
    clips: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    assert run(clips, "--experts", "flow", "--out", clips) == 2
    assert "holds something else; possible: an empty or a new folder" in capsys.readouterr().err
    run(clips, "--experts", "flow", "--out", tmp_path / "out", "--limit", 1)
    assert run(toy.write(tmp_path / "data", 1), "--experts", "flow", "--out", tmp_path / "out") == 2
    assert f"annotates {clips}, not {tmp_path / 'data'}" in capsys.readouterr().err
    shutil.rmtree(clips)
    with pytest.raises(ValueError, match="annotates .*clips, which cannot be opened"):
        open_dataset(tmp_path / "out")


def test_words_become_experts() -> None:
    found = parse_experts(["flow", "coarse=dis?preset=fast&occlusion=no", "motion?least=0.1"])
    assert list(found) == ["flow", "coarse", "motion"]
    assert found["coarse"] == Dis(preset="fast", occlusion=False) and found["motion"].least == 0.1
