"""Our frozen values as plain data and back: `{"is": "Quantile", ...}` plus named tensors, never code.

Names resolve in one closed table of classes; an unknown name or field is an error, and nothing is imported by name.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from .errors import unknown

Plain = Any  # what json can hold
PATH = {"path": True}  # metadata of a dataclass field that names a file or folder


def to_plain(value: object, tensors: dict[str, Tensor], place: str = "", root: Path | None = None) -> Plain:
    """A value -> plain data; its tensors go into `tensors` under the place where they were found.

    A field that is marked as a path (`PATH`) and lies within the folder `root` is written as seen from there, so that
    the folder can be moved; one outside is written from the top.
    """
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        out: dict[str, Plain] = {"is": type(value).__name__}
        for f in dataclasses.fields(value):
            part = getattr(value, f.name)
            if root is not None and f.metadata == PATH and isinstance(part, str):
                part = _within(part, root)
            out[f.name] = to_plain(part, tensors, f"{place}/{f.name}", root)
        return out
    if isinstance(value, Tensor):
        tensors[place] = value.detach().cpu().contiguous()
        return {"tensor": place}
    if isinstance(value, Mapping):
        return {"map": {str(k): to_plain(v, tensors, f"{place}/{k}", root) for k, v in value.items()}}
    if isinstance(value, set | frozenset):
        return {"set": sorted(value)}
    if isinstance(value, tuple | list):
        return [to_plain(v, tensors, f"{place}/{i}", root) for i, v in enumerate(value)]
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise ValueError(f"{place or 'the value'} holds a {type(value).__name__}, which cannot be saved as plain data")


def _within(path: str, root: Path) -> str:
    """A path inside `root` as seen from there; any other from the top, so that it means the same from anywhere."""
    here, root = Path(path).expanduser().absolute(), root.resolve()
    inside = here.resolve()
    return inside.relative_to(root).as_posix() if inside.is_relative_to(root) else str(here)


def from_plain(
    data: Plain,
    tensors: Mapping[str, Tensor],
    table: Mapping[str, type],
    place: str = "config",
    root: Path | None = None,
) -> Any:
    """The inverse of `to_plain`; paths are as seen from `root`. Errors: what is not known, and where it stands."""
    if isinstance(data, list):
        return tuple(from_plain(v, tensors, table, f"{place}[{i}]", root) for i, v in enumerate(data))
    if not isinstance(data, dict):
        return data
    if "is" not in data:  # a class of ours may have a field called map, set or tensor
        return _container(data, tensors, table, place, root)
    if data["is"] not in table:
        raise ValueError(f"{place}: {unknown('class', data['is'], table)} Pass your own as classes=[...].")
    return _built(table[data["is"]], data, tensors, table, place, root)


def _container(
    data: dict, tensors: Mapping[str, Tensor], table: Mapping[str, type], place: str, root: Path | None
) -> Any:
    if "map" in data:
        return {k: from_plain(v, tensors, table, f"{place}.{k}", root) for k, v in data["map"].items()}
    if "set" in data:
        return frozenset(data["set"])
    if "tensor" not in data:
        raise ValueError(f"{place}: an object without 'is', so its class is unknown")
    if data["tensor"] not in tensors:
        raise ValueError(f"{place}: the tensor {data['tensor']!r} is missing")
    return tensors[data["tensor"]]


def _built(
    cls: type, data: dict, tensors: Mapping[str, Tensor], table: Mapping[str, type], place: str, root: Path | None
) -> Any:
    fields = {f.name: f for f in dataclasses.fields(cls)}
    for name in data:
        if name != "is" and name not in fields:
            raise ValueError(f"{place}: {unknown(f'field of {cls.__name__}', name, fields)}")
    value: Any = object.__new__(cls)  # some classes take their parts as *args; fields are what is saved
    for name, f in fields.items():
        if name in data:
            part = from_plain(data[name], tensors, table, f"{place}.{name}", root)
            if root is not None and f.metadata == PATH and isinstance(part, str):
                part = str(root.absolute() / Path(part).expanduser())
        elif f.default is not dataclasses.MISSING:
            part = f.default
        elif f.default_factory is not dataclasses.MISSING:
            part = f.default_factory()
        else:
            raise ValueError(f"{place}: {cls.__name__} needs the field {name!r}")
        object.__setattr__(value, name, part)
    if hasattr(value, "__post_init__"):
        value.__post_init__()
    return value
