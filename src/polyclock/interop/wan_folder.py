"""A Wan transformer's folder in diffusers' format: config.json, and weights that are read and written in pieces."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
from torch import Tensor

from ..backbones.wan import Wan
from ..errors import unknown

KIND = "WanTransformer3DModel"
WEIGHTS = "diffusion_pytorch_model"
UNITS = {"": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9}
# What diffusers takes where config.json says nothing.
USUAL = {
    "patch_size": [1, 2, 2],
    "num_attention_heads": 40,
    "attention_head_dim": 128,
    "in_channels": 16,
    "out_channels": 16,
    "text_dim": 4096,
    "freq_dim": 256,
    "ffn_dim": 13824,
    "num_layers": 40,
    "cross_attn_norm": True,
    "qk_norm": "rms_norm_across_heads",
    "eps": 1e-6,
    "image_dim": None,
    "added_kv_proj_dim": None,
    "rope_max_seq_len": 1024,
    "pos_embed_seq_len": None,
}


def transformer_folder(path: str | Path) -> Path:
    """The folder itself, or `transformer` in a pipeline's folder. Errors: ValueError for two networks (Wan2.2-A14B)."""
    folder = Path(path).expanduser()
    if (folder / "transformer_2").is_dir():
        raise ValueError(f"{folder} holds two networks for two ranges of times; name one: {folder / 'transformer'}")
    inside = folder / "transformer"
    return inside if inside.is_dir() and not (folder / "config.json").is_file() else folder


def read_config(folder: str | Path) -> dict[str, Any]:
    """config.json with what it leaves to diffusers filled in.

    Errors: ValueError for another class, an unknown setting, or a variant that is given an image beside its latents.
    """
    file = Path(folder) / "config.json"
    if not file.is_file():
        raise ValueError(f"{file} does not exist; the folder must hold a {KIND} in diffusers' format")
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{file} is not JSON: {error}") from error
    kind = found.get("_class_name") if isinstance(found, dict) else None
    if kind != KIND:
        raise ValueError(f"{file} describes {kind!r}; possible here: {KIND!r}")
    for name in found:
        if name not in USUAL and not name.startswith("_"):
            raise unknown(f"setting in {file}:", name, USUAL)
    config = USUAL | {n: v for n, v in found.items() if not n.startswith("_")}
    for name in ("image_dim", "added_kv_proj_dim", "pos_embed_seq_len"):
        if config[name] is not None:
            raise ValueError(
                f"{file}: {name}={config[name]} is an image-to-video variant that reads CLIP features of an image; "
                "possible: networks of text and video alone"
            )
    if config["out_channels"] not in (None, config["in_channels"]):
        raise ValueError(
            f"{file}: {config['in_channels']} channels go in and {config['out_channels']} come out, as in variants "
            "that are shown an image beside the latents; possible: as many in as out"
        )
    if config["qk_norm"] != USUAL["qk_norm"]:
        raise ValueError(f"{file}: qk_norm={config['qk_norm']!r}; possible: {USUAL['qk_norm']!r}")
    return config


def backbone_of(config: Mapping[str, Any]) -> Wan:
    """config.json of diffusers -> our description of the network."""
    heads = config["num_attention_heads"]
    return Wan(
        width=heads * config["attention_head_dim"],
        depth=config["num_layers"],
        heads=heads,
        feedforward=config["ffn_dim"],
        cross_norm=config["cross_attn_norm"],
        eps=config["eps"],
    )


@dataclass(frozen=True)
class Weights:
    """The weights of a folder, each read when it is asked for; `where` is the file of every name."""

    folder: Path
    where: Mapping[str, str]

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Every weight's shape, without reading one."""
        out: dict[str, tuple[int, ...]] = {}
        with ExitStack() as stack:
            files = {f: stack.enter_context(_open(self.folder / f)) for f in dict.fromkeys(self.where.values())}
            for name, file in self.where.items():
                if name not in files[file].keys():  # noqa: SIM118
                    raise ValueError(f"{self.folder / file} lacks {name!r}, which the index says is there")
                out[name] = tuple(files[file].get_slice(name).get_shape())
        return out

    def stream(self, groups: Iterable[tuple[str, ...]]) -> Iterator[list[Tensor]]:
        """The tensors of each group of names, one group in memory at a time."""
        with ExitStack() as stack:
            files: dict[str, Any] = {}
            for names in groups:
                for file in (self.where[n] for n in names):
                    if file not in files:
                        files[file] = stack.enter_context(_open(self.folder / file))
                yield [files[self.where[n]].get_tensor(n) for n in names]


