"""Videos and data sets whose frame number is coded in the pixels, so that a neighbour frame is noticed."""

from __future__ import annotations

import json
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

SIDE = 64  # 4 x 4 blocks of 16 pixels, one bit each
H264 = ("libx264", {"g": "12", "bf": "3", "preset": "ultrafast", "crf": "30"})


def picture(number: int) -> np.ndarray:
    """(64, 64, 3) uint8 that shows `number` as 16 black or white blocks."""
    bits = np.array([(number >> b) & 1 for b in range(16)], np.uint8).reshape(4, 4)
    plane = np.kron(bits * 200 + 28, np.ones((16, 16), np.uint8)).astype(np.uint8)
    return np.repeat(plane[..., None], 3, -1)


def number_of(pixels: np.ndarray) -> int:
    """The number that a decoded picture (H, W, C) of any size shows."""
    if pixels.dtype == np.uint16:
        return int(pixels[0, 0, 0])
    height, width = pixels.shape[0] // 4, pixels.shape[1] // 4
    plane = pixels[..., 0].astype(float)
    bits = [
        plane[r * height : (r + 1) * height, c * width : (c + 1) * width].mean() > 128
        for r in range(4)
        for c in range(4)
    ]
    return sum(int(bit) << b for b, bit in enumerate(bits))


def numbers_of(frames: np.ndarray) -> list[int]:
    return [number_of(f) for f in frames]


def write_video(
    path: Path,
    numbers: Sequence[int],
    fps: Fraction | int = 30,
    encoder: str = H264[0],
    options: dict[str, str] | None = None,
    form: str = "yuv420p",
    ticks: Sequence[int] | None = None,
) -> Path:
    """Encode pictures of `numbers`; `ticks` are their times in frames (default 0, 1, 2, ...)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream(encoder, rate=Fraction(fps), options=options or dict(H264[1]))
        stream.width = stream.height = SIDE
        stream.pix_fmt = form
        stream.codec_context.time_base = 1 / Fraction(fps)
        for i, number in enumerate(numbers):
            if form == "gray16le":
                frame = av.VideoFrame.from_ndarray(np.full((SIDE, SIDE), number, np.uint16), format=form)
            else:
                frame = av.VideoFrame.from_ndarray(picture(number), format="rgb24")
            frame.pts, frame.time_base = (ticks[i] if ticks else i), 1 / Fraction(fps)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def columns_of(episode: int, length: int, first: int) -> dict[str, pa.Array]:
    """Data columns whose values say episode and frame: action = (episode, frame), state = frame / 10."""
    frames = np.arange(length)
    action = np.stack([np.full(length, episode), frames], 1).astype(np.float32)
    return {
        "action": pa.FixedSizeListArray.from_arrays(pa.array(action.ravel()), 2),
        "observation.state": pa.array([[f / 10] for f in frames.tolist()], pa.list_(pa.float64())),
        "timestamp": pa.array((frames / 30).astype(np.float32)),
        "frame_index": pa.array(frames),
        "episode_index": pa.array(np.full(length, episode)),
        "index": pa.array(first + frames),
        "task_index": pa.array((frames >= length // 2).astype(np.int64)),
    }


def info_of(version: str, fps: float, cameras: Sequence[str], **more: object) -> dict:
    features: dict[str, dict] = {
        "action": {"dtype": "float32", "shape": [2], "names": None},
        "observation.state": {"dtype": "float64", "shape": [1], "names": None},
    }
    for key in ("timestamp", "frame_index", "episode_index", "index", "task_index"):
        features[key] = {"dtype": "float32" if key == "timestamp" else "int64", "shape": [1], "names": None}
    for camera in cameras:
        features[camera] = {"dtype": "video", "shape": [SIDE, SIDE, 3], "names": ["height", "width", "channels"]}
    return {"codebase_version": version, "fps": fps, "features": features, "chunks_size": 1000, **more}


CAMERA = "observation.images.front"


def lerobot_v2(root: Path, lengths: dict[int, int], fps: float = 30, rate: Fraction | int = 30) -> Path:
    """A v2.1 folder; picture f of episode e shows 100 e + f."""
    info = info_of(
        "v2.1", fps, [CAMERA], total_episodes=len(lengths), splits={"train": f"0:{max(lengths) + 1}"},
        data_path="data/chunk-{episode_chunk:03d}/episode_{episode_index:06d}.parquet",
        video_path="videos/chunk-{episode_chunk:03d}/{video_key}/episode_{episode_index:06d}.mp4",
    )  # fmt: skip
    (root / "meta").mkdir(parents=True)
    (root / "meta" / "info.json").write_text(json.dumps(info))
    lines = [json.dumps({"episode_index": e, "tasks": ["reach", "grasp"], "length": n}) for e, n in lengths.items()]
    (root / "meta" / "episodes.jsonl").write_text("\n".join(lines))
    tasks = [json.dumps({"task_index": i, "task": t}) for i, t in enumerate(["reach", "grasp"])]
    (root / "meta" / "tasks.jsonl").write_text("\n".join(tasks))
    (root / "data/chunk-000").mkdir(parents=True)
    for e, n in lengths.items():
        pq.write_table(pa.table(columns_of(e, n, 0)), root / f"data/chunk-000/episode_{e:06d}.parquet")
        write_video(root / f"videos/chunk-000/{CAMERA}/episode_{e:06d}.mp4", range(100 * e, 100 * e + n), rate)
    return root


def lerobot_v3(root: Path, files: Sequence[Sequence[int]], fps: float = 30, rate: Fraction | int = 30) -> Path:
    """A v3.0 folder; `files` holds the lengths of the episodes in each file. Pictures are numbered through."""
    info = info_of(
        "v3.0", fps, [CAMERA], total_episodes=sum(map(len, files)),
        data_path="data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet",
        video_path="videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4",
    )  # fmt: skip
    (root / "meta/episodes/chunk-000").mkdir(parents=True)
    (root / "data/chunk-000").mkdir(parents=True)
    (root / "meta" / "info.json").write_text(json.dumps(info))
    pq.write_table(pa.table({"task_index": [0, 1], "task": ["reach", "grasp"]}), root / "meta/tasks.parquet")
    rows, episode, index = [], 0, 0
    for number, lengths in enumerate(files):
        tables, begun, first = [], 0.0, index
        for n in lengths:
            tables.append(pa.table(columns_of(episode, n, index)))
            rows.append({
                "episode_index": episode, "length": n, "tasks": ["reach", "grasp"], "data/chunk_index": 0,
                "data/file_index": number, "dataset_from_index": index, "dataset_to_index": index + n,
                f"videos/{CAMERA}/chunk_index": 0, f"videos/{CAMERA}/file_index": number,
                f"videos/{CAMERA}/from_timestamp": begun, f"videos/{CAMERA}/to_timestamp": begun + n / float(rate),
                "stats/action/min": [0.0],
            })  # fmt: skip
            begun += n / float(rate)  # summed in floating point, as recorders do
            episode, index = episode + 1, index + n
        pq.write_table(pa.concat_tables(tables), root / f"data/chunk-000/file-{number:03d}.parquet")
        write_video(root / f"videos/{CAMERA}/chunk-000/file-{number:03d}.mp4", range(first, index), rate)
    pq.write_table(pa.Table.from_pylist(rows), root / "meta/episodes/chunk-000/file-000.parquet")
    return root
