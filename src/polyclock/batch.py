"""A batch by presence: each name has values for the samples that have it, and only for those."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor


@dataclass(frozen=True)
class Batch:
    """B samples of which each may lack any signal; absence is absence, never a zero.

    values[name]   (b, T', *S', C') raw or (b, T, *S, C) latent, or a list of b strings; b may be 0
    rows[name]     (b,) int64: the samples that have it, rising
    valid[name]    (b, T') bool: False for data frames that only pad the end of an episode; vectors and videos only
    index          (B,) int64: places in the global batch (what `Dice` draws by)
    ahead          names whose values are (b, V, T, *S, K): what the frozen network of their codec said of V looks at
                   the raw values, kept in place of these

    Every name of the recipe is a key, also where no sample has it.
    """

    index: Tensor
    values: Mapping[str, Tensor | list[str]]
    rows: Mapping[str, Tensor]
    valid: Mapping[str, Tensor] = field(default_factory=dict)
    ahead: frozenset[str] = frozenset()

    def tensor(self, name: str) -> Tensor:
        """The values of a name that is not text."""
        value = self.values[name]
        assert isinstance(value, Tensor), f"{name} is text"
        return value

    @property
    def size(self) -> int:
        """B."""
        return len(self.index)

    def to(self, device: str | torch.device) -> Batch:
        def move(d: Mapping) -> dict:
            return {n: v.to(device, non_blocking=True) if isinstance(v, Tensor) else v for n, v in d.items()}

        # `index` is read number by number to seed generators: it stays on the CPU.
        return replace(self, values=move(self.values), rows=move(self.rows), valid=move(self.valid))
