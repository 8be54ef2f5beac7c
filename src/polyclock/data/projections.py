"""Fitted projections in files: one safetensors each, its numbers as tensors and its settings as metadata."""

from __future__ import annotations

import json
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from ..codecs.features import Projection
from ..plain import from_plain, to_plain
from .files import replacing

FOLDER = "projections"


def name_of(what: str, key: str) -> str:
    """The file of the projection called `what` whose making `key` is the digest of."""
    return f"{what}-{key[:16]}.safetensors"


def save(root: Path, name: str, projection: Projection) -> None:
    """Write a projection into a folder of annotations, whole or not at all."""
    tensors: dict[str, Tensor] = {}
    plain = to_plain(projection, tensors)
    with replacing(root / FOLDER / name) as temporary:
        save_file(tensors, temporary, metadata={"projection": json.dumps(plain)})


def load(root: Path, name: str) -> Projection:
    """The projection of that name. Errors: ValueError where the file is missing or damaged, or holds something else."""
    path = root / FOLDER / Path(name).name
    try:
        with safe_open(path, framework="pt") as file:
            plain = json.loads((file.metadata() or {})["projection"])
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118  - it is no mapping
        found = from_plain(plain, tensors, {"Projection": Projection})
    except (OSError, SafetensorError, KeyError, json.JSONDecodeError, ValueError) as error:
        raise ValueError(f"{path} holds no projection that can be read: {error}") from None
    if not isinstance(found, Projection):
        raise ValueError(f"{path} holds no projection but a {type(found).__name__}")
    return found
