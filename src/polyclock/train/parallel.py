"""Several processes as one: who I am among them, how the model is wrapped, and the few words they exchange."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.nn.parallel import DistributedDataParallel
from torch.utils.checkpoint import checkpoint


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
    device = torch.device(device) if device else own_device()
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


def blocks_of(model: nn.Module) -> list[nn.Module]:
    """The blocks of a model's backbone. Errors: ValueError for a model without."""
    found = getattr(getattr(model, "backbone", None), "blocks", None)
    if not isinstance(found, nn.ModuleList):
        raise ValueError(f"a {type(model).__name__} has no backbone with blocks; lora, recompute and shards need them")
    return list(found)


def own_blocks(model: nn.Module) -> list[nn.Module]:
    """The blocks that streams have of their own, beside those of the backbone."""
    experts = getattr(getattr(model, "backbone", None), "experts", {})
    return [block for expert in experts.values() for block in expert.blocks]


def recompute(model: nn.Module) -> None:
    """From now on a backward pass computes what happened within each block anew, in place of keeping it.

    So for blocks that a stream has of its own, but for their queries, keys and values, which the others look at.
    """
    for block in (*blocks_of(model), *own_blocks(model)):
        block.forward = partial(checkpoint, block.forward, use_reentrant=False)  # type: ignore[method-assign]


def parallelize(module: nn.Module, mesh: DeviceMesh | None, shards: bool = False) -> nn.Module:
    """Wrap the module whose forward computes the loss, so that its gradients are averaged over `mesh`.

    The gradient is the mean over processes: with losses that are sums / global batch size, multiply the loss by the
    number of processes. Every parameter must take part in every forward pass, if only with zero rows.

    With `shards` each process keeps a share of every weight of `module.model` and puts a block's together while it
    computes it (FSDP2), for models that do not fit on one GPU; else each keeps a copy of all. Blocks that a stream has
    of its own are narrow, and are together for a whole pass. An optimizer is made afterwards, of the weights that are
    then there.
    """
    if mesh is None:
        return module
    if not shards:
        return DistributedDataParallel(module, process_group=mesh.get_group())
    for block in blocks_of(module.model):  # type: ignore[arg-type]
        fully_shard(block, mesh=mesh)
    # By itself the outermost keeps its weights together until a backward pass, which a validation has not.
    return fully_shard(module, mesh=mesh, reshard_after_forward=True)


@contextmanager
def _local_gradients(module: FSDPModule) -> Iterator[None]:
    module.set_requires_gradient_sync(False)
    try:
        yield
    finally:
        module.set_requires_gradient_sync(True)


def unsynced(module: nn.Module) -> AbstractContextManager[None]:
    """Within the block gradients stay local: for all but the last forward pass of an accumulated step."""
    if isinstance(module, FSDPModule):
        return _local_gradients(module)
    return module.no_sync() if isinstance(module, DistributedDataParallel) else nullcontext()


def whole(tensor: Tensor) -> Tensor:
    """A tensor put together from the processes that have a share of it: all must ask. Any other is itself."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def local(tensor: Tensor) -> Tensor:
    """This process's share of a tensor, in the same memory; any other tensor is itself."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def shared_like(value: Tensor, like: Tensor) -> Tensor:
    """A whole tensor cut into shares as `like` is, on its device."""
    if not isinstance(like, DTensor):
        return value.to(like.device)
    return distribute_tensor(value.to(like.device), like.device_mesh, like.placements)


def own_device() -> torch.device:
    """The GPU of this process among those of its machine, or the CPU where there is none."""
    if torch.cuda.is_available():
        return torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
    return torch.device("cpu")
