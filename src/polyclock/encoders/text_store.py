"""Features of texts on disk, each under the hash of its text: what a frozen encoder said need not be asked again."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterable, Iterator
from hashlib import sha256
from pathlib import Path

import safetensors
import safetensors.torch
from torch import Tensor

SLICES, SLICE = 64, 4096  # of a large file that go into a fingerprint: enough to tell two networks apart
WHOLE = 32 * 2**20  # bytes of a vocabulary at most


def fingerprint(folders: Iterable[str | Path], *settings: object) -> str:
    """A few letters for what is in the model's and the tokenizer's folders, and for settings of how they are read.

    Small files are read whole; of weights the size and slices spread over the file, as reading all takes minutes.
    """
    digest = sha256(repr(settings).encode())
    for file in (p for folder in folders for p in sorted(Path(folder).iterdir()) if p.is_file()):
        size = file.stat().st_size
        digest.update(f"{file.name} {size}".encode())
        for part in _parts(file, size):
            digest.update(part)
    return digest.hexdigest()[:16]


def _parts(file: Path, size: int) -> Iterator[bytes]:
    """A file's bytes, or slices of them where there are many."""
    with file.open("rb") as data:
        if size <= SLICES * SLICE or (file.suffix != ".safetensors" and size <= WHOLE):
            yield data.read()
            return
        for i in range(SLICES):
            data.seek(i * (size - SLICE) // (SLICES - 1))
            yield data.read(SLICE)


class TextStore:
    """Features (L, D) by text in FOLDER/FINGERPRINT, one safetensors file each; several processes may share it."""

    def __init__(self, folder: str | Path, print_of_encoder: str) -> None:
        self.folder = Path(folder).expanduser() / print_of_encoder

    def path(self, text: str) -> Path:
        """Where a text's features lie, or would."""
        name = sha256(text.encode("utf-8", "replace")).hexdigest()
        return self.folder / name[:2] / f"{name}.safetensors"

    def get(self, text: str) -> Tensor | None:
        """(L, D), or None. Errors: ValueError for a damaged file."""
        file = self.path(text)
        if not file.is_file():
            return None
        try:
            return safetensors.torch.load_file(file)["features"]
        except (OSError, KeyError, safetensors.SafetensorError) as error:
            raise ValueError(f"{file} holds no features of a text: {error}; remove it") from error

    def put(self, text: str, features: Tensor) -> None:
        """Keep features (L, D): written aside and renamed, so that a file is whole or absent."""
        file = self.path(text)
        file.parent.mkdir(parents=True, exist_ok=True)
        aside = file.with_name(f".{file.name}-{uuid.uuid4().hex}.part")  # processes of two machines share numbers
        try:
            safetensors.torch.save_file({"features": features.detach().cpu().contiguous()}, aside)
            os.replace(aside, file)
        finally:
            aside.unlink(missing_ok=True)
