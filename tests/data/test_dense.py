"""Dense modalities: exactness of each code, bit-exact video, and a data set that holds them all."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from polyclock.data import Cached, dense
from polyclock.data.encode import encode_video
from polyclock.data.formats.lerobot import open_lerobot
from polyclock.data.formats.lerobot_writer import LeRobotWriter
from polyclock.data.video import read_frames
from polyclock.modality import Signal

SIZE = (18, 26)


def _random(kind: str, count: int = 5, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    shape = (count, *SIZE)
    if kind == "depth":
        return np.where(rng.random(shape) < 0.1, 0, rng.uniform(0.001, 65.535, shape))[..., None].astype(np.float32)
    if kind == "flow":
        flow = rng.uniform(-500, 500, (*shape, 2))
        return np.concatenate([flow, rng.integers(0, 2, (*shape, 1))], -1).astype(np.float32)
    if kind == "segmentation":
        return rng.integers(0, 65536, (*shape, 2)).astype(np.int32)
    surface = rng.random((*shape, 3))
    surface[..., 0] = rng.integers(0, 25, shape)
    return surface.astype(np.float32)


ERRORS = {
    "depth": (0.0005,),
    "flow": (1 / 128, 1 / 128, 0),
    "segmentation": (0, 0),
    "surface": (0, 1 / 131070, 1 / 131070),
}


@pytest.mark.parametrize("kind", dense.PLANES)
def test_error_of_a_round_trip_is_as_stated(kind: str) -> None:
    values = _random(kind)
    planes = dense.encode(kind, values)
    assert planes.dtype == np.uint16 and planes.shape == (*values.shape[:3], dense.PLANES[kind])
    back = dense.decode(kind, planes)
    assert back.shape == values.shape and back.dtype == values.dtype
    for channel, error in enumerate(ERRORS[kind]):
        off = np.abs(back[..., channel].astype(np.float64) - values[..., channel]).max()
        assert off <= error + 1e-5 * (error > 0), (kind, channel, off)
    np.testing.assert_array_equal(dense.encode(kind, back), planes)  # what was stored once is stored exactly


@pytest.mark.parametrize("planes", [1, 3])
def test_video_of_planes_is_bit_exact(tmp_path: Path, planes: int) -> None:
    noise = np.random.default_rng(planes).integers(0, 65536, (7, *SIZE, planes), dtype=np.uint16)
    encode_video(tmp_path / "planes.mp4", noise, 30, None)
    np.testing.assert_array_equal(read_frames(tmp_path / "planes.mp4", range(7), fps=30), noise)
    np.testing.assert_array_equal(read_frames(tmp_path / "planes.mp4", [6, 1, 3], fps=30), noise[[6, 1, 3]])


def test_what_is_unknown_stays_unknown() -> None:
    depth = np.array([[[[np.nan], [np.inf], [-1.0], [0.0], [1e-9], [90.0]]]])
    np.testing.assert_allclose(dense.decode("depth", dense.encode("depth", depth)).ravel(), [0, 0, 0, 0, 0.001, 65.535])
    flow = np.array([[[[np.nan, 1, 0], [1.5, -2.25, 0], [1, 1, 1]]]])
    back = dense.decode("flow", dense.encode("flow", flow))
    assert back.tolist() == [[[[0, 0, 1], [1.5, -2.25, 0], [1, 1, 1]]]]


def test_another_scale_reaches_further() -> None:
    flow = np.array([[[[900.0, -3.0, 0]]]])
    with pytest.raises(ValueError, match=r"900.* in frame 0 at row 0, column 0; possible: -512 to 511.984 px"):
        dense.encode("flow", flow)
    planes = dense.encode("flow", flow, 1 / 16)
    np.testing.assert_array_equal(dense.decode("flow", planes, 1 / 16), flow)


@pytest.mark.parametrize(
    ("kind", "values", "message"),
    [
        ("segmentation", np.full((1, 2, 2, 2), 70000), "70000 in frame 0.*0 to 65535"),
        ("segmentation", np.zeros((1, 2, 2, 2)), "float64; needed: integers"),
        ("surface", np.full((1, 2, 2, 3), 2.0), "surface u, v: 2.0"),
        ("surface", np.full((1, 2, 2, 3), 0.5), "whole numbers"),
        ("flow", np.zeros((1, 2, 2, 2)), "u, v, occluded"),
        ("deph", np.zeros((1, 2, 2, 1)), "Did you mean 'depth'"),
    ],
)
def test_values_that_do_not_fit(kind: str, values: np.ndarray, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        dense.encode(kind, values)


def test_flow_of_a_smaller_picture_is_smaller() -> None:
    info = {
        "polyclock": {"version": 1, "dense": {"flow": {"kind": "flow", "scale": 1 / 64}}},
        "features": {"flow": {"shape": [20, 40, 3]}},
    }
    planes = dense.encode("flow", np.tile(np.array([8.0, 6.0, 0]), (1, 10, 10, 1)))
    decode = dense.decoder_for(info, "flow")
    assert decode is not None
    np.testing.assert_array_equal(decode(planes)[0, 0, 0], [2, 3, 0])


def test_a_block_from_the_future_is_refused() -> None:
    with pytest.raises(ValueError, match="version 2"):
        dense.notes({"polyclock": {"version": 2}})
    with pytest.raises(ValueError, match="depht"):
        dense.notes({"polyclock": {"version": 1, "dense": {"a": {"kind": "depht"}}}})
    assert dense.notes({}) == {} and dense.decoder_for({}, "a") is None


def test_a_data_set_with_every_kind(tmp_path: Path) -> None:
    joints = ("shoulder", "elbow", "wrist")
    features = {
        "action": {"dtype": "float32", "shape": (2,), "names": None},
        "observation.depth.top": dense.feature("depth", SIZE),
        "observation.flow.top": dense.feature("flow", SIZE),
        "observation.segmentation.top": dense.feature("segmentation", SIZE, classes={0: "background", 1: "cup"}),
        "observation.surface.top": dense.feature("surface", SIZE, parts={1: "hand"}),
        "observation.skeleton.top": dense.feature("skeleton", joints=joints),
        "observation.camera.top.intrinsics": dense.feature("intrinsics"),
        "observation.camera.top.pose": dense.feature("pose"),
    }
    rng = np.random.default_rng(0)
    frames = {
        key: _random(entry["polyclock"]["kind"])
        if entry["dtype"] == "video"
        else rng.random((5, *entry["shape"]), np.float32)
        for key, entry in features.items()
    }
    with LeRobotWriter(tmp_path, fps=10, features=features) as writer:
        writer.add_episode(frames, "look")
    data = open_lerobot(tmp_path)
    for key, entry in features.items():
        back = data.read(0, key, range(5))
        if entry["dtype"] != "video":
            np.testing.assert_array_equal(back, frames[key])
            continue
        kind = entry["polyclock"]["kind"]
        np.testing.assert_array_equal(back, dense.decode(kind, dense.encode(kind, frames[key])))
        assert data.facts.columns[key] == back.shape[1:]
    notes = dense.notes(data.meta.info)
    assert notes["observation.segmentation.top"]["classes"] == {"0": "background", "1": "cup"}
    assert notes["observation.skeleton.top"]["joints"] == list(joints)
    assert data.meta.info["features"]["observation.depth.top"]["info"]["video.is_depth_map"] is True
    assert "polyclock" not in data.meta.info["features"]["observation.depth.top"]
    half = (SIZE[0] // 2, SIZE[1] // 2)
    signals = {
        k: Signal(key=k, kind="video", shape=(2, *half, None)) for k, e in features.items() if len(e["shape"]) == 3
    }
    cached = Cached(data, signals, tmp_path / "cache")
    assert len(list((tmp_path / "cache").iterdir())) == len(signals) == 4
    for key in signals:
        back = cached.read(0, key, [3, 1], half)
        straight = data.read(0, key, [3, 1], half)
        np.testing.assert_array_equal(back, straight)
        assert back.dtype == straight.dtype


@pytest.mark.parametrize(
    ("key", "cameras", "camera"),
    [
        (
            "observation.skeleton.front",
            ("observation.images.top", "observation.images.front"),
            "observation.images.front",
        ),
        ("skeleton.wrist", ("video", "wrist"), "wrist"),
        ("skeleton", ("depth", "video"), "video"),
        ("observation.pose.front", ("observation.images.top",), None),
    ],
)
def test_the_camera_that_joints_are_measured_in(key: str, cameras: tuple[str, ...], camera: str | None) -> None:
    assert dense.camera_of(key, cameras) == camera
