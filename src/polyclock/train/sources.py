"""What a run learns from: data sets in shares, of which each sample brings one modality a slot, stage after stage."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from ..data import Mixture, Source, Stages, Windows, one_each
from ..errors import unknown
from ..recipe import Recipe


@dataclass(frozen=True, kw_only=True)
class Sources:
    """The data of a run.

    sets     windows by name; a word of `stages` names one of them, or "all"
    weights  share of each of the samples that come from all; a set without one: as many as it has samples
    shares   of modalities that share a slot of the layout, of which a sample brings one; one without: 1
    """

    recipe: Recipe
    sets: Mapping[str, Windows]
    weights: Mapping[str, float] = field(default_factory=dict)
    shares: Mapping[str, float] = field(default_factory=dict)
    seed: int = 0

    def source(self, word: str = "all") -> Source:
        """The samples of a word: "all" or a set's name, less modalities: "all-flow-depth".

        Errors: ValueError for an unknown set or modality, or where nothing is left.
        """
        name, *less = word.split("-")
        if name not in (*self.sets, "all"):
            raise unknown("data of a stage", name, [*self.sets, "all"])
        for modality in less:
            if modality not in self.recipe.modalities:
                raise unknown("modality that a stage leaves out", modality, self.recipe.modalities)
        chosen = self.sets if name == "all" else {name: self.sets[name]}
        members = {n: self._one_each(windows, less) for n, windows in chosen.items()}
        if len(members) == 1:
            return next(iter(members.values()))
        total = sum(len(m) for n, m in members.items() if n not in self.weights)
        left = 1 - sum(self.weights.values())
        shares = {n: self.weights.get(n, left * len(m) / total if total else 0) for n, m in members.items()}
        return Mixture([(shares[n], m) for n, m in members.items()], seed=self.seed)

    def staged(self, stages: Sequence[tuple[str, int]], steps: int, accumulate: int = 1) -> Source | Stages:
        """All samples, or those of (word, steps) one after another; a step takes `accumulate` batches.

        Errors: ValueError where the stages are not as long as the run.
        """
        if not stages:
            return self.source()
        if sum(count for _, count in stages) != steps:
            raise ValueError(f"the stages last {sum(c for _, c in stages)} steps, and the run {steps}; let them agree")
        return Stages([(count * accumulate, self.source(word)) for word, count in stages])

    def _one_each(self, windows: Windows, less: Sequence[str]) -> Source:
        slots = [[n for n in g if n not in less] for s in self.recipe.layout.streams for g in s.exclusive]
        slots = [slot for slot in slots if slot]
        shares = {n: share for n, share in self.shares.items() if n not in less}
        return one_each(windows.part([n for n in windows.signals if n not in less]), slots, shares, seed=self.seed)
