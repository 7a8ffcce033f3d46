"""evaluate on Ray: two nodes on this machine, one of which is lost on the way."""

import contextlib
import importlib.util
import os
import re
import signal
import threading
import time
from pathlib import Path

import pandas as pd
import pytest

if not all(map(importlib.util.find_spec, ("mteb", "ray"))):
    pytest.skip("mteb or ray is not installed: pip install 'tempscale[eval,ray]'", allow_module_level=True)

from support.evaluation import TASKS, scores, write_data, write_model

from tempscale import LogLength, evaluate
from tempscale.evaluation.evaluate import PlanError
from tempscale.evaluation.plan import Plan
from tempscale.evaluation.ray_runner import Worker
from tempscale.evaluation.run import ResultSink
from tempscale.evaluation.store import UNIT, Store, Unit

pytestmark = pytest.mark.filterwarnings("ignore")  # ray's and mteb's own
TEMPERATURES = [1.0, 0.5, LogLength(8)]


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("files")
    return write_model(folder / "model"), write_data(folder / "data")


@pytest.fixture
def cluster(monkeypatch):
    # Ray's workers are nice: on a busy machine they would never come to their turn.
    monkeypatch.setenv("RAY_worker_niceness", "0")
    import ray
    from ray.cluster_utils import Cluster

    node = {"num_cpus": 1, "object_store_memory": 80 << 20, "include_dashboard": False}
    cluster = Cluster(initialize_head=True, head_node_args=node)
    second = cluster.add_node(num_cpus=1, object_store_memory=80 << 20)
    yield cluster, second
    ray.shutdown()
    cluster.shutdown()


def processes(title):
    """Return the ids of the processes of this machine whose title begins so."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            if path.read_bytes().startswith(title.encode()):
                found.append(int(path.parent.name))
    return found


@pytest.mark.skipif(not Path("/proc/self/cmdline").exists(), reason="finds its workers in /proc")
def test_a_cluster_that_loses_a_worker_and_a_node_gives_the_same_store(files, cluster, tmp_path, capfd, monkeypatch):
    """And leaves a unit alone that another process runs, until that gives it up."""
    model, data = files
    nodes, second = cluster
    lost = []
    here = evaluate(model, TASKS, TEMPERATURES, out=tmp_path / "local", data_dir=data, device="cpu", progress=False)
    unit = Unit(**here[UNIT].to_dict("records")[4])
    another = Store(tmp_path / "ray")
    assert another.claim(unit)
    waited, wait = threading.Event(), ResultSink.wait
    monkeypatch.setattr(ResultSink, "wait", lambda *given: (wait(*given), waited.set()))

    def wait_for(condition):
        deadline = time.monotonic() + 300
        while time.monotonic() < deadline:
            if found := condition():
                return found
            time.sleep(0.005)
        raise TimeoutError("the cluster did not come so far")

    def finished(units):
        with Store(tmp_path / "ray") as store:
            found = len(store.units())
        return found if found >= units else 0

    def lose():
        try:
            wait_for(lambda: finished(1))
            (running, *_) = wait_for(lambda: processes("ray::Worker.run"))
            os.kill(running, signal.SIGKILL)
            lost.append(wait_for(lambda: finished(3)))
            nodes.remove_node(second, allow_graceful=False)
            assert waited.wait(300)
            with Store(tmp_path / "ray") as store:
                lost.append(len(store.units()))
        except Exception as error:  # noqa: BLE001 (a thread's failure is the test's)
            lost.append(error)
        # As `another.release(unit)`, whose connection is another thread's; an end of the lease would be renewed.
        with Store(tmp_path / "ray") as store:
            store._database.execute("DELETE FROM claim WHERE unit = ?", (unit.id,))

    thread = threading.Thread(target=lose, daemon=True)
    thread.start()
    found = evaluate(
        model, TASKS, TEMPERATURES, out=tmp_path / "ray", data_dir=data, engine="ray", address=nodes.address
    )
    thread.join(timeout=300)
    assert len(found) == 9
    assert lost[1:] == [8], f"all but the other process's unit: {lost}"
    assert lost[0] < 9, "the node was lost on the way"
    another.close()
    with Store(tmp_path / "ray") as distributed, Store(tmp_path / "local") as local:
        for one, other in zip(scores(distributed), scores(local), strict=True):
            pd.testing.assert_frame_equal(one, other)
    assert len(list((tmp_path / "ray" / "mteb").rglob("SciFact.json"))) == 3
    said = capfd.readouterr().err
    assert len(re.findall(r"^SciFact test at .*ndcg_at_10", said, re.MULTILINE)) == 3
    assert "A worker was lost; " in said
    assert f"{unit.task} test at {unit.temperature} is run by process {os.getpid()} on " in said


@pytest.mark.parametrize("address", [None, "ray://nowhere:1"])
def test_no_cluster_is_said(files, tmp_path, monkeypatch, capfd, address):
    """Whatever other clusters this machine has; and what Ray says meanwhile is not on stdout."""
    import ray

    def init(*_, **given):
        assert given["address"] == (address or "auto")
        print("a warning of Ray's")
        os.system("echo another, from beneath")
        raise ConnectionError("no running Ray instance")

    monkeypatch.setattr(ray, "init", init)
    model, data = files
    where = address or "this machine"
    with pytest.raises(OSError, match=rf"no Ray cluster at {where}: start one with `ray start --head`, or give"):
        evaluate(
            model, "STSBenchmark", [1.0], out=tmp_path, data_dir=data, engine="ray", address=address, progress=False
        )
    out, err = capfd.readouterr()
    assert (out, err.count("a warning of Ray's"), err.count("another, from beneath")) == ("", 1, 1)


def test_models_go_by_name(files, tmp_path):
    import tempscale

    model, data = files
    loaded = tempscale.load_model(model, device="cpu")
    with pytest.raises(PlanError, match=r"engine='ray' needs the model and the tasks by name"):
        evaluate(loaded, "STSBenchmark", [1.0], out=tmp_path, data_dir=data, engine="ray")


def test_a_worker_with_other_data_refuses(files):
    model, data = files
    worker = Worker(Plan(model, ["STSBenchmark"], [1.0], data_dir=data))
    with pytest.raises(ValueError, match=r"a worker has other data of STS12, or another model, than the driver"):
        worker.run("another", "STS12")
