"""Our files against those that lerobot 0.4.4 wrote from the same frames, and lerobot reading ours."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import venv
from pathlib import Path
from types import ModuleType

import av
import numpy as np
import pyarrow.parquet as pq
import pytest

from polyclock.data.compact import compact
from polyclock.data.formats.lerobot_writer import LeRobotWriter

ROOT = Path(__file__).parents[2]
THEIRS = ROOT / "tests" / "fixtures" / "lerobot_v3"
IMAGES = "observation.images.front"


def _maker() -> ModuleType:
    spec = importlib.util.spec_from_file_location("make_lerobot_fixture", ROOT / "tools" / "make_lerobot_fixture.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _record(folder: Path) -> Path:
    maker = _maker()
    with LeRobotWriter(folder, fps=maker.FPS, features=maker.FEATURES, robot_type="arm") as writer:
        for episode, length in enumerate(maker.LENGTHS):
            writer.start(maker.TASKS[episode])
            for i in range(length):
                writer.add(maker.frame(episode, i))
            writer.end()
    return folder


@pytest.fixture(scope="module")
def ours(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The fixture's frames written by us, merged as lerobot merges them."""
    folder = tmp_path_factory.mktemp("conformance")
    return compact(_record(folder / "recorded"), folder / "merged")


def _pair(ours: Path, name: str) -> tuple[pq.ParquetFile, pq.ParquetFile]:
    return pq.ParquetFile(ours / name), pq.ParquetFile(THEIRS / name)


def test_the_same_files(ours: Path) -> None:
    files = [{str(p.relative_to(root)) for p in root.rglob("*") if p.is_file()} for root in (ours, THEIRS)]
    assert files[0] == files[1]


def test_info_is_equal_with_its_order(ours: Path) -> None:
    left, right = ((root / "meta" / "info.json").read_text() for root in (ours, THEIRS))
    assert left == right


def test_data_columns_types_metadata_and_values(ours: Path) -> None:
    left, right = _pair(ours, "data/chunk-000/file-000.parquet")
    assert left.schema_arrow.equals(right.schema_arrow)
    assert left.read().equals(right.read())
    assert left.num_row_groups == right.num_row_groups == 2
    features = [json.loads(f.schema_arrow.metadata[b"huggingface"])["info"]["features"] for f in (left, right)]
    assert features[0] == features[1] and list(features[0]) == list(features[1])


def test_tasks_and_their_index(ours: Path) -> None:
    left, right = _pair(ours, "meta/tasks.parquet")
    assert left.schema_arrow.equals(right.schema_arrow)
    assert left.read().equals(right.read())
    notes = [json.loads(f.schema_arrow.metadata[b"pandas"]) for f in (left, right)]
    for key in ("index_columns", "column_indexes", "columns"):
        assert notes[0][key] == notes[1][key]


def test_episodes_columns_types_and_values(ours: Path) -> None:
    left, right = _pair(ours, "meta/episodes/chunk-000/file-000.parquet")
    assert set(left.schema_arrow.names) == set(right.schema_arrow.names)
    for field in right.schema_arrow:
        assert left.schema_arrow.field(field.name).type == field.type, field.name
        if not field.name.startswith("stats/"):
            assert left.read([field.name]).equals(right.read([field.name])), field.name


def _statistics(folder: Path) -> dict[str, dict[str, np.ndarray]]:
    text = json.loads((folder / "meta" / "stats.json").read_text())
    return {key: {name: np.array(value) for name, value in found.items()} for key, found in text.items()}


def test_statistics_of_the_data_set(ours: Path) -> None:
    left, right = _statistics(ours), _statistics(THEIRS)
    assert left.keys() == right.keys()
    for key, found in right.items():
        assert left[key].keys() == found.keys()
        for name, value in found.items():
            assert left[key][name].shape == value.shape and left[key][name].dtype == value.dtype, (key, name)
            # lerobot 0.4.4 squares pixels as 8-bit numbers, so its std of images is wrong; ours is checked below.
            if (key, name) != (IMAGES, "std"):
                np.testing.assert_allclose(left[key][name], value, rtol=2e-5, atol=2e-6, err_msg=f"{key} {name}")


