"""Model folders in the hub's manner: config.json, model.safetensors, codecs.safetensors and a model card."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path

import safetensors.torch
import torch
from torch import Tensor

from . import __version__, codecs, encoders
from .adapter import Adapter
from .augment import Shift
from .backbones.dit import DiT
from .backbones.wan import Wan
from .density import LogitNormal, Places, Uniform
from .errors import unknown
from .layout import After, Layout, OneOf, Stream
from .modality import Condition, Modality
from .model import WorldModel
from .nn.detail import Detail
from .nn.modulation import Joint, JointLocal, Local
from .objective import Annealed
from .path import Cosine, Discrete, Linear
from .plain import from_plain, to_plain
from .query import Query
from .recipe import Recipe
from .relations import Relations
from .timesteps import Drop, Fixed, Independent, Mixture, PerFrame, Shared, Task, Without
from .views import Jitter, View

OWN: tuple[type, ...] = (
    *(
        Recipe,
        Modality,
        Condition,
        Adapter,
        View,
        Jitter,
        Layout,
        Stream,
        OneOf,
        After,
        Detail,
        DiT,
        Wan,
        Joint,
        JointLocal,
        Local,
    ),
    *(Linear, Cosine, Discrete, Annealed, Relations, Shift),
    *(Drop, Fixed, Independent, Mixture, PerFrame, Shared, Task, Without, Uniform, LogitNormal, Places),
)


def table(classes: Iterable[type] = ()) -> dict[str, type]:
    """The closed table of classes that a config may name: ours, and those that the caller passes."""
    from_codecs = [getattr(codecs, n) for n in codecs.__all__]
    from_encoders = [getattr(encoders, n) for n in encoders.__all__]
    both = [*OWN, *(c for c in (*from_codecs, *from_encoders) if isinstance(c, type)), *classes]
    return {c.__name__: c for c in both}


def save_pretrained(
    model: WorldModel, folder: str | Path, weights: Mapping[str, Tensor] | None = None, *, half: bool = False
) -> None:
    """Write a model folder. `weights` replaces the model's own (an average of them, say).

    `half` stores float32 weights as float16, which `from_pretrained` reads into float32 again: half the size, for
    models that are shipped and not trained on. Not atomic: the trainer writes into a folder aside and renames it.
    Errors: ValueError for a weight that float16 cannot hold.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    tensors: dict[str, Tensor] = {}
    recipe = to_plain(model.recipe, tensors, root=folder)
    config = {"library": "polyclock", "version": __version__, "recipe": recipe}
    (folder / "config.json").write_text(json.dumps(config, indent=1))
    safetensors.torch.save_file(tensors, folder / "codecs.safetensors")
    state = dict(weights or model.state_dict())
    state = {n: v.detach().cpu().contiguous() for n, v in state.items()}
    if half:
        state = {n: v.half() if v.dtype == torch.float32 else v for n, v in state.items()}
        for name, value in state.items():
            if not value.isfinite().all():
                raise ValueError(f"{name!r} has values that float16 cannot hold; save it whole")
    safetensors.torch.save_file(state, folder / "model.safetensors", metadata={"format": "pt"})
    (folder / "README.md").write_text(card(model))


def from_pretrained(folder: str | Path, classes: Iterable[type] = ()) -> WorldModel:
    """Read a model folder; nothing in it is executed. `classes` are the user's own parts named in its config.

    Errors: a missing file, an unknown class or field, weights that do not fit, by name.
    """
    folder = Path(folder)
    for name in ("config.json", "model.safetensors", "codecs.safetensors"):
        if not (folder / name).is_file():
            raise ValueError(f"{folder} is no model folder: {name} is missing")
    try:
        config = json.loads((folder / "config.json").read_text())
    except ValueError as error:
        raise ValueError(f"{folder} is damaged: config.json is no JSON: {error}") from None
    if not isinstance(config, dict) or config.get("library") != "polyclock" or "recipe" not in config:
        raise ValueError(f"{folder / 'config.json'} was not written by polyclock")
    fitted = safetensors.torch.load_file(folder / "codecs.safetensors")
    recipe = from_plain(config["recipe"], fitted, table(classes), root=folder)
    model = recipe.build()
    state = safetensors.torch.load_file(folder / "model.safetensors")
    own = model.state_dict()
    for name, value in own.items():
        if name not in state:
            raise ValueError(f"{folder / 'model.safetensors'} lacks {name!r}")
        if state[name].shape != value.shape:
            raise ValueError(f"{name!r} has shape {tuple(state[name].shape)}; the model needs {tuple(value.shape)}")
    for name in state:
        if name not in own:
            raise unknown(f"weight in {folder / 'model.safetensors'}", name, own)
    model.load_state_dict(state)
    return model.eval()


def card(model: WorldModel) -> str:
    """A model card: what it models, what it was trained to answer, how to use it."""
    recipe: Recipe = model.recipe  # type: ignore[assignment]
    size = sum(p.numel() for p in model.parameters()) / 1e6
    lines = [
        "---\nlibrary_name: polyclock\ntags: [world-model, diffusion, robotics]\n---\n",
        f"# {recipe.name}\n",
        f"A Polyclock world model, {size:.1f} M parameters. Diffusion time 0 is known, 1 is unknown.\n",
        "| modality | latent shape (T, *S, C) | path |\n|---|---|---|",
    ]
    for n, m in recipe.modalities.items():
        lines.append(f"| `{n}` | {m.shape} | {type(m.path).__name__}, predicts {m.path.predict} |")
    lines.append(f"\nConditions: {', '.join(f'`{n}`' for n in recipe.conditions) or 'none'}.\n")
    lines.append("Trained role patterns:\n")
    lines += [f"- {p.label}" for p in {p.label: p for p in model.patterns or ()}.values()]
    trained = (p.label for p in model.patterns or () if "|" in p.label)
    query = Query.parse(next(trained, f"{next(iter(model.modalities))} |"))
    required = [n for n, c in model.conditions.items() if c.required]
    values = "".join(f", {n}={n}" for n in dict.fromkeys((*(term.name for term in query.given), *required)))
    lines.append(
        '\n```python\nfrom polyclock import from_pretrained, sample\n\nmodel = from_pretrained("FOLDER")\n'
        f'query = "{query.text}"\nanswer = sample(model, query{values})\n```\n'
    )
    return "\n".join(lines)
