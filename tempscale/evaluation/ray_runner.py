"""The units of an evaluation on a Ray cluster: every worker keeps its model; what a lost worker had is run again.

Only the driver claims units and writes the store. A worker loads the plan itself, so models and data folders must have
the same names on all nodes; a worker whose model or data differ from the driver's refuses the unit.
"""

import os
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from dataclasses import replace
from pathlib import Path
from typing import Any

from tempscale.evaluation.plan import Job, Plan, Session
from tempscale.evaluation.run import ResultSink, run_unit
from tempscale.evaluation.store import Item, Measured

ATTEMPTS = 3  # of a unit, before it is taken for what kills the workers; and of starting workers in vain
PATIENCE = 600.0  # seconds without any worker: a cluster that grows on demand needs minutes


class Worker:
    """The actor: a plan with its model loaded."""

    def __init__(self, plan: Plan) -> None:
        parts, _ = plan.parts()
        self._session = Session(plan, parts)
        self._jobs = {job.unit.id: job for job in self._session.jobs}

    def ready(self) -> None:
        """Return once the model is loaded."""

    def run(self, unit_id: str, name: str) -> tuple[Measured, list[Item]]:
        """Run a unit, or raise ValueError if it is not the same here."""
        if unit_id not in self._jobs:
            raise ValueError(
                f"a worker has other data of {name}, or another model, than the driver: give all nodes the same"
            )
        return run_unit(self._session, self._jobs[unit_id])


def run_on_ray(plan: Plan, jobs: Sequence[Job], sink: ResultSink, address: str | None) -> None:
    """Spread units over the workers of a cluster.

    Args:
        plan: plan with the model and the tasks by name.
        jobs: jobs to run.
        sink: where results go.
        address: address of the cluster; by default RAY_ADDRESS, or the one of this machine.

    Raises:
        OSError: no cluster, or none of its workers can be started.
        MemoryError: a text that does not fit on a worker's device.
    """
    if jobs:
        with _stdout_to_stderr():
            _run(plan, jobs, sink, address)


@contextmanager
def _stdout_to_stderr() -> Iterator[None]:
    """Send what Ray says, from Python and from beneath, to stderr: stdout is for results."""
    sys.stdout.flush()
    kept = os.dup(1)
    os.dup2(2, 1)
    try:
        with redirect_stdout(sys.stderr):
            yield
    finally:
        os.dup2(kept, 1)
        os.close(kept)


def _run(plan: Plan, jobs: Sequence[Job], sink: ResultSink, address: str | None) -> None:
    import ray

    started = not ray.is_initialized()
    if started:
        try:
            ray.init(address=address or "auto", log_to_driver=False, logging_level="ERROR")
        except (ConnectionError, ValueError) as error:
            raise OSError(
                f"no Ray cluster at {address or 'this machine'}: start one with `ray start --head`, or give its address"
            ) from error
    if plan.data_dir is not None:
        plan = replace(plan, data_dir=Path(plan.data_dir).absolute())
    pool = _Pool(plan, len(jobs))
    try:
        pool.run(list(jobs), sink)
    finally:
        pool.close()
        if started:
            ray.shutdown()


class _Pool:
    """The workers, and what each is doing."""

    def __init__(self, plan: Plan, most: int) -> None:
        import ray

        resources = ray.cluster_resources()
        gpus = int(resources.get("GPU", 0)) if plan.device is None or plan.device.startswith("cuda") else 0
        self._plan = ray.put(plan)
        self._kind = ray.remote(num_cpus=1, num_gpus=1 if gpus else 0)(Worker)
        self._doing: dict[Any, tuple[Any, Job | None]] = {}  # a worker without a job is being started
        self._idle: list[Any] = []
        self._tasks: dict[Any, str] = {}  # that a worker has loaded
        self._lost: Counter[str] = Counter()
        self._in_vain = 0
        self._alive = time.monotonic()
        for _ in range(max(1, min(most, gpus or int(resources.get("CPU", 1))))):
            self._start()

    def _start(self) -> None:
        worker = self._kind.remote(self._plan)
        self._doing[worker.ready.remote()] = (worker, None)

    def run(self, waiting: list[Job], sink: ResultSink) -> None:
        """Hand out the units until all are done."""
        import ray

        while waiting or any(job for _, job in self._doing.values()):
            done, _ = ray.wait(list(self._doing), num_returns=1, timeout=1.0)
            for ref in done:
                self._collect(ref, waiting, sink)
            while waiting and self._idle and self._start_next(waiting, sink):
                pass
            if any(job for _, job in self._doing.values()):
                self._alive = time.monotonic()
            elif waiting and self._idle:
                self._alive = time.monotonic()
                sink.wait(waiting)
            elif waiting and time.monotonic() - self._alive > PATIENCE:
                raise OSError(
                    f"no worker of the Ray cluster was ready within {PATIENCE:.0f} s: `ray status` shows what it has"
                )

    def _collect(self, ref: Any, waiting: list[Job], sink: ResultSink) -> None:
        """Take what a worker returned."""
        import ray
        from ray.exceptions import RayActorError, RayTaskError

        worker, job = self._doing.pop(ref)
        try:
            result = ray.get(ref)
        except RayActorError as error:
            self._replace(job, error, waiting, sink)
            return
        except RayTaskError as error:
            if job is None or not isinstance(error.cause, Exception) or isinstance(error.cause, MemoryError):
                raise error.cause from error
            sink.fail(job, error.cause)
        else:
            self._in_vain = 0
            if job is not None:
                sink.finish(job, *result)
        self._idle.append(worker)

    def _replace(self, job: Job | None, error: Exception, waiting: list[Job], sink: ResultSink) -> None:
        """Start another worker for one that was lost, and put its unit back."""
        if job is None:
            self._in_vain += 1
            if self._in_vain >= ATTEMPTS:
                last = str(error).strip().splitlines()[-1]
                raise OSError(f"the workers of the Ray cluster cannot be started: {last}") from error
        else:
            self._lost[job.unit.id] += 1
            if self._lost[job.unit.id] >= ATTEMPTS:
                sink.fail(
                    job, OSError(f"{job.part.name}: {ATTEMPTS} workers were lost while they ran it; perhaps memory")
                )
            else:
                sink.report.say(f"A worker was lost; {job.part.name} at {job.unit.temperature} is run again")
                waiting.insert(0, job)
        self._start()

    def _start_next(self, waiting: list[Job], sink: ResultSink) -> bool:
        """Give an idle worker a unit, of the task that it has loaded if there is one; return whether there was any."""
        worker = self._idle[-1]
        waiting.sort(key=lambda job: job.part.name != self._tasks.get(worker))
        job = sink.next(waiting)
        if job is None:
            return False
        self._idle.pop()
        self._tasks[worker] = job.part.name
        self._doing[worker.run.remote(job.unit.id, job.part.name)] = (worker, job)
        return True

    def close(self) -> None:
        """Stop the workers."""
        import ray

        for worker in [*self._idle, *(worker for worker, _ in self._doing.values())]:
            ray.kill(worker)
