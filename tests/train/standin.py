"""A task small enough to train in a second and whole enough to go wrong: what the training tests run on."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from polyclock.batch import Batch
from polyclock.dice import Dice, seed_of
from polyclock.train.loop import Job
from polyclock.train.settings import Training

sys.path.append(str(Path(__file__).resolve().parents[2] / "runs"))
import kill  # noqa: E402

Dying, end, in_child = kill.Dying, kill.end, kill.in_child

SETTINGS = Training(
    steps=12, batch_size=8, lr=0.01, warmup=3, ema=0.9, validate_every=4, validation_batches=2, checkpoint_every=4,
    keep=2, log_every=2, max_bad_steps=3, workers=0, seed=5,
)  # fmt: skip


class Net(nn.Module):
    """Two layers, dropout between them (which draws from the global generator), and a frozen part."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(6, 16)
        self.drop = nn.Dropout(0.1)
        self.outer = nn.Linear(16, 6)
        self.frozen = nn.Linear(2, 2).requires_grad_(False)

    def forward(self, x: Tensor) -> Tensor:
        return self.outer(self.drop(torch.tanh(self.inner(x))))

    @torch.no_grad()
    def encode(self, batch: Batch, dice: Dice) -> Batch:
        return batch


def loss(model: Net, latent: Batch, dice: Dice, *, step: int, global_size: int) -> tuple[Tensor, dict[str, Tensor]]:
    """Denoising at a random time; the first half of the numbers is called video, the rest action."""
    x = latent.values["x"]
    assert isinstance(x, Tensor)
    t = dice.uniform("t", 1)
    error = (model((1 - t) * x + t * dice.normal("eps", 6)) - x) ** 2
    parts = {"video": error[:, :3].mean(1).sum() / global_size, "action": error[:, 3:].mean(1).sum() / global_size}
    return parts["video"] + 0.5 * parts["action"], parts


def save(model: nn.Module, folder: Path, weights: Mapping[str, Tensor]) -> None:
    (folder / "config.json").write_text("{}")
    save_file(dict(weights), folder / "model.safetensors")


class Numbers:
    """`size` vectors; vector i is a function of i. `poison` maps a sample to what stands in for its numbers."""

    def __init__(self, size: int, poison: dict[int, float] | None = None) -> None:
        self.size = size
        self.poison = poison or {}

    def __len__(self) -> int:
        return self.size

    def __getitem__(self, i: int) -> Tensor:
        if i in self.poison:
            return torch.full((6,), self.poison[i])
        return torch.randn(6, generator=torch.Generator().manual_seed(seed_of("numbers", i)))


@dataclass
class Loader:
    """Batch k is a function of (seed, k); epochs follow each other without a gap. `seen` collects (k, sample)."""

    source: Numbers
    batch_size: int
    seed: int
    rank: int = 0
    world: int = 1
    workers: int = 0
    seen: list[tuple[int, int]] | None = None

    def ids(self, k: int) -> list[int]:
        size = len(self.source)
        places = range(k * self.batch_size, (k + 1) * self.batch_size)
        orders = {epoch: self._order(epoch) for epoch in {place // size for place in places}}
        return [orders[place // size][place % size] for place in places]

    def batch(self, k: int) -> Batch:
        share = range(self.batch_size * self.rank // self.world, self.batch_size * (self.rank + 1) // self.world)
        ids = [self.ids(k)[j] for j in share]
        x = torch.stack([self.source[i] for i in ids])
        return Batch(torch.tensor(list(share)), {"x": x}, {"x": torch.arange(len(ids))})

    def stream(self, start: int, stop: int) -> Iterator[tuple[int, Batch]]:
        if not self.workers:
            yield from ((k, self._given(k, self.batch(k))) for k in range(start, stop))
            return
        with ThreadPoolExecutor(self.workers) as pool:
            ahead = [pool.submit(self.batch, k) for k in range(start, min(stop, start + 4))]
            for k in range(start, stop):
                if k + 4 < stop:
                    ahead.append(pool.submit(self.batch, k + 4))
                yield k, self._given(k, ahead.pop(0).result())

    def _given(self, k: int, batch: Batch) -> Batch:
        if self.seen is not None:
            self.seen += [(k, self.ids(k)[j]) for j in batch.index.tolist()]
        return batch

    def _order(self, epoch: int) -> list[int]:
        generator = torch.Generator().manual_seed(seed_of(self.seed, "order", epoch))
        return torch.randperm(len(self.source), generator=generator).tolist()


def build() -> Net:
    with torch.random.fork_rng():
        torch.manual_seed(1)
        return Net()


def make_job(
    source: Numbers | None = None, held_out: Numbers | None = None, seen: list[tuple[int, int]] | None = None
) -> Job:
    """The task as the loop sees it; `seen` collects what the training loader hands out."""
    source = source or Numbers(50)

    def loader(what: Numbers, **settings: int) -> Loader:
        return Loader(what, **settings, seen=seen if what is source else None)

    return Job(
        build=build, loss=loss, loader=loader, save=save, source=source, held_out=held_out or Numbers(20),
        facts={"recipe": {"name": "numbers", "width": 16}, "data": {"train": f"{len(source)} numbers"}},
    )  # fmt: skip


def saved(folder: Path) -> dict[str, Tensor]:
    """Every tensor of a checkpoint folder by file and name."""
    files = sorted(folder.rglob("*.safetensors"))
    return {f"{path.relative_to(folder)}:{name}": t for path in files for name, t in load_file(path).items()}


def same(first: Path, second: Path) -> bool:
    """Whether two checkpoint folders hold the same tensors, to the bit."""
    a, b = saved(first), saved(second)
    return a.keys() == b.keys() and len(a) > 5 and all(torch.equal(a[name], b[name]) for name in a)


def replace_order(job: Job, folder: Path) -> Job:
    """The job, spoilt: in a run folder that already has a checkpoint the data come in another order."""
    whole = job.loader

    def loader(what: Numbers, *, seed: int, **settings: int) -> Loader:
        resumed = what is job.source and (folder / "checkpoints").is_dir()
        return whole(what, seed=seed + resumed, **settings)

    return replace(job, loader=loader)
