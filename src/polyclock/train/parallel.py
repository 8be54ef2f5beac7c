"""Several processes as one: who I am among them, how the model is wrapped, and the few words they exchange."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.nn.parallel import DistributedDataParallel


@dataclass(frozen=True, kw_only=True)
class Ranks:
    """This process (`rank`) among `size`; mesh is None where it is alone."""

    rank: int = 0
    size: int = 1
    device: torch.device = torch.device("cpu")
    mesh: DeviceMesh | None = None

    @property
    def first(self) -> bool:
        return self.rank == 0

    def sum(self, values: Tensor) -> Tensor:
        """(n,) -> (n,): the sum over all processes, the same bits on each."""
        if self.mesh is not None:
            dist.all_reduce(values, group=self.mesh.get_group())
        return values

    def on_first(self, act: Callable[[], str | None]) -> str:
        """Run `act` on the first process; all wait for it and get its text.

        What it raises there is raised on every process, so that none waits for ever.
        """
        if self.mesh is None:
            return act() or ""
        failure: BaseException | None = None
        text, failed = "", 0
        if self.first:
            try:
                text = act() or ""
            except Exception as error:
                failure, text, failed = error, f"{type(error).__name__}: {error}", 1
        text, failed = self._tell(text, failed)
        if failure is not None:
            raise failure
        if failed:
            raise RuntimeError(f"the first process failed: {text}")
        return text

    def _tell(self, text: str, flag: int) -> tuple[str, int]:
        assert self.mesh is not None
        group = self.mesh.get_group()
        # Plain bytes: the object calls of torch.distributed would unpickle what they receive.
        data = torch.tensor(list(text.encode()), dtype=torch.uint8, device=self.device)
        head = torch.tensor([len(data), flag], dtype=torch.int64, device=self.device)
        dist.broadcast(head, 0, group=group)
        size, flag = (int(v) for v in head.tolist())
        if not self.first:
            data = torch.empty(size, dtype=torch.uint8, device=self.device)
        if size:
            dist.broadcast(data, 0, group=group)
        return bytes(data.tolist()).decode(), flag


@contextmanager
def joined(device: str | torch.device | None = None) -> Iterator[Ranks]:
    """Join the processes that torchrun started (RANK, WORLD_SIZE, LOCAL_RANK), or be alone.

    gloo on CPUs, nccl on GPUs. A process group that the caller made already is used and left open.
    """
    device = torch.device(device) if device else _own_device()
    if device.type == "cuda":
        torch.cuda.set_device(device)
    if not dist.is_initialized() and int(os.environ.get("WORLD_SIZE", "1")) < 2:
        yield Ranks(device=device)
        return
    ours = not dist.is_initialized()
    if ours:
        dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
    try:
        mesh = init_device_mesh(device.type, (dist.get_world_size(),), mesh_dim_names=("data",))
        yield Ranks(rank=dist.get_rank(), size=dist.get_world_size(), device=device, mesh=mesh)
    finally:
        if ours:
            # gloo's threads need the GIL to let go of the last tensors, and the group is torn down with the GIL held:
            # without this pause the two now and then wait for each other for ever (seen with torch 2.13).
            time.sleep(0.2)
            dist.destroy_process_group()


def parallelize(model: nn.Module, mesh: DeviceMesh | None) -> nn.Module:
    """Wrap the module whose forward computes the loss, so that its gradients are averaged over `mesh`.

    The gradient is the mean over processes: with losses that are sums / global batch size, multiply the loss by the
    number of processes. Every parameter must take part in every forward pass, if only with zero rows.

    For models that do not fit on one GPU, `torch.distributed.fsdp.fully_shard(block, mesh=mesh)` over the blocks
    and then over the model goes here; `State.tensors` must then gather (`DTensor.full_tensor`) before it saves, and
    `State.load` distribute what it reads. Nothing else in the loop would change.
    """
    if mesh is None:
        return model
    return DistributedDataParallel(model, process_group=mesh.get_group())


def unsynced(module: nn.Module) -> AbstractContextManager[None]:
    """Within the block gradients stay local: for all but the last forward pass of an accumulated step."""
    return module.no_sync() if isinstance(module, DistributedDataParallel) else nullcontext()


def _own_device() -> torch.device:
    if torch.cuda.is_available():
        return torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
    return torch.device("cpu")