def test_statistics_of_each_episode(ours: Path) -> None:
    left, right = (f.read().to_pylist() for f in _pair(ours, "meta/episodes/chunk-000/file-000.parquet"))
    for mine, theirs in zip(left, right, strict=True):
        for name in theirs:
            if name.startswith("stats/") and name != f"stats/{IMAGES}/std":
                np.testing.assert_allclose(mine[name], theirs[name], rtol=2e-5, atol=2e-6, err_msg=name)


def test_image_std_is_the_true_one(ours: Path) -> None:
    maker = _maker()
    frames = [maker.frame(e, i)[IMAGES] for e, n in enumerate(maker.LENGTHS) for i in range(n)]
    true = (np.stack(frames) / 255).std((0, 1, 2))
    np.testing.assert_allclose(_statistics(ours)[IMAGES]["std"].ravel(), true, rtol=1e-6)


def _pictures(folder: Path) -> tuple[list[int], np.ndarray]:
    with av.open(str(folder / "videos" / IMAGES / "chunk-000" / "file-000.mp4")) as file:
        frames = list(file.decode(video=0))
    return [f.pts for f in frames], np.stack([f.to_ndarray(format="rgb24") for f in frames]).astype(int)


def test_video_times_are_equal_and_pixels_close(ours: Path) -> None:
    (left_times, left), (right_times, right) = _pictures(ours), _pictures(THEIRS)
    assert left_times == right_times
    assert np.abs(left - right).mean() < 1  # another build of the encoder may differ a little


READ = """
import sys, runpy
maker = runpy.run_path(sys.argv[1])
maker["stand_in_for_torchvision"]()
from lerobot.datasets.lerobot_dataset import LeRobotDatasetMetadata
from lerobot.datasets.utils import load_nested_dataset, get_hf_features_from_features
from pathlib import Path
for root in sys.argv[2:]:
    meta = LeRobotDatasetMetadata("fixture/small", root=root)
    assert meta.total_episodes == 2 and meta.total_frames == 15 and meta.fps == 10, meta
    assert meta.video_keys == ["observation.images.front"] and len(meta.episodes) == 2
    assert meta.get_task_index("open the drawer") == 1 and list(meta.tasks.index) == list(maker["TASKS"])
    assert (Path(root) / meta.get_data_file_path(1)).is_file()
    assert (Path(root) / meta.get_video_file_path(1, "observation.images.front")).is_file()
    assert meta.stats["action"]["mean"].shape == (2,)
    assert meta.stats["observation.images.front"]["std"].shape == (3, 1, 1)
    rows = load_nested_dataset(Path(root) / "data", features=get_hf_features_from_features(meta.features))
    assert len(rows) == 15 and rows[14]["index"] == 14 and len(rows[0]["observation.pose"]) == 4
    print("read", root)
"""


@pytest.mark.slow
def test_lerobot_loads_ours(ours: Path, tmp_path: Path) -> None:
    """The metadata classes of lerobot 0.4.4, in their own environment, load what we recorded, and merged."""
    venv.create(tmp_path / "env", with_pip=True)
    python = tmp_path / "env" / "bin" / "python"
    needed = [
        "torch==2.13.0",
        "datasets>=4",
        "numpy<2.4",
        "pandas<3",
        "jsonlines",
        "av",
        "pillow",
        "tqdm",
        "accelerate",
    ]
    for arguments in (needed, ["--no-deps", "lerobot==0.4.4"]):
        done = subprocess.run([python, "-m", "pip", "install", "-q", *arguments], capture_output=True, text=True)
        if done.returncode:
            pytest.skip(f"cannot install {arguments[-1]} here: {done.stderr.strip().splitlines()[-1]}")
    maker = ROOT / "tools" / "make_lerobot_fixture.py"
    recorded = _record(tmp_path / "recorded")
    done = subprocess.run([python, "-c", READ, maker, recorded, ours], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.count("read ") == 2
