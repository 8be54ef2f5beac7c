"""LeRobotDataset v2.0, v2.1 and v3, read as they lie: no conversion, no copy, one reader."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from ...codecs.codec import Shape
from ...errors import unknown
from ..dense import PARTS, decoder_for, notes
from ..source import Episode, Facts, UntidyData
from ..subsets import Subsets, chosen
from ..video import pictures_of, read_frames
from .columns import Columns, decode_images, is_text, schema_of
from .metadata import Metadata, Place, read_metadata, video_keys


def open_lerobot(root: str | Path) -> LeRobot:
    """Open a LeRobot folder; what is untidy is told in one `UntidyData` warning each, what is wrong is a ValueError."""
    dataset = LeRobot(read_metadata(Path(root)))
    for note in dataset.notes:
        warnings.warn(f"{dataset.name}: {note}.", UntidyData, stacklevel=3)
    return dataset


class LeRobot(Subsets):
    """A LeRobot folder as a data set. Threads may read at once; columns of numbers and texts are kept in memory."""

    def __init__(self, meta: Metadata) -> None:
        self.meta = meta
        self.name = meta.root.name
        self.episodes: tuple[Episode, ...] = tuple(p.episode for p in meta.places.values())
        self._columns = Columns()
        self._agreed: set[tuple[int, str]] = set()
        self._ranges: dict[int, range] = {}  # rows of episodes in their files
        first = next(iter(meta.places.values()))
        self._stored = schema_of(first.data)
        self._decoders = {k: d for k in video_keys(meta.features) if (d := decoder_for(meta.info, k)) is not None}
        self.notes = list(meta.notes)
        self._texts = self._find_texts()
        self._shapes = self._find_columns()
        if "frame_index" not in self._stored.names:
            self.notes.append("there is no column frame_index; rows are taken in the order of the file")

    def _find_texts(self) -> frozenset[str]:
        """Columns with a text a row. What the metadata say is done, "task", goes before a column of that name."""
        found = set()
        for key, feature in self.meta.features.items():
            if feature.get("dtype") != "string" or key not in self._stored.names:
                continue
            kind = self._stored.field(key).type
            if is_text(kind):
                found.add(key)
            else:
                self.notes.append(f"column {key} is declared as text and holds {kind}; it is left out")
        return frozenset(found - ({"task"} if self._sentences else set()))

    @property
    def _sentences(self) -> bool:
        return bool(self.meta.sentences) or any(p.episode.tasks for p in self.meta.places.values())

    def _find_columns(self) -> dict[str, Shape]:
        """Columns that are declared and there -> shape of one frame."""
        shapes: dict[str, Shape] = {}
        dense = notes(self.meta.info)
        for key, feature in self.meta.features.items():
            if key in self.meta.cameras:
                pictures = pictures_of(self._first_videos()[key])
                channels = len(PARTS[dense[key]["kind"]]) if key in self._decoders else pictures.channels
                shapes[key] = (pictures.height, pictures.width, channels)
            elif key in self._stored.names and feature.get("dtype") == "image":
                shapes[key] = _image_shape(feature)
            elif key in self._texts:
                shapes[key] = ()
            elif key in self._stored.names and feature.get("dtype") != "string":
                shapes[key] = tuple(int(n) for n in feature.get("shape") or (1,))
        if self._sentences:
            shapes["task"] = ()
        return shapes

    def _first_videos(self) -> dict[str, Path]:
        """The first file of each camera: what holds for all of its videos is seen there."""
        places = [p.videos for p in self.meta.places.values()]
        return {key: next(v[key][0] for v in places if key in v) for key in self.meta.cameras}

    def _is_image(self, key: str) -> bool:
        return self.meta.features.get(key, {}).get("dtype") == "image"

    def _is_picture(self, key: str) -> bool:
        """A camera's colour or gray pictures, and no depth, flow or labels."""
        feature = self.meta.features.get(key, {})
        if feature.get("dtype") not in ("video", "image") or key in self._decoders:
            return False
        info = feature.get("info") or feature.get("video_info") or {}
        return not (info.get("video.is_depth_map") or info.get("is_depth_map"))

    @cached_property
    def facts(self) -> Facts:
        used = {t for e in self.episodes for t in e.tasks}
        tasks = [s for _, s in sorted(self.meta.sentences.items()) if s in used or not used]
        tasks += sorted(used - set(tasks))
        cameras = [k for k in self._shapes if self._is_picture(k)]
        return Facts(
            fps=float(self.meta.fps),
            cameras=tuple(cameras),
            tasks=tuple(tasks),
            columns=dict(self._shapes),
        )

    @property
    def format(self) -> str:
        """With its version."""
        return f"LeRobot {self.meta.version}"

    @property
    def number_names(self) -> dict[str, list]:
        """{column: what its numbers are called}, where the metadata list that."""
        return {k: f["names"] for k, f in self.meta.features.items() if isinstance(f.get("names"), list)}

    @property
    def dense(self) -> dict[str, dict[str, Any]]:
        """{feature: kind, unit, scale, classes, ...} of the dense modalities, as `data.dense.notes` reads them."""
        return notes(self.meta.info)

    @cached_property
    def fingerprint(self) -> str:
        digest = hashlib.sha256()
        root = self.meta.root
        for path in sorted(p for p in (root / "meta").rglob("*") if p.is_file()):
            digest.update(f"{path.relative_to(root)}\n".encode() + path.read_bytes())
        for place in self.meta.places.values():
            files = [place.data, *(v[0] for v in place.videos.values())]
            digest.update("".join(f"{f.relative_to(root)} {f.stat().st_size}\n" for f in files).encode())
        turns = {key: pictures_of(path).turn.said for key, path in self._first_videos().items()}
        if any(turns.values()):
            digest.update(repr(sorted(turns.items())).encode())
        if len(self.episodes) < len(self.meta.places):
            digest.update(repr([e.index for e in self.episodes]).encode())
        return digest.hexdigest()

    def place(self, episode: int) -> Place:
        """Where an episode lies; ValueError for one that is not here."""
        found = self.meta.places.get(int(episode))
        if found is None:
            chosen(self.episodes, [episode], keep=True)
        assert found is not None
        return found

    def has(self, episode: int, key: str) -> bool:
        """Whether this episode has this column."""
        if key in video_keys(self.meta.features):
            return key in self.place(episode).videos
        return key in self._shapes

    def column(self, key: str) -> Iterator[np.ndarray]:
        """One (length, *S, C) array per episode that has the column."""
        for e in self.episodes:
            if self.has(e.index, key):
                value = self.read(e.index, key, range(e.length))
                assert isinstance(value, np.ndarray)
                yield value

    def read(
        self, episode: int, key: str, frames: Sequence[int], size: tuple[int, int] | None = None
    ) -> np.ndarray | str:
        """Data frames of one column, (n, *S, C): uint8 pictures, float32 or whole numbers as stored.

        Dense videos come in their units, as `data.dense` says; 16-bit planes of other makers as stored, uint16.
        A text, such as the sentence "task", is the one at the first of `frames`; "" where nothing is said. Errors:
        ValueError naming episode, file and frame where they cannot be read, where the column is not there, or where
        file, video and metadata disagree in length.
        """
        place = self.place(episode)
        length = place.episode.length
        bad = [int(f) for f in frames if not 0 <= f < length]
        if bad:
            raise ValueError(f"{self.name}, episode {episode}: frame {bad[0]} of {length}")
        if not self.has(episode, key):
            raise unknown(f"column of {self.name}, episode {episode}:", key, self._shapes)
        first = int(frames[0]) if len(frames) else 0
        if key == "task" and key not in self._texts:
            return self._sentence(place, first)
        try:
            if key in place.videos:
                return self._read_video(place, key, frames, size)
            rows = self._rows(place)
            if key in self._texts:
                return self._columns.stored(place.data, key)[rows.start + first].as_py() or ""
            if self._is_image(key):
                cells = [self._columns.stored(place.data, key)[rows.start + int(f)].as_py() for f in frames]
                return decode_images(cells, size, self.meta.root, f"{place.data}, column {key}")
            shape = tuple(int(n or 0) for n in self._shapes[key])
            return self._columns.array(place.data, key, shape)[rows.start : rows.stop][np.asarray(frames, np.int64)]
        except ValueError as error:
            raise ValueError(f"{self.name}, episode {episode}: {error}") from None

    def _rows(self, place: Place) -> range:
        """The rows of the episode in its data file, checked once against `length` and `frame_index`."""
        index, length = place.episode.index, place.episode.length
        if index in self._ranges:
            return self._ranges[index]
        if "episode_index" in self._stored.names:
            numbers = self._columns.array(place.data, "episode_index", (1,))[:, 0]
        else:
            any_column = next(n for n in self._stored.names)
            numbers = np.full(len(self._columns.stored(place.data, any_column)), index)
        if self.meta.version.startswith("v2."):
            rows = range(0, len(numbers))
            other = numbers[numbers != index]
            if len(other):
                raise ValueError(f"{place.data} holds rows of episode {int(other[0])}")
        else:
            first = int(np.searchsorted(numbers, index, side="left"))
            rows = range(first, int(np.searchsorted(numbers, index, side="right")))
            if int((numbers == index).sum()) != len(rows):
                raise ValueError(f"{place.data}: the rows of the episode do not lie together")
        if len(rows) != length:
            raise ValueError(f"{place.data} holds {len(rows)} rows of it, the metadata say {length}")
        if "frame_index" in self._stored.names:
            order = self._columns.array(place.data, "frame_index", (1,))[rows.start : rows.stop, 0]
            if (order != np.arange(length)).any():
                bad = int(np.argmax(order != np.arange(length)))
                raise ValueError(f"{place.data}: row {bad} of the episode is frame {int(order[bad])}")
        self._ranges[index] = rows
        return rows

    def _read_video(self, place: Place, key: str, frames: Sequence[int], size: tuple[int, int] | None) -> np.ndarray:
        path, start = place.videos[key]
        index, length, fps = place.episode.index, place.episode.length, self.meta.fps
        if (index, key) not in self._agreed:
            self._rows(place)
            pictures = pictures_of(path)
            if start is None and len(pictures) != length:
                raise ValueError(f"{path} holds {len(pictures)} pictures, the metadata say {length}")
            if start is not None and length:
                first, last = pictures.ranks([0, length - 1], fps, start)
                if last - first + 1 != length:
                    raise ValueError(
                        f"{path} holds {last - first + 1} pictures from {float(start):.4f} s on, the metadata say "
                        f"{length}"
                    )
            self._agreed.add((index, key))
        stored = read_frames(path, frames, fps=fps, start=start, size=size)
        return self._decoders[key](stored) if key in self._decoders else stored

    def _sentence(self, place: Place, frame: int) -> str:
        if "task_index" in self._stored.names and self.meta.sentences:
            rows = self._rows(place)
            number = int(self._columns.array(place.data, "task_index", (1,))[rows.start + frame, 0])
            if number not in self.meta.sentences:
                raise unknown(f"task_index in {place.data}, frame {frame}:", number, self.meta.sentences)
            return self.meta.sentences[number]
        return place.episode.tasks[0] if place.episode.tasks else ""


def _image_shape(feature: dict) -> Shape:
    """(H, W, C) of an image column, which older data sets declare channels first."""
    shape = tuple(int(n) for n in feature.get("shape") or ())
    names = feature.get("names")
    first = isinstance(names, list) and len(names) == 3 and str(names[0]).startswith("channel")
    if len(shape) == 3 and (first or (shape[0] in (1, 3) and shape[2] not in (1, 3))):
        shape = (shape[1], shape[2], shape[0])
    return shape if len(shape) == 3 else (None, None, None)
