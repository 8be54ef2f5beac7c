"""Films for a benchmark, written by a model: one seed a film, resumable, each noted as it is finished."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ...data.encode import VideoCodec, encode_video
from ...data.files import replacing, whole_lines, write_json
from ...data.video import pictures_of, read_frames
from ...dice import seed_of
from ...guidance import Guide
from ...model import WorldModel
from ...query import Query, Role
from ...solver import sample
from ..kinds import PICTURE, kinds_of
from .dimensions import dynamic
from .prompts import Film

NOTE, LOG = "benchmark.json", "films.jsonl"
RATE = 8.0  # frames a second of a film whose model does not say
Told = Callable[[int, int], None]


@dataclass(frozen=True, kw_only=True)
class Filming:
    """How films are made, the same for all in a folder.

    film     the modality that is filmed; text: the condition that the prompt is given to
    flow     the flow of the film, where the query wants it too; None: it does not
    walk     query -> the arguments of `sample` that walk it
    settings what else goes into the note, and must agree when a folder is gone on with
    """

    model: WorldModel
    query: str
    film: str
    text: str
    flow: str | None
    rate: float
    walk: Callable[[str], Mapping[str, Any]]
    guides: Sequence[Guide]
    seed: int
    settings: Mapping[str, Any]


def filming(
    model: WorldModel,
    query: str | None,
    *,
    walk: Callable[[str], Mapping[str, Any]],
    guides: Sequence[Guide] = (),
    seed: int = 0,
    settings: Mapping[str, Any] | None = None,
) -> Filming:
    """The film that a query wants and the sentence that it is given, read off the model.

    query: None: the first modality that holds pictures, given the first sentence. Errors: ValueError where the model
    has no such thing, where the query gives more than sentences, or none.
    """
    kinds = kinds_of(model)
    films = [n for n in model.modalities if kinds[n] == PICTURE]
    texts = [n for n, c in model.conditions.items() if c.kind == "text"]
    if not films or not texts:
        lacks = "pictures to film" if not films else "a sentence to be given"
        raise ValueError(f"the model {model.recipe.name if model.recipe else ''} has no {lacks}")
    asked = Query.parse(query or f"{films[0]} | {texts[0]}")
    roles = asked.roles(model.modalities, model.conditions)
    wanted = [n for n in roles if Role.WANT in roles[n]]
    mine, said = [n for n in wanted if n in films], [n for n in asked.given_conditions(model.conditions) if n in texts]
    others = [n for n in roles if Role.GIVEN in roles[n]]
    others += [n for n in asked.given_conditions(model.conditions) if n not in texts]
    if not mine or not said:
        raise ValueError(
            f"the query {asked.text!r} must want one of {', '.join(films)}, given one of {', '.join(texts)}"
        )
    if others:
        raise ValueError(f"the query {asked.text!r} must be given {', '.join(others)}, but a benchmark gives sentences")
    part = model.modalities[mine[0]]
    return Filming(
        model=model, query=asked.text, film=mine[0], text=said[0],
        flow=next((n for n in wanted if kinds[n] == "flow"), None), rate=part.rate or RATE, walk=walk, guides=guides,
        seed=seed, settings=dict(settings or {}),
    )  # fmt: skip


def write(how: Filming, suite: str, films: Sequence[Film], out: Path, told: Told | None = None) -> int:
    """Write the films that are not there yet; how many were written.

    out/FILE is a film, or of "worldscore" a folder with frames/000.png, videos/output.mp4 and image_data.json.
    out/films.jsonl has a line for each: file, prompts, index, dimensions, seed, frames, fps. A film's seed depends on
    the command's seed, the suite and the file alone. Errors: ValueError for a folder of other settings.
    """
    settings = {"suite": suite, "query": how.query, "seed": how.seed, **how.settings}
    _agree(out, settings)
    if (out / LOG).is_file():
        os.truncate(out / LOG, whole_lines(out / LOG))
    done = {line["file"] for line in lines(out)}
    due = [film for film in films if film.file not in done]
    for number, film in enumerate(due):
        seed = seed_of(how.seed, suite, film.file)
        frames, own = _film(how, film, seed)
        _save(out / film.file, film, frames, how.rate)
        line = {"file": film.file, "prompts": film.prompts, "index": film.index, "dimensions": film.dimensions}
        line |= {"seed": seed, "frames": len(frames), "fps": how.rate} | ({} if own is None else {"own_dynamic": own})
        with (out / LOG).open("a", encoding="utf-8") as log:
            log.write(json.dumps(line, ensure_ascii=False) + "\n")
        if told:
            told(number + 1, len(due))
    if suite == "videophy":
        _table(out)
    return len(due)


def lines(out: Path) -> Iterator[dict[str, Any]]:
    """The films of a folder that are there, as they were noted; a line that was cut short is passed over."""
    path = out / LOG
    found: dict[str, dict[str, Any]] = {}
    for text in path.read_bytes().splitlines() if path.is_file() else ():
        with suppress(ValueError):
            line = json.loads(text)
            found[line["file"]] = line
    yield from (line for file, line in found.items() if video_of(out, file).is_file())


def video_of(out: Path, file: str) -> Path:
    """The video of a film."""
    path = out / file
    return path if path.suffix == ".mp4" else path / "videos" / "output.mp4"


def frames_of(out: Path, line: Mapping[str, Any]) -> np.ndarray:
    """The frames of a film that was written, uint8 (T, H, W, 3)."""
    path = video_of(out, line["file"])
    return read_frames(path, range(len(pictures_of(path).pts)))


def _agree(out: Path, settings: Mapping[str, Any]) -> None:
    path = out / NOTE
    if not path.is_file():
        write_json(path, dict(settings))
        return
    before = json.loads(path.read_text(encoding="utf-8"))
    for key, value in json.loads(json.dumps(settings)).items():
        if before.get(key) != value:
            raise ValueError(
                f"{out} holds films made with {key} = {before.get(key)!r}, not {value!r}; use another folder"
            )


def _film(how: Filming, film: Film, seed: int) -> tuple[np.ndarray, bool | None]:
    """The frames uint8 (T, H, W, 3) of all parts, and whether the model's own flow is dynamic; None without one."""
    parts, flows = [], []
    for number, prompt in enumerate(film.prompts):
        values: dict[str, Any] = {how.text: [prompt]}
        found = sample(
            how.model, how.query, seed=seed_of(seed, number) if number else seed, size=1, guides=how.guides,
            **how.walk(how.query), **values,
        )  # fmt: skip
        pictures = found[how.film][0].cpu().numpy()
        # A part begins with the frame that the one before ended with.
        parts.append(pictures[1:] if number else pictures)
        if how.flow:
            flows.append(found[how.flow][0])
    frames = np.concatenate(parts)
    return frames, _moves(flows, len(frames)) if flows else None


