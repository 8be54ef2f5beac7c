"""Networks that come through the user's own installation: a function handed over in Python, or a TorchScript file.

A TorchScript file runs without the Python code that made it, and cannot call any. It is a program all the same, which
can read and write files: one from a stranger is not to be opened. No name in a file or on a command line is imported.
"""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor

from .expert import fingerprint

Network = Callable[..., Any]


@dataclass(frozen=True, kw_only=True)
class Given:
    """An expert whose network its user brings.

    weights  a TorchScript file; "": `network`
    network  a function, from Python alone
    name     what the function is, for the fingerprint
    device   cpu, cuda, ...
    how      the sentence that says what is needed
    """

    weights: str = ""
    network: Network | None = None
    name: str = ""
    device: str = "cpu"
    how: ClassVar[str]

    @cached_property
    def fingerprint(self) -> str:
        """Errors: ValueError for a file that is not there, and for a function without a name, by which a run that goes
        on could not tell it from another."""
        if self.network is None:
            stat = self._file.stat()
            return fingerprint(self, _digest(self.weights, stat.st_size, stat.st_mtime_ns))
        if not self.name:
            raise ValueError(
                "a network that is handed over needs name='...', by which its answers are told from another's"
            )
        return fingerprint(self, f"name {self.name}")

    @cached_property
    def _network(self) -> Network:
        """The function that was handed over, or the program in the file. Errors: ValueError for none or both."""
        if self.network is None:
            return program(self._file, self.device, self.how)
        if self.weights:
            raise ValueError("a network and a file; possible: one of them")
        return self.network

    @property
    def _file(self) -> Path:
        if not self.weights or not Path(self.weights).is_file():
            raise ValueError(f"{self.weights} is not there; {self.how}" if self.weights else self.how)
        return Path(self.weights)


def program(path: Path, device: str, what: str) -> Network:
    """The network in a TorchScript file. Errors: ValueError where it is something else."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            return torch.jit.load(path, map_location=device).eval()
    except (RuntimeError, ValueError) as error:
        first = str(error).strip().splitlines()[0]
        raise ValueError(f"{path} is no TorchScript file ({first}); {what}") from None


def form(told: Any) -> str:
    """What a network gave, in words: a tensor's shape, else its type."""
    return f"{tuple(told.shape)}" if isinstance(told, Tensor) else type(told).__name__


@lru_cache(maxsize=64)
def _digest(path: str, size: int, time: int) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
