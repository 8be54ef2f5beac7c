"""LeRobot v2.0, v2.1 and v3 as they lie: exact frames and rows, untidiness told, disagreement refused."""

from __future__ import annotations

import json
import shutil
import warnings
from fractions import Fraction
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from numbered import CAMERA, lerobot_v2, lerobot_v3, numbers_of, write_video

from polyclock.data import UntidyData, open_dataset


def opened(root: Path):
    """The data set and the sentences it warned with."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        dataset = open_dataset(root)
    assert all(w.category is UntidyData for w in caught)
    return dataset, [str(w.message) for w in caught]


@pytest.fixture(scope="module")
def v2(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return lerobot_v2(tmp_path_factory.mktemp("v2") / "arm", {0: 20, 1: 12, 2: 7})


@pytest.fixture(scope="module")
def v3(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return lerobot_v3(tmp_path_factory.mktemp("v3") / "arm", [[20, 5, 33], [4, 40]], 29.97, Fraction(30000, 1001))


@pytest.fixture
def copy(v2: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(v2, tmp_path / "arm"))


@pytest.mark.parametrize("version", ["v2", "v3"])
def test_reads_columns_pictures_and_sentences(version: str, request: pytest.FixtureRequest) -> None:
    dataset, notes = opened(request.getfixturevalue(version))
    assert notes == []
    facts = dataset.facts
    assert (facts.cameras, facts.action_dim, facts.state_dim, facts.tasks) == ((CAMERA,), 2, 1, ("reach", "grasp"))
    assert facts.columns[CAMERA] == (64, 64, 3) and facts.columns["action"] == (2,) and facts.columns["task"] == ()
    first = 0
    for episode in dataset.episodes:
        e, n = episode.index, episode.length
        wanted = [n - 1, 0, n // 2]
        base = 100 * e if version == "v2" else first
        assert numbers_of(dataset.read(e, CAMERA, wanted)) == [base + f for f in wanted]
        action = dataset.read(e, "action", wanted)
        assert action.dtype == np.float32 and action.tolist() == [[e, f] for f in wanted]
        state = dataset.read(e, "observation.state", wanted)
        assert state.dtype == np.float32 and np.allclose(state[:, 0], np.array(wanted) / 10)
        assert dataset.read(e, "frame_index", wanted).tolist() == [[f] for f in wanted]
        assert (dataset.read(e, "task", [0]), dataset.read(e, "task", [n - 1])) == ("reach", "grasp")
        assert dataset.read(e, CAMERA, [0], (16, 24)).shape == (1, 16, 24, 3)
        first += n
    assert [len(c) for c in dataset.column("action")] == [e.length for e in dataset.episodes]


def test_choosing_episodes(v3: Path) -> None:
    dataset, _ = opened(v3)
    assert [e.index for e in dataset.only([3, 1]).episodes] == [1, 3]
    held = dataset.without([2])
    assert [e.index for e in held.episodes] == [0, 1, 3, 4]
    assert len({dataset.fingerprint, held.fingerprint, dataset.only([2]).fingerprint}) == 3
    assert opened(v3)[0].without([2]).fingerprint == held.fingerprint
    with pytest.raises(ValueError, match="episode 9 is not in the data; possible: 0-4"):
        dataset.only([9])
    with pytest.raises(ValueError, match="no episode is left"):
        dataset.without(range(5))


def test_fingerprint_follows_the_files(copy: Path) -> None:
    before = opened(copy)[0].fingerprint
    assert opened(copy)[0].fingerprint == before
    write_video(copy / f"videos/chunk-000/{CAMERA}/episode_000001.mp4", range(12, 24))
    assert opened(copy)[0].fingerprint != before


def test_gaps_and_missing_files_are_told(copy: Path) -> None:
    (copy / "data/chunk-000/episode_000001.parquet").unlink()
    (copy / f"videos/chunk-000/{CAMERA}/episode_000002.mp4").unlink()
    (copy / "meta/modality.json").write_text("{}")
    dataset, notes = opened(copy)
    assert [e.index for e in dataset.episodes] == [0, 2]
    assert not dataset.has(2, CAMERA) and dataset.has(0, CAMERA)
    assert notes == [
        f"arm: camera {CAMERA} has no video for episodes 2; there it is absent.",
        "arm: 3 episodes are listed, 2 are here (0, 2).",
        "arm: meta/modality.json names parts of state and action; the whole vectors are read.",
    ]
    with pytest.raises(ValueError, match="episode 1 is not in the data; possible: 0, 2"):
        dataset.read(1, "action", [0])


def test_a_declared_camera_without_videos_is_left_out(copy: Path) -> None:
    shutil.rmtree(copy / "videos")
    dataset, notes = opened(copy)
    assert notes == [f"arm: camera {CAMERA} is declared but no video of it is here; it is left out."]
    assert dataset.facts.cameras == () and CAMERA not in dataset.facts.columns
    with pytest.raises(ValueError, match=f"unknown column of arm, episode 0: '{CAMERA}'"):
        dataset.read(0, CAMERA, [0])


def test_a_missing_frame_index_is_told(copy: Path) -> None:
    for path in (copy / "data/chunk-000").iterdir():
        pq.write_table(pq.read_table(path).drop_columns(["frame_index"]), path)
    dataset, notes = opened(copy)
    assert notes == ["arm: there is no column frame_index; rows are taken in the order of the file."]
    assert dataset.read(1, "action", [11]).tolist() == [[1, 11]]


def rewrite(path: Path, **columns: pa.Array) -> None:
    table = pq.read_table(path)
    for name, values in columns.items():
        table = table.set_column(table.column_names.index(name), name, values)
    pq.write_table(table, path)


def test_lengths_that_disagree_name_the_episode(copy: Path) -> None:
    data, video = copy / "data/chunk-000", copy / f"videos/chunk-000/{CAMERA}"
    pq.write_table(pq.read_table(data / "episode_000000.parquet").slice(0, 18), data / "episode_000000.parquet")
    write_video(video / "episode_000001.mp4", range(100, 111))
    dataset, _ = opened(copy)
    with pytest.raises(ValueError, match="arm, episode 0: .* holds 18 rows of it, the metadata say 20"):
        dataset.read(0, "action", [0])
    with pytest.raises(ValueError, match="arm, episode 1: .*mp4 holds 11 pictures, the metadata say 12"):
        dataset.read(1, CAMERA, [0])
    with pytest.raises(ValueError, match="arm, episode 2: frame 7 of 7"):
        dataset.read(2, CAMERA, [7])


def test_damaged_columns_name_episode_file_and_row(copy: Path) -> None:
    data = copy / "data/chunk-000"
    rewrite(data / "episode_000000.parquet", frame_index=pa.array([0, 2, 1, *range(3, 20)]))
    ragged = [[1.0, 2.0]] * 5 + [[1.0, 2.0, 3.0]] + [[1.0, 2.0]] * 6
    rewrite(data / "episode_000001.parquet", action=pa.array(ragged, pa.list_(pa.float32())))
    state = [[0.0]] * 3 + [None] + [[0.0]] * 3
    rewrite(data / "episode_000002.parquet", **{"observation.state": pa.array(state, pa.list_(pa.float64()))})
    dataset, _ = opened(copy)
    with pytest.raises(ValueError, match="episode 0: .*parquet: row 1 of the episode is frame 2"):
        dataset.read(0, "action", [0])
    with pytest.raises(ValueError, match="episode 1: .*column action, row 5: rows of different length"):
        dataset.read(1, "action", [0])
    with pytest.raises(ValueError, match="episode 2: .*column observation.state, row 3: a value is missing"):
        dataset.read(2, "observation.state", [0])
    whole = (data / "episode_000001.parquet").read_bytes()
    (data / "episode_000001.parquet").write_bytes(whole[:-20])
    with pytest.raises(ValueError, match="episode 1: .*episode_000001.parquet cannot be read"):
        opened(copy)[0].read(1, "action", [0])


def test_v3_times_that_do_not_meet_the_pictures(v3: Path, tmp_path: Path) -> None:
    root = Path(shutil.copytree(v3, tmp_path / "arm"))
    path = root / "meta/episodes/chunk-000/file-000.parquet"
    rows = pq.read_table(path).to_pylist()
    rows[1][f"videos/{CAMERA}/from_timestamp"] += 0.4 / 29.97
    rows[2]["length"] += 1
    rows[4][f"videos/{CAMERA}/from_timestamp"] = float("nan")
    pq.write_table(pa.Table.from_pylist(rows[:4]), path)
    dataset, _ = opened(root)
    with pytest.raises(
        ValueError, match="arm, episode 1: .*file-000.mp4: no picture at 0.6807 s, where frame 0 is due"
    ):
        dataset.read(1, CAMERA, [0])
    with pytest.raises(ValueError, match="arm, episode 2: .*file-000.parquet holds 33 rows of it, the metadata say 34"):
        dataset.read(2, "action", [0])
    pq.write_table(pa.Table.from_pylist(rows), path)
    with pytest.raises(ValueError, match="file-000.parquet: episode 4 starts at nan s"):
        opened(root)


def change_info(root: Path, **values: object) -> None:
    path = root / "meta/info.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"codebase_version": "v1.6"}, "codebase_version is v1.6; possible: v2.0, v2.1, v3.x"),
        ({"fps": 0}, "fps cannot be used: a rate of 0"),
        ({"fps": None}, "fps cannot be used"),
        ({"features": []}, "'features' is not an object"),
        ({"data_path": "../{episode_index}.parquet"}, "not a plain path inside the data set"),
        ({"data_path": "{episode_index.__class__}"}, "not a plain path inside the data set"),
        ({"video_path": "/etc/{video_key}"}, "not a plain path inside the data set"),
        ({"data_path": "{episode}.parquet"}, "asks for 'episode'; possible: episode_chunk, episode_index"),
        ({"data_path": "data/{episode_index}.parquet"}, "3 episodes are listed, but no data file of theirs is here"),
    ],
)
def test_metadata_that_cannot_be_used(copy: Path, values: dict, message: str) -> None:
    change_info(copy, **values)
    with pytest.raises(ValueError, match=message):
        open_dataset(copy)


def test_image_columns(copy: Path) -> None:
    """Pictures kept as PNG inside the parquet file, as older data sets have them."""
    import io

    import av
    from numbered import picture

    def png(number: int) -> bytes:
        buffer = io.BytesIO()
        with av.open(buffer, "w", format="image2pipe") as container:
            stream = container.add_stream("png", rate=1)
            stream.width = stream.height = 64
            stream.pix_fmt = "rgb24"
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture(number), format="rgb24")))
            container.mux(stream.encode())
        return buffer.getvalue()

    path = copy / "data/chunk-000/episode_000002.parquet"
    for name, n in (("episode_000000", 20), ("episode_000001", 12), ("episode_000002", 7)):
        path = copy / f"data/chunk-000/{name}.parquet"
        cells = [{"bytes": png(40 + f), "path": None} for f in range(n)]
        pq.write_table(pq.read_table(path).append_column("observation.image", pa.array(cells)), path)
    info = json.loads((copy / "meta/info.json").read_text())
    names = ["channels", "height", "width"]
    change_info(
        copy,
        features=info["features"] | {"observation.image": {"dtype": "image", "shape": [3, 64, 64], "names": names}},
    )
    dataset, _ = opened(copy)
    assert dataset.facts.columns["observation.image"] == (64, 64, 3)
    assert dataset.facts.cameras == (CAMERA, "observation.image")
    assert numbers_of(dataset.read(2, "observation.image", [6, 0])) == [46, 40]
    assert numbers_of(dataset.read(2, "observation.image", [3], (16, 16))) == [43]


def test_real_robot_with_gaps(real_data: Path) -> None:
    dataset, notes = opened(real_data / "g1_pick_bottle")
    assert [(e.index, e.length) for e in dataset.episodes] == [(28, 278), (29, 221), (30, 277), (31, 267)]
    assert notes == [
        "g1_pick_bottle: 100 episodes are listed, 4 are here (28-31).",
        "g1_pick_bottle: split train is '0:100' but episodes 28-31 are here; splits are not used.",
    ]
    facts = dataset.facts
    assert (facts.fps, facts.cameras) == (30.0, ("observation.images.cam_high",))
    assert (facts.action_dim, facts.state_dim) == (26, 26)
    assert dataset.read(29, "task", [0]) == "Pick up the yellow bottle on the table."
    assert dataset.read(31, "observation.images.cam_high", [266, 0]).shape == (2, 480, 640, 3)
    stored = pq.read_table(real_data / "g1_pick_bottle/data/chunk-000/episode_000030.parquet")["action"].to_pylist()
    assert np.array_equal(next(iter(dataset.only([30]).column("action"))), np.array(stored, np.float32))


def test_real_simulated_robot_with_untidy_metadata(real_data: Path) -> None:
    dataset, notes = opened(real_data / "gr00t_dreams_gr1_sim/demo_data/robot_sim.PickNPlace")
    said = "\n".join(notes)
    for sentence in (
        "camera observation.images.egoview is declared but no video of it is here",
        "split train is '0:100' but episodes 0-2 are here",
        "meta/modality.json names parts of state and action",
        "there is no column frame_index",
    ):
        assert sentence in said
    facts = dataset.facts
    assert (facts.fps, facts.cameras) == (20.0, ("observation.images.ego_view",))
    assert (facts.action_dim, facts.state_dim) == (44, 44)
    assert dataset.read(1, "task", [5]).startswith("pick the sweet potato")
    state = dataset.read(0, "observation.state", [415])
    assert state.dtype == np.float32 and state.shape == (1, 44)
    assert dataset.read(2, "observation.images.ego_view", [469, 3], (64, 64)).shape == (2, 64, 64, 3)
