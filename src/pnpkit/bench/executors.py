"""Where jobs run: in this process, in a pool of processes, or on a Ray cluster."""

import importlib
import multiprocessing
import os
import socket
import time
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, Self

from pnpkit.bench.job import Job, array, mean_score, run
from pnpkit.errors import SpecError

Tag = Any


@dataclass(frozen=True)
class Work:
    """One cell's job, or those of one setting on all images of a search, with the metric that judges it."""

    tag: Tag
    jobs: tuple[Job, ...]
    metric: str | None = None
    timeout: float = 600.0

    def do(self) -> Any:
        return run(self.jobs[0]) if self.metric is None else mean_score(self.jobs, self.metric)


@dataclass(frozen=True)
class Lost:
    """Work that did not come to an end: its worker died, took too long or too much memory."""

    reason: str
    again: bool  # whether another try may go better


class Executor(ABC):
    """Takes work and gives results as they come: ``submit`` until ``room`` is False, then ``results``."""

    @abstractmethod
    def submit(self, work: Work) -> None:
        """Start it, or queue it."""

    @abstractmethod
    def results(self) -> Iterator[tuple[Work, Any]]:
        """What has come to an end since the last call: at least one, if anything is running; an answer or ``Lost``."""

    @property
    @abstractmethod
    def room(self) -> bool:
        """Whether there is a worker without work."""

    @property
    @abstractmethod
    def busy(self) -> int:
        """How much is running."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Stop what is running."""
        return


class Inline(Executor):
    """One after the other in this process; no time-out, no memory limit."""

    def __init__(self) -> None:
        self.waiting: deque[Work] = deque()

    def submit(self, work: Work) -> None:
        self.waiting.append(work)

    def results(self) -> Iterator[tuple[Work, Any]]:
        if self.waiting:
            work = self.waiting.popleft()
            yield work, work.do()

    @property
    def room(self) -> bool:
        return not self.waiting

    @property
    def busy(self) -> int:
        return len(self.waiting)


def _prepare(threads: int, memory_gib: float) -> None:
    """A worker: its thread budget, its memory limit (of private memory: shared libraries do not count)."""
    import resource

    import torch

    torch.set_num_threads(threads)
    limit = int(memory_gib * 2**30)
    resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))


class Local(Executor):
    """A pool of processes (``pebble``): a worker that hangs or dies is killed and replaced, the others go on.

    workers : how many at once. threads : of each, set before torch starts. memory : GiB each may take.
    """

    def __init__(self, workers: int, threads: int = 1, memory: float = 8.0):
        from pebble import ProcessPool

        if workers < 1:
            raise SpecError(f"The number of workers is at least 1, given {workers}.")
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        if workers * threads > 4 * cores:
            raise SpecError(f"{workers} workers of {threads} threads on {cores} cores would only hinder each other.")
        self.workers = workers
        self._restore = {n: os.environ.get(n) for n in ("OMP_NUM_THREADS", "MKL_NUM_THREADS")}
        os.environ.update(dict.fromkeys(self._restore, str(threads)))  # inherited by the workers, started when needed
        context = multiprocessing.get_context("spawn")
        self._start = lambda: ProcessPool(workers, initializer=_prepare, initargs=(threads, memory), context=context)
        self.pool = self._start()
        self.running: dict[Any, Work] = {}

    def submit(self, work: Work) -> None:
        self.running[self.pool.schedule(_do, args=[work], timeout=work.timeout)] = work

    def results(self) -> Iterator[tuple[Work, Any]]:
        from concurrent.futures import FIRST_COMPLETED, wait

        ended, _ = wait(list(self.running), timeout=5.0, return_when=FIRST_COMPLETED)
        for future in ended:
            work = self.running.pop(future)
            yield work, self._result(future, work)

    def _result(self, future: Any, work: Work) -> Any:
        from concurrent.futures.process import BrokenProcessPool

        from pebble import ProcessExpired

        try:
            return future.result()
        except BrokenProcessPool:
            if not self.pool.active:
                self.pool = self._start()
            return Lost("could not be started: the workers died before it (too little memory?)", again=True)
        except TimeoutError:
            return Lost(f"took longer than {work.timeout:g} s and was stopped", again=False)
        except ProcessExpired as error:
            return Lost(f"its worker died (exit code {error.exitcode})", again=True)

    @property
    def room(self) -> bool:
        return len(self.running) < self.workers + 1  # one more, so that no worker waits for us

    @property
    def busy(self) -> int:
        return len(self.running)

    def close(self) -> None:
        self.pool.stop()
        self.pool.join(timeout=20)
        for name, value in self._restore.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def _do(work: Work) -> Any:
    return work.do()


class Ray(Executor):
    """Tasks of a Ray cluster; arrays go by value, so that nodes share no files. Ray retries what a lost node had.

    address : of the cluster; "auto" for the one of this machine. threads : CPUs of a task. memory : GiB of a task.
    """

    def __init__(self, address: str | None = "auto", threads: int = 1, memory: float = 8.0):
        try:
            ray: Any = importlib.import_module("ray")
        except ImportError as error:
            raise SpecError("--executor ray needs the extra: pip install 'pnpkit[ray]'.") from error
        self.ray = ray
        if not ray.is_initialized():
            _require_cluster(address)
            try:
                ray.init(address=address, log_to_driver=False, logging_level="ERROR")
            except ConnectionError as error:
                raise SpecError(
                    f"There is no Ray cluster at {address!r}; start one with `ray start --head`."
                ) from error
        self._task = ray.remote(_do).options(
            num_cpus=threads, memory=int(memory * 2**30) if memory else None, max_retries=3
        )
        self.threads = threads
        self.running: dict[Any, tuple[Work, float]] = {}

    def submit(self, work: Work) -> None:
        self.running[self._task.remote(_by_value(work))] = (work, time.monotonic() + work.timeout)

    def results(self) -> Iterator[tuple[Work, Any]]:
        ended, _ = self.ray.wait(list(self.running), num_returns=1, timeout=5.0)
        for reference in ended:
            work, _ = self.running.pop(reference)
            try:
                yield work, self.ray.get(reference)
            except (self.ray.exceptions.WorkerCrashedError, self.ray.exceptions.RayTaskError) as error:
                yield work, Lost(f"its worker failed: {' '.join(str(error).split())[-300:]}", again=True)
            except self.ray.exceptions.RayError as error:
                yield work, Lost(f"Ray lost it: {type(error).__name__}", again=True)
        for reference, (work, until) in list(self.running.items()):
            if time.monotonic() > until:
                self.ray.cancel(reference, force=True)
                del self.running[reference]
                yield work, Lost(f"took longer than {work.timeout:g} s and was stopped", again=False)

    @property
    def room(self) -> bool:
        return len(self.running) < 2 * max(1, int(self.ray.cluster_resources().get("CPU", 1) / self.threads))

    @property
    def busy(self) -> int:
        return len(self.running)

    def close(self) -> None:
        for reference in self.running:
            self.ray.cancel(reference, force=True)


def _require_cluster(address: str | None) -> None:
    """SpecError where nobody listens at HOST:PORT; Ray itself would wait for minutes."""
    host, _, port = (address or "").rpartition(":")
    if host and port.isdigit():
        try:
            socket.create_connection((host, int(port)), timeout=5).close()
        except OSError as error:
            raise SpecError(
                f"There is no Ray cluster at {address!r} ({error}); `ray start --head` starts one."
            ) from error


def _by_value(work: Work) -> Work:
    return replace(work, jobs=tuple(replace(j, x=array(j.x), y=array(j.y)) for j in work.jobs))
