"""Features of an expert on few components, which are fitted to clips of the data set before any is asked about.

A clip of 81 frames of 30 x 52 vectors of 768 numbers takes 194 MB in float16, eight components of them 2 MB.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from ..codecs.features import Projection
from ..data import projections
from ..data.annotation import alone
from ..data.source import Dataset
from .expert import FEATURES, Expert

Read = Callable[[int, str], np.ndarray]  # (episode, camera) -> frames uint8 (T, H, W, 3)
FRAMES = 64  # of a clip that a projection is fitted to, where the expert need not see the whole of it


@dataclass(frozen=True, kw_only=True)
class Projected:
    """uint8 (T, H, W, 3) -> components float32 (T, h, w, K) of what `expert` says.

    components, scale, per, rows  as of `Projection`
    clips  that it is fitted to, spread evenly over the data set
    made   the file that holds the fitted projection, and the projection; from `fitted`
    """

    expert: Expert
    components: int = 8
    scale: Literal["none", "global", "channel"] = "none"
    per: Literal["dataset", "video"] = "dataset"
    rows: int = 2048
    clips: int = 128
    file: str = field(default="", metadata={"own": True})
    projection: Projection | None = field(default=None, repr=False, compare=False, metadata={"own": True})
    modality = FEATURES

    def __post_init__(self) -> None:
        if self.clips < 1:
            raise ValueError(f"clips={self.clips}; a projection is fitted to at least 1")
        self._wanted  # noqa: B018  - what is wrong with the numbers is said before any work begins

    @property
    def _wanted(self) -> Projection:
        return Projection(components=self.components, scale=self.scale, per=self.per, rows=self.rows)

    @property
    def note(self) -> dict[str, Any]:
        return self.expert.note | {"projection": self.file}

    @property
    def after(self) -> int | None:
        return None if self.per == "video" else self.expert.after

    @property
    def fingerprint(self) -> str:
        said = self.projection.digest if self.projection is not None else [self._wanted, self.clips]
        return hashlib.sha256(repr([self.expert.fingerprint, said]).encode()).hexdigest()

    def __call__(self, frames: np.ndarray) -> np.ndarray:
        """Errors: ValueError before it is fitted, and those of the expert."""
        if self.projection is None:
            raise ValueError("the projection of these features is fitted to clips first: `fitted`")
        told = torch.from_numpy(np.ascontiguousarray(self.expert(frames)))
        return self.projection.project(told[None])[0].numpy()

    def fitted(self, name: str, root: Path, clips: Sequence[tuple[int, str]], shown: str, read: Read) -> Projected:
        """Fitted to what the expert says of some of `clips`, (episode, camera), or read from `root` where that is done.

        shown  how clips are shown. What was fitted once serves clips that come later, too: their numbers must mean the
        same. Errors: ValueError where no clip can be read.
        """
        key = hashlib.sha256(repr([shown, self.expert.fingerprint, self._wanted, self.clips]).encode()).hexdigest()
        file = projections.name_of(name, key)
        with alone(root):  # of several shards one fits, and the others find it done
            if not (root / projections.FOLDER / file).is_file():
                spread = np.unique(np.linspace(0, len(clips) - 1, min(self.clips, len(clips))).round().astype(int))
                found = self._wanted.fit(_told(self.expert, [clips[i] for i in spread], read))
                projections.save(root, file, found)
        return replace(self, file=file, projection=projections.load(root, file))


def _told(expert: Expert, clips: Iterable[tuple[int, str]], read: Read) -> Iterator[np.ndarray]:
    """Features of clips; one that the expert stumbles over is left out here, and named when it is asked about."""
    some, last = False, ""
    for episode, camera in clips:
        try:
            told = expert(read(episode, camera))
        except ImportError:
            raise
        except Exception as error:
            last = f": {type(error).__name__}: {error}"
            continue
        some = True
        yield told
    if not some:
        raise ValueError(f"no clip of which features could be projected{last}")


def fit_to(
    dataset: Dataset,
    out: Path,
    experts: Mapping[str, Any],
    cameras: Sequence[str],
    size: tuple[int, int] | None,
) -> dict[str, Any]:
    """The experts, those that are projected fitted to the data set: into `out`, or as they are found there."""
    lengths = {e.index: e.length for e in dataset.episodes if e.length}
    clips = [(e, c) for e in lengths for c in cameras if dataset.has(e, c)]

    def fitted(name: str, expert: Any) -> Any:
        if not isinstance(expert, Projected):
            return expert

        def read(episode: int, camera: str) -> np.ndarray:
            count = lengths[episode] if expert.expert.after is None else min(lengths[episode], FRAMES)
            chosen = np.linspace(0, lengths[episode] - 1, count).round().astype(int)
            frames = np.asarray(dataset.read(episode, camera, chosen.tolist(), size))
            return np.repeat(frames, 3, -1) if frames.shape[-1] == 1 else frames

        return expert.fitted(name, out, clips, f"{size}", read)

    return {name: fitted(name, expert) for name, expert in experts.items()}
