"""Networks that come through the user's own installation: a function handed over in Python, or a TorchScript file.

A TorchScript file holds a network in torch's own restricted language; it runs without the Python code that made it, and
cannot call any. Nothing is imported by a name that stands in a file or on a command line.
"""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch

Network = Callable[..., Any]


def program(path: str, device: str, what: str) -> Network:
    """The network in a TorchScript file. Errors: ValueError where it is not there or is something else."""
    if not Path(path).is_file():
        raise ValueError(f"{path} is not there; {what}")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            return torch.jit.load(path, map_location=device).eval()
    except (RuntimeError, ValueError) as error:
        first = str(error).strip().splitlines()[0]
        raise ValueError(f"{path} is no TorchScript file ({first}); {what}") from None


def chosen(network: Network | None, path: str, device: str, what: str) -> Network:
    """The function that was handed over, or the program in a file. Errors: ValueError for neither, and for both."""
    if (network is None) == (not path):
        raise ValueError(what if network is None else "a network and a file; possible: one of them")
    return network if network is not None else program(path, device, what)


def made_of(network: Network | None, path: str, name: str, what: str) -> str:
    """What stands for the weights in a fingerprint: the file's hash, or the name that the user gave the function.

    Errors: ValueError for a function without a name, for a run that goes on could not tell it from another.
    """
    if network is None:
        if not Path(path).is_file():
            raise ValueError(f"{path} is not there; {what}" if path else what)
        stat = Path(path).stat()
        return _digest(path, stat.st_size, stat.st_mtime_ns)
    if not name:
        raise ValueError("a network that is handed over needs name='...', by which its answers are told from another's")
    return f"name {name}"


@lru_cache(maxsize=64)
def _digest(path: str, size: int, time: int) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
