"""`info` and `show`: the facts, the sheets and the curves of a data set, and the colours of dense modalities."""

from __future__ import annotations

import io
import json
import re
import runpy
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from rich.console import Console
from test_writer import FEATURES, H264, record

from polyclock.codecs.colours import SPECTRAL, TAB10
from polyclock.data import dense
from polyclock.data.colours import labels, paint, ramp, skeletons
from polyclock.data.formats.lerobot_writer import LeRobotWriter
from polyclock.data.show import info, show


def _printed(path: Path, out: Path, **options: object) -> tuple[str, list[Path]]:
    screen = io.StringIO()
    files = show(path, out, console=Console(file=screen, width=100), **options)
    return screen.getvalue(), files


def test_info_is_plain_data(tmp_path: Path) -> None:
    facts = info(record(tmp_path / "set", range(3)))
    assert json.loads(json.dumps(facts)) == facts
    assert (facts["format"], facts["episodes"], facts["numbers"]) == ("LeRobot v3.0", 3, "0-2")
    assert (facts["frames"], facts["seconds"], facts["fps"]) == (24, 0.8, 30.0)
    assert facts["cameras"] == {"observation.images.top": [32, 48, 3]}
    assert facts["dense"]["observation.depth.top"] == {"kind": "depth", "unit": "m", "scale": 0.001}
    assert facts["columns"]["observation.state"] == [3] and facts["tasks"] == ["task 0", "task 1"]
    assert facts["notes"] == []


def test_a_part_of_a_data_set_is_what_it_is_a_part_of(tmp_path: Path) -> None:
    path = record(tmp_path / "recorded", range(1))
    whole, part = info(path), info(f"{path}?hide=action&aspect=1:1")
    assert (part["format"], part["dense"]) == (whole["format"], whole["dense"]) and part["dense"]
    assert set(whole["columns"]) - set(part["columns"]) == {"action"}
    drawn = [p.name for p in show(f"{path}?hide=action", tmp_path / "part")]
    assert drawn == [p.name for p in show(path, tmp_path / "whole") if "action" not in p.name]
    for name in drawn:
        assert (tmp_path / "part" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def test_show_draws_a_sheet_per_camera_and_a_plot_per_vector(tmp_path: Path) -> None:
    text, files = _printed(record(tmp_path / "set", range(3)), tmp_path / "out", episode=1)
    names = {f.name.removeprefix("episode-000001-").removesuffix(".png"): f for f in files}
    assert set(names) == {"observation.state", "action", "step", "observation.images.top", "observation.depth.top"}
    assert "24 = 0.8 s at 30 a second" in text and "task 1" in text and "depth" in text
    sheet = np.asarray(Image.open(names["observation.images.top"]))
    height = round(240 * 32 / 48)
    for tile, value in enumerate(20 + 4 * np.arange(8)):  # the eight frames of episode 1, four a row
        x, y = 8 + tile % 4 * 248, 32 + tile // 4 * (height + 24)
        assert abs(int(sheet[y + 50, x + 50].mean()) - value) <= 2
    curves = np.asarray(Image.open(names["observation.state"])).astype(int)
    assert (np.ptp(curves, axis=-1) > 60).sum() > 500  # coloured lines


def test_show_of_every_dense_kind(tmp_path: Path) -> None:
    size, rng = (16, 24), np.random.default_rng(0)
    values = {
        "flow": rng.normal(size=(3, *size, 3)).astype(np.float32),
        "segmentation": rng.integers(0, 4, (3, *size, 2)).astype(np.int32),
        "surface": np.round(rng.random((3, *size, 3))).astype(np.float32),
        "skeleton": rng.random((3, 2, 3), np.float32),
        "pose": np.tile(np.eye(4, dtype=np.float32), (3, 1, 1)),
    }
    features = {
        f"observation.{k}": dense.feature(k, size, joints=("a", "b") if k == "skeleton" else None) for k in values
    }
    with LeRobotWriter(tmp_path / "set", fps=10, features=features) as writer:
        writer.add_episode({f"observation.{k}": v for k, v in values.items()}, "look")
    text, files = _printed(tmp_path / "set", tmp_path / "out")
    assert len(files) == 5 and all(Image.open(f).size[0] > 200 for f in files)
    for kind in values:
        assert kind in text


def test_real_data_and_their_notes(real_data: Path, tmp_path: Path) -> None:
    text, files = _printed(real_data / "g1_pick_bottle", tmp_path, episode=29)
    assert "4 (28-31)" in text and "100 episodes are listed" in text and "26" in text
    assert len(files) == 3 and all(f.name.startswith("episode-000029") for f in files)


def test_mistakes(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="nowhere"):
        info(tmp_path / "nowhere")
    folder = record(tmp_path / "set", range(1))
    with pytest.raises(ValueError, match="episode 5"):
        _printed(folder, tmp_path / "out", episode=5)


def test_an_episode_of_one_frame(tmp_path: Path) -> None:
    with LeRobotWriter(tmp_path / "set", fps=5, features={"action": FEATURES["action"]}, video_codec=H264) as writer:
        writer.add_episode({"action": np.zeros((1, 2), np.float32)}, "wait")
    _, files = _printed(tmp_path / "set", tmp_path / "out")
    assert len(files) == 1


def test_colours() -> None:
    assert np.array_equal(ramp(np.array([0.0, 1.0])), [[68, 1, 84], [253, 231, 37]])
    assert len({tuple(c) for c in labels(np.arange(1, 60))}) == 59 and not labels(np.array([0])).any()
    depth = np.array([[[[1.0], [2.0], [0.0]]]])
    picture, meaning = paint("depth", depth)
    assert picture[0, 0, :2].tolist() == [list(SPECTRAL[0]), list(SPECTRAL[-1])] and not picture[0, 0, 2].any()
    assert meaning == "red = 1.02 m, violet = 1.98 m, black = unknown"
    assert not paint("depth", depth * 0)[0].any() and paint("depth", depth * 0)[1] == "unknown everywhere"
    flow = np.array([[[[0.0, 0.0, 0.0], [3.0, 0.0, 0.0], [-3.0, 0.0, 0.0], [-3.0, 0.0, 1.0]]]])
    still, right, left, hidden = paint("flow", flow)[0][0, 0].astype(int)
    assert still.tolist() == [255, 255, 255] and right[0] > right[2] and left[0] < left[2]
    assert (hidden <= left).all() and hidden.sum() < left.sum()
    masks = np.array([[[[0, 1], [3, 1], [21, 2]]]])
    assert paint("segmentation", masks)[0][0, 0, 1].tolist() == list(TAB10[2])
    assert paint("segmentation", masks * [0, 1])[1] == "one colour for each class"


def test_skeletons_have_the_colours_of_the_codec() -> None:
    points = np.array([[[20.5, 20.5, 1], [40.5, 20.5, 1], [20.5, 50.5, 0]]])
    picture = skeletons(points, 64, [(0, 1), (0, 2)])[0].astype(int)
    assert picture[20, 20].tolist() == [255, 0, 0] and picture[20, 40].tolist() == [0, 255, 0]
    assert picture[20, 30].sum() > 0 and not picture[35:].any()
    assert skeletons(np.ones((2, 60, 3)), 64).shape == (2, 64, 64, 3)


def test_the_examples_of_the_page_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = (Path(__file__).parents[2] / "docs" / "data.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```python\n(.*?)```", page, re.S)
    (tmp_path / "page.py").write_text("".join(blocks), encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    names = runpy.run_path("page.py")
    assert len(blocks) == 6 and len(names["pictures"]) == 4
