"""From a recipe and a data set to a training run: `train` for people, `recipe_job` for sources of their own."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Mapping, Sized
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor

from ..batch import Batch
from ..data import Dataset, Latents, Loader, Source, Stages, Windows
from ..data.latents import Precision
from ..data.stages import StagedLoader
from ..dice import Dice
from ..model import WorldModel
from ..objective import loss
from ..plain import to_plain
from ..pretrained import save_pretrained
from ..recipe import Recipe
from .ahead import encoded_ahead
from .loop import Job, Result, run
from .settings import Training
from .sources import Sources


class Begin(Protocol):
    """What a new model begins as."""

    @property
    def digest(self) -> str:
        """A few letters for the weights that it has."""
        ...

    def __call__(self, model: WorldModel) -> Collection[str]:
        """Put them into the model; the names of the parameters that have them now."""
        ...


def train(
    recipe: Recipe,
    dataset: Dataset,
    training: Training,
    out: str | Path,
    *,
    held_out: Iterable[int] = (),
    stride: int = 1,
    fit: bool = True,
    device: str | torch.device | None = None,
    tensorboard: bool = False,
    latents: str | Path | None = None,
    latents_as: Precision = "float32",
    begin: Begin | None = None,
) -> Result:
    """Train `recipe` on `dataset` into the folder `out`; the same call resumes.

    held_out: numbers of the episodes to validate on, kept from training and from the fit of the codecs. stride: data
    frames between the windows of an episode. fit=False keeps the recipe's codecs as they are (fine-tuning). latents: a
    folder that what frozen networks say of the targets is kept in, as numbers of this precision, computed before
    training; several runs may share it. None: they run in every step. begin: puts the weights of the recipe's base into
    the new model, `interop.expanded.Base(recipe.base)`. The weights to use afterwards are in out/model: the average at
    the lowest validation loss, or the newest average where nothing is held out. Raises what `run` raises, and
    `ValueError` where recipe and data do not go together.
    """
    held = tuple(sorted(set(held_out)))
    rest = dataset.without(held) if held else dataset
    if fit:
        recipe = recipe.fit(rest)
    signals = recipe.signals()
    facts = {
        "fingerprint": rest.fingerprint, "episodes": [e.index for e in rest.episodes], "held_out": list(held),
        "stride": stride,
    }  # fmt: skip
    ahead: dict[str, Latents] = {}
    later: dict[str, Latents] = {}
    if latents is not None:
        how = {"stride": stride, "precision": latents_as, "device": device}
        ahead = encoded_ahead(recipe, dataset, [e.index for e in rest.episodes], latents, training=True, **how)
        later = encoded_ahead(recipe, dataset, held, latents, training=False, **how)
        facts["ahead"] = {"names": list(ahead), "precision": latents_as}
    sets = {"data": Windows(rest, signals, stride, ahead)}
    validation = Windows(dataset.only(held), signals, stride, later) if held else None
    job = recipe_job(
        recipe,
        Sources(recipe=recipe, sets=sets, seed=training.seed).source(),
        validation and Sources(recipe=recipe, sets={"data": validation}, seed=training.seed).source(),
        data=facts,
        begin=begin,
    )
    return run(job, training, out, device=device, tensorboard=tensorboard)


def recipe_job(
    recipe: Recipe,
    source: Source | Stages,
    held_out: Source | None = None,
    *,
    data: dict[str, Any],
    weights: Mapping[str, Tensor] | None = None,
    begin: Begin | None = None,
) -> Job:
    """A fitted recipe on any source, or on stages of sources.

    `data` is plain data that says which data it is: resuming on others is refused. `weights` is a state dict to start
    from in place of new weights (fine-tuning); `begin` puts what it has into the new model, which keeps the rest.
    Errors: ValueError for a recipe with a base that nothing reads.
    """
    if recipe.base is not None and weights is None and begin is None:
        raise ValueError(
            f"the recipe {recipe.name!r} begins as the network in {recipe.base}, which nothing reads; give "
            "begin=interop.expanded.Base(recipe.base), or weights"
        )

    def objective(
        model: WorldModel, latent: Batch, dice: Dice, *, step: int, global_size: int
    ) -> tuple[Tensor, dict[str, Tensor]]:
        for augmentation in recipe.augment if model.training else ():
            latent = augmentation(latent, dice)
        return loss(model, latent, recipe.law, dice, step=step, global_size=global_size)

    def loader(what: Sized, **settings: int) -> Loader | StagedLoader:
        if isinstance(what, Stages):
            return what.loader(recipe.signals(), **settings)
        return Loader(what, recipe.signals(), **settings)  # type: ignore[arg-type]

    def build() -> WorldModel:
        model = recipe.build()
        if weights is not None:
            model.load_state_dict(weights)
        elif begin is not None:
            model.begin_as(begin(model))
        return model

    tensors: dict[str, Tensor] = {}
    plain = to_plain(recipe, tensors)
    codecs = {place: _digest(tensor) for place, tensor in tensors.items()}
    facts = {"recipe": plain, "data": data, "codecs": codecs}
    if weights is not None:
        facts["weights"] = _digest(torch.cat([value.flatten().float() for value in weights.values()]))
    elif begin is not None:
        facts["weights"] = begin.digest
    return Job(
        build=build,
        loss=objective,
        loader=loader,
        save=save_pretrained,  # type: ignore[arg-type]
        source=source,
        held_out=held_out,
        facts=facts,
    )


def _digest(tensor: Tensor) -> str:
    """A few letters for a tensor's shape and bits."""
    plain = tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8)
    return hashlib.sha256(f"{tuple(tensor.shape)}".encode() + plain.numpy().tobytes()).hexdigest()[:16]
