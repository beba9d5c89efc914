"""Data parallelism: what one process of several must know. Started by ``torchrun``, or alone."""

import os
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch.nn import Parameter

from pnpkit.errors import SpecError


@dataclass(frozen=True)
class Processes:
    """This process's place among ``count``. Gradients are averaged; samples are divided without remainder."""

    rank: int = 0
    count: int = 1

    @classmethod
    def join(cls, device: torch.device) -> "Processes":
        """Join the group that torchrun set up; alone without one."""
        count = int(os.environ.get("WORLD_SIZE", "1"))
        if count == 1:
            return cls()
        import torch.distributed as dist

        if not dist.is_initialized():
            dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
        return cls(dist.get_rank(), dist.get_world_size())

    @property
    def leader(self) -> bool:
        """Whether this process writes files."""
        return self.rank == 0

    def share(self, batch: int) -> tuple[int, int]:
        """(how many samples of the batch are this process's, the first of them)."""
        if batch % self.count:
            raise SpecError(f"A batch of {batch} does not divide among {self.count} processes.")
        return batch // self.count, self.rank * (batch // self.count)

    def average(self, parameters: Iterable[Parameter]) -> None:
        """Gradients averaged over processes, in one message."""
        if self.count == 1:
            return
        import torch.distributed as dist

        gradients = [p.grad for p in parameters if p.grad is not None]
        flat = torch.cat([g.flatten() for g in gradients])
        dist.all_reduce(flat)
        flat /= self.count
        for g, part in zip(gradients, flat.split([g.numel() for g in gradients]), strict=True):
            g.copy_(part.view_as(g))

    def mean(self, value: torch.Tensor) -> torch.Tensor:
        """A number averaged over processes."""
        if self.count > 1:
            import torch.distributed as dist

            value = value.clone()
            dist.all_reduce(value)
            value /= self.count
        return value

    def leave(self) -> None:
        if self.count > 1:
            import torch.distributed as dist

            dist.barrier()
            dist.destroy_process_group()
