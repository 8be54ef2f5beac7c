"""The released checkpoint of UnityVideo as a model of ours: `load("model.safetensors", base=WAN)`.

`base.*` is a Wan transformer, by the names of its authors or by diffusers'; `flow_patch_embedding`, `flow_in` and
`flow_head` are the way in and out of all five modalities, `modality_embeddings.NAME` a vector for each. Nothing of a
file is run. What the two compute differs by rounding alone (tests/interop/test_unityvideo_import.py).
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Protocol

import safetensors
import torch
from torch import Tensor

from ..errors import unknown
from ..model import WorldModel
from ..pretrained import save_pretrained
from ..recipes.unityvideo_released import COLUMNS, unityvideo_released
from .restricted import read
from .wan import DTYPES, begin, empty, load_weights, put, table_of

BASE, MARKS = "base.", "modality_embeddings."
NAMES = {theirs: name for name, theirs in COLUMNS.items()}
# diffusers' names of a Wan transformer: its authors'.
OUTSIDE = {
    "condition_embedder.time_embedder.linear_1": "time_embedding.0",
    "condition_embedder.time_embedder.linear_2": "time_embedding.2",
    "condition_embedder.time_proj": "time_projection.1",
    "condition_embedder.text_embedder.linear_1": "text_embedding.0",
    "condition_embedder.text_embedder.linear_2": "text_embedding.2",
    "proj_out": "head.head",
}
IN_BLOCK = {
    "attn1.to_q": "self_attn.q",
    "attn1.to_k": "self_attn.k",
    "attn1.to_v": "self_attn.v",
    "attn1.to_out.0": "self_attn.o",
    "attn1.norm_q": "self_attn.norm_q",
    "attn1.norm_k": "self_attn.norm_k",
    "attn2.to_q": "cross_attn.q",
    "attn2.to_k": "cross_attn.k",
    "attn2.to_v": "cross_attn.v",
    "attn2.to_out.0": "cross_attn.o",
    "attn2.norm_q": "cross_attn.norm_q",
    "attn2.norm_k": "cross_attn.norm_k",
    "norm2": "norm3",
    "ffn.net.0.proj": "ffn.0",
    "ffn.net.2": "ffn.2",
}


def load(
    path: str | Path,
    *,
    base: str | None = None,  # the Wan in diffusers' format whose settings, autoencoder and text encoder it has
    drawn: bool = False,  # maps are given and returned as pictures; else as numbers
    image: tuple[int, int] = (256, 256),  # height,width in pixels; in latent cells, where it brings no autoencoder
    frames: int = 33,  # pictures of a clip, 4 k + 1; latent frames, where the base brings no autoencoder
    rate: float = 8.0,  # pictures a second
    dtype: str | None = None,  # of the weights: float32, bfloat16, float16; not said: as they are
    folder: str | Path | None = None,
) -> WorldModel:
    """The model in a checkpoint (.safetensors, .pt), ready to be asked: `sample(model, "depth | video", video=clip)`.

    `path` may also be the folder of the Wan itself: then the model is what the authors' training begins with. With
    `folder` it is written there as a model folder.

    Errors: ValueError for a weight that is missing, not known or of another shape, by name, or for no base.
    """
    if dtype is not None and dtype not in DTYPES:
        raise unknown("dtype", dtype, DTYPES)
    kind = None if dtype is None else DTYPES[dtype]
    settings: dict[str, Any] = {"drawn": drawn, "image": image, "frames": frames, "rate": rate}
    if Path(path).is_dir():
        if base is not None:
            raise ValueError(f"{path} is a folder, and so the base itself; give a file, or no base")
        model = empty(unityvideo_released(base=str(path), **settings))
        load_weights(model, path, dtype=kind)
    elif base is None:
        raise ValueError(
            f"{path} says nothing of the network's settings; name the Wan that it was made from with base="
        )
    else:
        with ExitStack() as stack:
            model = _filled(opened(Path(path), stack), base, settings, kind)
    if folder is not None:
        save_pretrained(model, folder)
    return model.eval()


class Stored(Protocol):
    """Weights by name, read one by one."""

    def keys(self) -> Any: ...

    def get_tensor(self, name: str) -> Tensor: ...


class Held:
    """Weights of a file of torch.save."""

    def __init__(self, state: Mapping[str, Tensor]) -> None:
        self.state = state

    def keys(self) -> Any:
        return self.state.keys()

    def get_tensor(self, name: str) -> Tensor:
        return self.state[name]


def opened(path: Path, stack: ExitStack) -> Stored:
    """The weights of a file. Errors: ValueError for none, or a file that holds something else."""
    if path.suffix == ".safetensors":
        try:
            return stack.enter_context(safetensors.safe_open(path, framework="pt"))  # type: ignore[no-untyped-call]
        except (OSError, safetensors.SafetensorError) as error:
            raise ValueError(f"{path} holds no readable safetensors: {error}") from error
    found = read(path)
    for _ in range(3):  # a state dict may lie under a name, and that under another
        found = next(iter(found.values())) if isinstance(found, Mapping) and len(found) == 1 else found
    if not isinstance(found, Mapping) or not all(isinstance(v, Tensor) for v in found.values()):
        raise ValueError(f"{path} holds no weights by name")
    return Held(found)


def original(name: str) -> str:
    """diffusers' name of a weight of a Wan transformer -> its authors'."""
    if name == "scale_shift_table":
        return "head.modulation"
    parts = name.split(".")
    if parts[0] != "blocks":
        stem, _, end = name.rpartition(".")
        return f"{OUTSIDE.get(stem, stem)}.{end}"
    inside = ".".join(parts[2:])
    if inside == "scale_shift_table":
        return f"blocks.{parts[1]}.modulation"
    stem, _, end = inside.rpartition(".")
    return f"blocks.{parts[1]}.{IN_BLOCK[stem]}.{end}"


def _filled(stored: Stored, base: str, settings: Mapping[str, Any], dtype: torch.dtype | None) -> WorldModel:
    """The model with the weights of a checkpoint."""
    names = set(stored.keys())
    theirs = [n.removeprefix(MARKS) for n in names if n.startswith(MARKS)]
    for name in theirs:
        if name not in NAMES:
            raise unknown("modality of the checkpoint", name, NAMES)
    if not theirs:
        raise ValueError(f"the checkpoint has no {MARKS}NAME, so it is none of this kind")
    maps = tuple(name for name, word in COLUMNS.items() if word in theirs)
    model = empty(unityvideo_released(base=base, maps=maps, **settings))
    shapes = {n: v.shape for n, v in model.state_dict(keep_vars=True).items()}
    ours = f"{BASE}blocks.0.self_attn.q.weight" in names
    used: set[str] = set()

    def take(name: str) -> Tensor:
        if name not in names:
            raise ValueError(f"the checkpoint lacks {name!r}")
        used.add(name)
        return stored.get_tensor(name)

    def give(name: str, value: Tensor, source: str) -> None:
        if shapes[name] != value.shape:
            raise ValueError(
                f"{source} makes {name!r} of shape {tuple(value.shape)}; the model has {tuple(shapes[name])}"
            )
        put(model, name, value, dtype, "cpu")

    for link in table_of(model):
        found = [BASE + (original(n) if ours else n) for n in link.theirs]
        give(link.ours, link.read([take(n) for n in found]), " and ".join(found))
    for name, source, value in _added(take, maps, BASE + ("head.modulation" if ours else "scale_shift_table")):
        give(name, value, source)
    begin(model, "cpu")
    extra = sorted(names - used)
    if extra:
        raise unknown("weight in the checkpoint:", extra[0], sorted(used))
    return model


def _added(take: Any, maps: tuple[str, ...], table: str) -> list[tuple[str, str, Tensor]]:
    """(our name, theirs, value) of what was added to the Wan, whose last modulation is `table`."""
    first = maps[0]
    patch = take("flow_patch_embedding.weight").movedim(1, -1).flatten(1).contiguous()
    found = [(f"embed.{first}.0.weight", "flow_patch_embedding.weight", patch)]
    plain = {
        f"embed.{first}.0.bias": "flow_patch_embedding.bias",
        f"embed.{first}.2.weight": "flow_in.weight",
        f"embed.{first}.2.bias": "flow_in.bias",
        f"head.{first}.weight": "flow_head.head.weight",
        f"head.{first}.bias": "flow_head.head.bias",
    }
    found += [(mine, theirs, take(theirs)) for mine, theirs in plain.items()]
    # Their second head has a table of its own, ours what it differs by from the first.
    head = take("flow_head.modulation")
    apart = (head.float() - take(table).float()).flatten().to(head.dtype)
    found += [(f"modulation.last.{name}", "flow_head.modulation", apart.clone()) for name in maps]
    return found + [(f"view.{n}", MARKS + COLUMNS[n], take(MARKS + COLUMNS[n]).flatten()) for n in maps]