def open_weights(folder: str | Path) -> Weights:
    """The weights of one file, or of several with their index. Errors: ValueError where there are none, or a file of
    the index is missing or lies elsewhere."""
    folder = Path(folder)
    index, single = folder / f"{WEIGHTS}.safetensors.index.json", folder / f"{WEIGHTS}.safetensors"
    if not index.is_file():
        if not single.is_file():
            raise ValueError(f"{folder} holds neither {single.name} nor {index.name}")
        with _open(single) as file:
            return Weights(folder, dict.fromkeys(file.keys(), single.name))
    try:
        where = dict(json.loads(index.read_text(encoding="utf-8"))["weight_map"])
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{index} is no index of safetensors: {error!r}") from error
    for name in sorted(set(map(str, where.values()))):
        if Path(name).name != name or not (folder / name).is_file():
            raise ValueError(f"{index} names {name!r}, which is no file in {folder}")
    return Weights(folder, where)


def _open(file: Path) -> Any:
    try:
        return safetensors.safe_open(file, framework="pt")
    except (OSError, safetensors.SafetensorError) as error:
        raise ValueError(f"{file} holds no readable safetensors: {error}") from error


def notes_of(folder: str | Path) -> dict[str, str]:
    """What the first file of weights says of itself in its header."""
    found = open_weights(folder)
    if not found.where:
        return {}
    with _open(found.folder / next(iter(found.where.values()))) as file:
        return dict(file.metadata() or {})


def write_folder(
    folder: Path,
    config: Mapping[str, Any],
    sizes: Mapping[str, int],
    pieces: Iterator[dict[str, Tensor]],
    limit: int,
    notes: Mapping[str, str] | None = None,
) -> None:
    """Write config.json and weights: `pieces` bring the names of `sizes` (bytes) in that order; a file holds at most
    `limit` bytes, or one tensor, and `notes` in its header. One file's weights are in memory at a time."""
    folder.mkdir(parents=True, exist_ok=True)
    shards = _shards(sizes, limit)
    where: dict[str, str] = {}
    waiting: dict[str, Tensor] = {}
    for i, names in enumerate(shards):
        file = f"{WEIGHTS}.safetensors" if len(shards) == 1 else f"{WEIGHTS}-{i + 1:05}-of-{len(shards):05}.safetensors"
        while not all(n in waiting for n in names):
            waiting |= next(pieces)
        held = {n: waiting.pop(n) for n in names}
        safetensors.torch.save_file(held, folder / file, metadata={"format": "pt", **(notes or {})})
        where |= dict.fromkeys(names, file)
    if len(shards) > 1:
        index = {"metadata": {"total_size": sum(sizes.values())}, "weight_map": where}
        (folder / f"{WEIGHTS}.safetensors.index.json").write_text(json.dumps(index, indent=2) + "\n")
    text = json.dumps({"_class_name": KIND} | dict(config), indent=2)
    (folder / "config.json").write_text(text + "\n")


def _shards(sizes: Mapping[str, int], limit: int) -> list[list[str]]:
    """Names, in order, so that a file holds at most `limit` bytes or one tensor."""
    out: list[list[str]] = [[]]
    room = limit
    for name, size in sizes.items():
        if size > room and out[-1]:
            out.append([])
            room = limit
        out[-1].append(name)
        room -= size
    return out


def bytes_of(size: str | int) -> int:
    """ "5GB" -> 5 000 000 000. Errors: ValueError for what is no size."""
    match = re.fullmatch(r"(\d+)\s*([KMG]B)?", str(size).strip())
    if not match or not int(match[1]):
        raise ValueError(f"shard_size={size!r}; possible: a number of bytes, or such as 5GB, 500MB")
    return int(match[1]) * UNITS[match[2] or ""]