def _moves(flows: Sequence[Tensor], frames: int) -> bool:
    """Own flows (T, H, W, 3) of the parts -> whether the film moves; the last flow of a part leads out of it."""
    inner = torch.cat([flow[:-1] if len(flow) > 1 else flow for flow in flows])
    return dynamic(inner[..., :2].cpu().numpy(), frames)


def _save(path: Path, film: Film, frames: np.ndarray, rate: float) -> None:
    if path.suffix == ".mp4":
        _encode(path, frames, rate)
        return
    from PIL import Image

    for i, frame in enumerate(frames):
        with replacing(path / "frames" / f"{i:03d}.png") as aside:
            Image.fromarray(frame).save(aside, format="PNG")
    scenes = len(film.prompts)
    told = {**film.note, "num_scenes": scenes, "total_frames": len(frames)}
    if film.note.get("visual_movement") == "static":
        each = (len(frames) - 1) // scenes
        told["anchor_frame_idx"] = [each * i for i in range(scenes + 1)]
    write_json(path / "image_data.json", told)
    _encode(path / "videos" / "output.mp4", frames, rate)


def _encode(path: Path, frames: np.ndarray, rate: float) -> None:
    odd = [(0, 0), (0, frames.shape[1] % 2), (0, frames.shape[2] % 2), (0, 0)]
    with replacing(path) as aside:
        encode_video(aside, np.pad(frames, odd, mode="edge"), rate, VideoCodec(encoder="h264", group=12, crf=12))


def _table(out: Path) -> None:
    """videos.csv with videopath and caption, as the raters of this suite read it."""
    import csv

    with replacing(out / "videos.csv") as aside, aside.open("w", encoding="utf-8", newline="") as file:
        table = csv.writer(file)
        table.writerow(["videopath", "caption"])
        table.writerows([str(out / line["file"]), line["prompts"][0]] for line in lines(out))
