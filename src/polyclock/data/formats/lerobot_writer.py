"""Writing LeRobotDataset v3.0 so that a kill at any moment leaves every finished episode readable.

While recording, each episode has its own data file, video files and file of `meta/episodes`. All are written aside,
synced and renamed, in this order: videos, tasks, data, meta/episodes (from here on the episode counts), stats.json,
info.json. On opening, what a killed writer left is removed and the totals are made right.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from .. import dense
from ..encode import VideoCodec, VideoFile
from ..files import aside, commit, lock, make_folder, remove_leftovers, replacing, write_json
from ..statistics import PixelCounts, Statistics, aggregate, of_column
from . import lerobot_schema as schema


class LeRobotWriter:
    """Records episodes into a folder, new or existing: whole (`add_episode`) or by frames (`start`, `add`, `end`).

    features maps a name to {"dtype", "shape", "names"}; a camera is {"dtype": "video", "shape": (H, W, 3)}, a dense
    modality comes from `dense.feature(...)`. timestamp, frame_index, episode_index, index and task_index are added.
    """

    def __init__(
        self,
        folder: str | Path,
        *,
        fps: float | None = None,
        features: schema.Features | None = None,
        robot_type: str | None = None,
        video_codec: VideoCodec | None = None,
    ) -> None:
        """Open `folder`; fps and features may be left out where a data set lies there already.

        Errors: ValueError where the folder holds something else, another writer is at work, or features or fps differ.
        """
        self.folder = Path(folder)
        self.codec = video_codec or VideoCodec()
        self._recording: _Recording | None = None
        there = (self.folder / "meta" / "info.json").is_file()
        if not there and self.folder.is_dir() and any(p.name != "meta" for p in self.folder.iterdir()):
            raise ValueError(
                f"{self.folder} holds files that are no LeRobot data set; possible: an empty or a new folder"
            )
        if not there and (fps is None or features is None):
            raise ValueError(f"{self.folder} is new: fps and features are needed")
        make_folder(self.folder / "meta")
        self._lock: int | None = lock(self.folder)
        try:
            remove_leftovers(self.folder)
            if not there:
                assert fps is not None and features is not None
                colour = ("av1" if self.codec.encoder == "libsvtav1" else "h264", "yuv420p")
                info = schema.empty_info(fps, schema.check_features(features), robot_type, colour)
                write_json(self.folder / "meta" / "info.json", info)
            self._load(fps, features)
        except BaseException:
            self._release()
            raise

    @property
    def episodes(self) -> int:
        """Finished episodes in the folder."""
        return self.info["total_episodes"]

    def add_episode(self, frames: Mapping[str, Any], task: str | Sequence[str]) -> int:
        """Write a whole episode: {feature: (n, ...)} and its sentence, or n sentences. Returns the episode's number.

        Cameras are uint8 (n, H, W, 3); dense modalities are values in their units (see `dense`); other columns have the
        feature's dtype, (n, *shape), or (n,) for shape (1,).

        Errors: ValueError naming episode, frame and feature; then nothing of the episode is kept.
        """
        lengths = {key: len(values) for key, values in frames.items()}
        if len(set(lengths.values())) != 1:
            raise ValueError(f"the columns of an episode must be equally long; got {lengths}")
        count = next(iter(lengths.values()))
        tasks = [task] * count if isinstance(task, str) else list(task)
        if len(tasks) != count:
            raise ValueError(f"{len(tasks)} sentences for {count} frames; possible: one, or one for each frame")
        self.start(tasks[0] if tasks else "")
        try:
            for i in range(count):
                self.add({key: values[i] for key, values in frames.items()}, task=tasks[i])
            return self.end()
        except BaseException:
            self.discard()
            raise

    def start(self, task: str) -> None:
        """Begin an episode whose frames follow by `add`."""
        if self._lock is None:
            raise ValueError(f"the writer of {self.folder} is closed")
        if self._recording is not None:
            raise ValueError("an episode is being recorded; call end() or discard() first")
        self._recording = _Recording(self, task)

    def add(self, frame: Mapping[str, Any], task: str | None = None) -> None:
        """Append one frame, {feature: value}; `task` where its sentence differs from the one of `start`.

        Errors: ValueError naming episode, frame and feature; the frame is then not added.
        """
        self._now().add(frame, task)

    def end(self) -> int:
        """Finish the episode: on return it is on the disk and counts. Returns its number."""
        recording = self._now()
        if not recording.length:
            raise ValueError(f"episode {recording.index} has no frames")
        try:
            row, found = recording.finish()
            self._register(row, found, recording)
        except BaseException:
            self.discard()
            raise
        self._recording = None
        return recording.index

    def discard(self) -> None:
        """Forget the episode that is being recorded, if any."""
        if self._recording is not None:
            self._recording.discard()
            self._recording = None

    def close(self) -> None:
        """Let go of the folder. ValueError where an episode was started and neither ended nor discarded."""
        if self._recording is not None:
            raise ValueError(
                f"episode {self._recording.index} was started but not ended; call end() or discard() first"
            )
        self._release()

    def __enter__(self) -> LeRobotWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None:
            self.discard()
        self.close()

    # Opening.

    def _release(self) -> None:
        if self._lock is not None:
            os.close(self._lock)
        self._lock = None

    def _load(self, fps: float | None, features: schema.Features | None) -> None:
        self.info: dict[str, Any] = json.loads((self.folder / "meta" / "info.json").read_text(encoding="utf-8"))
        if self.info.get("codebase_version") != schema.VERSION:
            raise ValueError(f"{self.folder} is {self.info.get('codebase_version')}; only {schema.VERSION} is written")
        if fps is not None and fps != self.info["fps"]:
            raise ValueError(f"{self.folder} has {self.info['fps']} frames per second, not {fps}")
        for name, template in (("data_path", schema.DATA_PATH), ("video_path", schema.VIDEO_PATH)):
            if self.info.get(name) not in (template, None):
                raise ValueError(
                    f"{self.folder} keeps its files in {self.info[name]!r}; only {template!r} can be appended to"
                )
        self._check_same(features)
        notes = dense.notes(self.info)
        self.features = {
            key: {**entry, "shape": tuple(entry["shape"])} | ({dense.BLOCK: notes[key]} if key in notes else {})
            for key, entry in self.info["features"].items()
        }
        self.schema = schema.data_schema(self.features)
        rows = schema.read_episodes(self.folder)
        self.tasks = schema.read_tasks(self.folder / schema.TASKS_PATH)
        self.statistics = aggregate(schema.statistics_of_row(row) for row in rows)
        self._last = {k: v for k, v in rows[-1].items() if not k.startswith("stats/")} if rows else {}
        self._remove_unfinished()
        totals = (len(rows), sum(row["length"] for row in rows))
        noted = tuple(self.info[f"total_{name}"] for name in ("episodes", "frames", "tasks"))
        if (*totals, len(self.tasks)) != noted:
            self._total(*totals)

    def _check_same(self, features: schema.Features | None) -> None:
        if features is None:
            return
        ours = {k: (e["dtype"], tuple(e["shape"])) for k, e in self.info["features"].items() if k not in schema.ALWAYS}
        theirs = {k: (e["dtype"], e["shape"]) for k, e in schema.check_features(features).items()}
        for key in sorted(ours.keys() | theirs.keys()):
            if ours.get(key) != theirs.get(key):
                raise ValueError(
                    f"feature {key!r} of {self.folder} is {ours.get(key, 'absent')}, not {theirs.get(key, 'absent')}"
                )

    def _remove_unfinished(self) -> None:
        """Files of an episode that did not get as far as `meta/episodes`: they have the very next number."""
        if not self._last and any(self.folder.glob("data/*/*.parquet")) and self.info["total_episodes"]:
            raise ValueError(f"{self.folder}: info.json names episodes but meta/episodes has none; nothing was changed")
        for path in [self.data_path(), *(self.video_path(key) for key in self.videos())]:
            path.unlink(missing_ok=True)

    # Places.

    def videos(self) -> list[str]:
        """The features that are videos."""
        return [key for key, entry in self.features.items() if entry["dtype"] == "video"]

    def place(self, kind: str) -> tuple[int, int]:
        """Chunk and file number of the next episode for kind "data", "meta/episodes" or "videos/KEY"."""
        if not self._last:
            return 0, 0
        return schema.following(
            self._last[f"{kind}/chunk_index"], self._last[f"{kind}/file_index"], self.info["chunks_size"]
        )

    def data_path(self) -> Path:
        """The data file of the next episode."""
        chunk, file = self.place("data")
        return self.folder / schema.DATA_PATH.format(chunk_index=chunk, file_index=file)

    def video_path(self, key: str) -> Path:
        """The video file of the next episode."""
        chunk, file = self.place(f"videos/{key}")
        return self.folder / schema.VIDEO_PATH.format(video_key=key, chunk_index=chunk, file_index=file)

    # Finishing an episode.

    def _now(self) -> _Recording:
        if self._recording is None:
            raise ValueError("no episode is being recorded; call start(task) first")
        return self._recording

    def task_numbers(self, sentences: Sequence[str]) -> list[int]:
        """The number of each sentence; new ones are written to `tasks.parquet`."""
        numbers = {sentence: number for number, sentence in self.tasks.items()}
        new = [s for s in dict.fromkeys(sentences) if s not in numbers]
        if new:
            first = max(self.tasks, default=-1) + 1
            self.tasks |= {first + i: sentence for i, sentence in enumerate(new)}
            with replacing(self.folder / schema.TASKS_PATH) as path:
                schema.write_table(path, [schema.tasks_table(self.tasks)])
            numbers = {sentence: number for number, sentence in self.tasks.items()}
        return [numbers[s] for s in sentences]

    def _register(self, row: dict[str, Any], found: dict[str, Statistics], recording: _Recording) -> None:
        chunk, file = self.place("meta/episodes")
        row |= schema.row_of_statistics(found)
        row |= {"meta/episodes/chunk_index": chunk, "meta/episodes/file_index": file}
        with replacing(self.folder / schema.EPISODES_PATH.format(chunk_index=chunk, file_index=file)) as path:
            schema.write_table(path, [schema.episodes_table([row])])
        self._last = {k: v for k, v in row.items() if not k.startswith("stats/")}
        self.statistics = aggregate([self.statistics, found])
        self._total(self.info["total_episodes"] + 1, self.info["total_frames"] + recording.length)

    def _total(self, episodes: int, frames: int) -> None:
        plain = {key: {n: v.tolist() for n, v in found.items()} for key, found in self.statistics.items()}
        if plain:
            write_json(self.folder / "meta" / "stats.json", plain)
        self.info |= {"total_episodes": episodes, "total_frames": frames, "total_tasks": len(self.tasks)}
        self.info["splits"] = {"train": f"0:{episodes}"}
        write_json(self.folder / "meta" / "info.json", self.info)


class _Recording:
    """One episode on its way to the disk: videos are encoded as frames come, columns are held in memory."""

    def __init__(self, writer: LeRobotWriter, task: str) -> None:
        self.writer, self.task, self.length = writer, task, 0
        self.index: int = writer._last.get("episode_index", -1) + 1
        self.first: int = writer._last.get("dataset_to_index", 0)
        self.sentences: list[str] = []
        self.columns: dict[str, list[Any]] = {k: [] for k in schema.stored(writer.features) if k not in schema.ALWAYS}
        self.videos: dict[str, VideoFile] = {}
        self.counts: dict[str, PixelCounts] = {}
        self.paths = {key: writer.video_path(key) for key in writer.videos()}

    def add(self, frame: Mapping[str, Any], task: str | None) -> None:
        wanted = {*self.columns, *self.paths}
        for key in sorted(wanted ^ frame.keys()):
            what = "is missing" if key in wanted else f"is not a feature; possible: {', '.join(sorted(wanted))}"
            raise ValueError(f"{self.here()}: {key!r} {what}")
        sentence = self.task if task is None else task
        if not isinstance(sentence, str):
            raise ValueError(f"{self.here()}: the task is {type(sentence).__name__}, not a sentence")
        values = {key: self._value(key, frame[key]) for key in self.columns}
        pictures = {key: self._picture(key, frame[key]) for key in self.paths}
        for key, picture in pictures.items():
            self._encode(key, picture)
        for key, value in values.items():
            self.columns[key].append(value)
        self.sentences.append(sentence)
        self.length += 1

    def here(self) -> str:
        return f"episode {self.index}, frame {self.length}"

    def _value(self, key: str, value: Any) -> Any:
        entry = self.writer.features[key]
        if entry["dtype"] == "string":
            if not isinstance(value, str):
                raise ValueError(f"{self.here()}: {key!r} is {type(value).__name__}, not a string")
            return value
        array = np.asarray(value)
        if array.dtype != entry["dtype"]:
            raise ValueError(f"{self.here()}: {key!r} has dtype {array.dtype}; the feature says {entry['dtype']}")
        shape = entry["shape"]
        if array.shape != shape and not (shape == (1,) and array.shape == ()):
            raise ValueError(f"{self.here()}: {key!r} has shape {array.shape}; the feature says {shape}")
        if not np.isfinite(array).all():
            raise ValueError(f"{self.here()}: {key!r} holds NaN or Inf")
        return array.reshape(()).copy() if shape == (1,) else array.copy()

    def _picture(self, key: str, value: Any) -> np.ndarray:
        entry = self.writer.features[key]
        array = np.asarray(value)
        if dense.BLOCK in entry:
            note = entry[dense.BLOCK]
            try:
                array = dense.encode(note["kind"], array[None], note.get("scale"))[0]
            except ValueError as error:
                raise ValueError(f"{self.here()}: {key!r}: {error}") from None
        elif array.dtype != np.uint8:
            raise ValueError(f"{self.here()}: camera {key!r} has dtype {array.dtype}; needed: uint8")
        if array.shape != entry["shape"]:
            raise ValueError(f"{self.here()}: {key!r} is {array.shape}; the feature says {entry['shape']}")
        return array

    def _encode(self, key: str, picture: np.ndarray) -> None:
        if key not in self.videos:
            lossless = picture.dtype == np.uint16
            make_folder(self.paths[key].parent)
            codec = None if lossless else self.writer.codec
            self.videos[key] = VideoFile(aside(self.paths[key]), self.writer.info["fps"], picture.shape, codec)
            self.counts[key] = PixelCounts(picture.shape[2], 65536 if lossless else 256)
        self.videos[key].add(picture)
        self.counts[key].add(picture)

    def finish(self) -> tuple[dict[str, Any], dict[str, Statistics]]:
        """Videos, tasks and data to the disk; the episode's row and its statistics."""
        writer, fps, count = self.writer, self.writer.info["fps"], self.length
        for key, video in self.videos.items():
            video.close()
            commit(self.paths[key])
        tasks = np.array(writer.task_numbers(self.sentences))
        order = np.arange(count)
        columns: dict[str, Any] = {
            key: values if writer.features[key]["dtype"] == "string" else np.stack(values)
            for key, values in self.columns.items()
        }
        columns |= {"timestamp": order / fps, "frame_index": order, "episode_index": np.full(count, self.index)}
        columns |= {"index": self.first + order, "task_index": tasks}
        chunk, file = writer.place("data")
        with replacing(writer.data_path()) as path:
            schema.write_table(path, [schema.data_table(columns, writer.schema)])
        row: dict[str, Any] = {
            "episode_index": self.index,
            "tasks": list(dict.fromkeys(self.sentences)),
            "length": count,
            "data/chunk_index": chunk,
            "data/file_index": file,
            "dataset_from_index": self.first,
            "dataset_to_index": self.first + count,
        }
        for key in self.paths:
            chunk, file = writer.place(f"videos/{key}")
            row |= {f"videos/{key}/chunk_index": chunk, f"videos/{key}/file_index": file}
            row |= {f"videos/{key}/from_timestamp": 0.0, f"videos/{key}/to_timestamp": count / fps}
        return row, self._statistics(columns)

    def _statistics(self, columns: Mapping[str, Any]) -> dict[str, Statistics]:
        found = {}
        for key, entry in self.writer.features.items():
            if entry["dtype"] == "video":
                found[key] = self.counts[key].result()
            elif entry["dtype"] != "string":
                found[key] = of_column(columns[key])
        return found

    def discard(self) -> None:
        """Close and remove what was begun."""
        for key, video in self.videos.items():
            video.abandon()
            aside(self.paths[key]).unlink(missing_ok=True)
