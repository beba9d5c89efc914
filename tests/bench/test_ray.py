"""A Ray cluster of two nodes on this machine: work goes on when a worker and a node are killed."""

import os
import signal
import sys
import threading
import time

import pytest

from pnpkit.bench.executors import Inline, Ray, Work
from pnpkit.bench.plan import plan
from pnpkit.bench.runner import Runner
from pnpkit.bench.store import Store
from pnpkit.errors import SpecError

from .test_jobs import job
from .toys import run, suite

pytestmark = pytest.mark.timeout(900)
ray = pytest.importorskip("ray")


@pytest.fixture
def cluster(monkeypatch):
    from ray.cluster_utils import Cluster

    # Workers are started with this environment, not with pytest's working directory.
    monkeypatch.setenv("RAY_ENABLE_UV_RUN_RUNTIME_ENV", "0")
    made = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "object_store_memory": 150 * 2**20})
    second = made.add_node(num_cpus=2, object_store_memory=150 * 2**20)
    made.wait_for_nodes()
    yield made, second
    ray.shutdown()
    made.shutdown()


def values(store: Store) -> dict:
    return {(r["method"], r["image"], r["seed"]): r["metrics"] for r in store.rows() if r["kind"] == "cell"}


@pytest.mark.parametrize(("seeds", "kills"), [(5, (3, 6)), pytest.param(15, (6, 15), marks=pytest.mark.full)])
def test_a_worker_and_a_node_are_killed_and_nothing_is_lost(seeds, kills, cluster, tmp_path):
    made, second = cluster
    told = suite(tasks__blur__seeds=tuple(range(seeds)), methods__tikhonov__solver={"name": "fista", "n_steps": 400})
    store = Store(tmp_path / "store")
    planned = plan(told, store)
    killed = []

    def kill() -> None:
        while len(values(store)) < kills[0]:
            time.sleep(0.05)
        workers = [p for p in _children() if "ray::_do" in p[1] or "ray::IDLE" in p[1]]
        os.kill(workers[0][0], signal.SIGKILL)
        killed.append("worker")
        while len(values(store)) < kills[1]:
            time.sleep(0.05)
        made.remove_node(second, allow_graceful=False)
        killed.append("node")

    with Ray(address=made.address, memory=0) as executor:
        thread = threading.Thread(target=kill)
        thread.start()
        end = Runner(planned, store, executor).run()
        thread.join()
    assert killed == ["worker", "node"]
    assert (end.finished, end.failed) == (4 * seeds, 0)
    alone = Store(tmp_path / "alone")
    run(told, alone, Inline())
    assert values(store).keys() == values(alone).keys() and len(values(store)) == 4 * seeds
    for place, metrics in values(alone).items():
        assert values(store)[place]["psnr"] == pytest.approx(metrics["psnr"], abs=1e-3)


@pytest.mark.full
def test_what_takes_too_long_is_stopped(cluster, tmp_path):
    sleep = tmp_path / "sleep.py"
    sleep.write_text("import time; time.sleep(300)")
    forever = job(command=(sys.executable, str(sleep)), prior=None, solver=None)
    with Ray(address=cluster[0].address, memory=0) as executor:
        executor.submit(Work("slow", (forever,), timeout=8.0))
        found = {}
        while executor.busy:
            found |= {w.tag: a for w, a in executor.results()}
    assert "longer than 8 s" in found["slow"].reason


def test_no_cluster_is_told():
    with pytest.raises(SpecError, match="no Ray cluster"):
        Ray(address="127.0.0.1:1")


def _children() -> list[tuple[int, str]]:
    found = []
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                with open(f"/proc/{name}/cmdline") as file:
                    found.append((int(name), file.read().replace("\0", " ")))
            except OSError:
                continue
    return found
