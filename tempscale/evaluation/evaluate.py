"""MTEB over temperatures: resumable, with the scores of single items, on one machine or on a cluster."""

import importlib.util
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tempscale.evaluation.plan import Job, Plan, Sweep
from tempscale.evaluation.progress import Report
from tempscale.evaluation.run_unit import write_result
from tempscale.evaluation.store import Item, Measured, Store
from tempscale.patching.patch import Layers
from tempscale.patching.schedules import Schedule, temperature_label

if TYPE_CHECKING:
    import pandas as pd
    import torch
    from sentence_transformers import SentenceTransformer

ENGINES = ("local", "ray")


class PlanError(ValueError):
    """What is asked for cannot be; nothing was run."""


class EvaluationError(ValueError):
    """Some tasks could not be evaluated; the others are finished and kept."""


def evaluate(
    model: "str | SentenceTransformer",
    tasks: str | Iterable[Any],
    temperatures: Iterable[Schedule],
    *,
    out: str | Path,
    layers: Layers | None = None,
    apply_to: str = "both",
    data_dir: str | Path | None = None,
    max_seq_length: int | None = None,
    device: str | None = None,
    dtype: "str | torch.dtype | None" = None,
    engine: str = "local",
    address: str | None = None,
    batch_tokens: int | None = None,
    chunk_tokens: int | None = None,
    command: str | None = None,
    progress: bool = True,
) -> "pd.DataFrame":
    """Evaluate a model on MTEB tasks at several temperatures.

    mteb itself evaluates, with the prompts and the pooling of the model's authors. A finished unit (a task's split and
    subset at one temperature, for one model, data and setting) is never run twice: call again to go on after an
    interruption. `tempscale.compare` reads the results.

    Args:
        model: "minilm", a hub id, a local folder, or a loaded SentenceTransformer, which is left as it was.
        tasks: names of MTEB tasks or benchmarks ("STS12", "LongEmbed", "MTEB(eng, v1)"), files with the columns query and
            document ("mine.csv"), or task objects of mteb.
        temperatures: numbers or schedules; 1 is the model as it is.
        out: folder for `results.sqlite` (`tempscale.evaluation.store.Store`), and mteb's own files in `mteb/`.
        layers: that get the temperature: all by default, "last:3", "first:3", "0,-1", or what `patch` takes.
        apply_to: "both" sides of a task, or only "document" or "query", the others keeping 1. Tasks without sides (STS,
            classification, clustering) are then skipped, with a message.
        data_dir: holds a folder for each task, in the layout of the hub; tasks without one come from the hub. By default
            the environment's TEMPSCALE_DATA.
        max_seq_length, device, dtype: of the model, see `load_model`.
        engine: "local", or "ray" to spread the units over an existing Ray cluster; models then go by name.
        address: of the Ray cluster; by default the one that Ray finds.
        batch_tokens: of a batch, padding included; by default what suits the device.
        chunk_tokens: cut every longer text into pieces of at most chunk_tokens tokens, prompt and special tokens included,
            and average their embeddings (`tempscale.encoding.pieces`): all of it is read, also beyond max_seq_length. At
            least 8 and at most max_seq_length. By default texts are read as a whole, up to max_seq_length.
        command: kept with the results; by default this call.
        progress: print a line for each unit, and on a terminal a bar, on stderr.

    Returns:
        The finished units that were asked for, in their order, as `Store.units()` gives them but without mteb's raw scores.

    Raises:
        PlanError: a task, temperature, side, folder, device or engine that does not exist. Nothing was run.
        ValueError: a layer, max_seq_length or chunk_tokens that the model does not have. Nothing was run.
        UnsupportedModelError: the model has no proved temperature site. Nothing was run.
        EvaluationError: data that cannot be had or used; everything else is finished.
        OSError: `out` cannot be written. MemoryError: not even one text fits on the device.
        ModuleNotFoundError: mteb or ray is not installed.
    """
    _check_installed("mteb", "eval")
    names = [tasks] if isinstance(tasks, str) else list(tasks)
    data_dir = data_dir or os.environ.get("TEMPSCALE_DATA") or None
    plan = Plan(
        model,
        names,
        list(temperatures),
        layers,
        apply_to,
        data_dir,
        max_seq_length,
        device,
        dtype,
        batch_tokens,
        chunk_tokens,
    )
    if engine == "ray":
        _check_installed("ray", "ray")
    try:
        plan.check()
        _check_engine(engine, plan)
        parts, skipped = plan.parts()
    except (ValueError, NotADirectoryError) as error:
        raise PlanError(str(error)) from error
    with Store(out) as store:
        sweep = Sweep(plan, parts)
        try:
            todo = [job for job in sweep.jobs if not store.finished(job.unit)]
            with Report([job.unit for job in todo], shown=progress) as report:
                if skipped:
                    report.say(f"Skipped, for having no queries and documents: {', '.join(skipped)}")
                run = Run(store, out, report, command or _call(plan))
                if engine == "ray":
                    from tempscale.evaluation.ray_runner import run_on_ray

                    run_on_ray(plan, todo, run, address)
                else:
                    _run_here(sweep, todo, run)
        finally:
            sweep.close()
        # Also of what was finished before: the files are those of what was asked for last.
        for job in {(job.unit.task, job.unit.temperature): job for job in sweep.jobs}.values():
            write_result(out, store, job.part, job.unit)
        units = store.units().drop(columns="scores").set_index("id", drop=False)
    if run.failures:
        raise EvaluationError("; ".join(run.failures.values()))
    return units.loc[[job.unit.id for job in sweep.jobs]].reset_index(drop=True)


class Run:
    """Where results go, whoever computes them."""

    def __init__(self, store: Store, out: str | Path, report: Report, command: str) -> None:
        self.store, self.report, self.command = store, report, command
        self.failures: dict[str, str] = {}
        self._out = out

    def wanted(self, job: Job) -> bool:
        """Whether a unit is still to be run: another process may have done it, or its task may have failed."""
        return job.part.name not in self.failures and not self.store.finished(job.unit)

    def finish(self, job: Job, measured: Measured, items: Sequence[Item]) -> None:
        """Keep what came out."""
        self.store.add(job.unit, measured, items)
        write_result(self._out, self.store, job.part, job.unit)
        self.report.done(job.unit, measured)

    def fail(self, job: Job, error: Exception) -> None:
        """Give a task up, and go on with the others."""
        self.failures[job.part.name] = str(error)
        self.report.say(f"{job.part.name}: failed, going on with the rest")


def _run_here(sweep: Sweep, jobs: Sequence[Job], run: Run) -> None:
    encoder = sweep.encoder

    def progress(share: float) -> None:
        # Most tasks encode twice: queries and documents, two sides of pairs, training and test.
        calls = len(encoder.work.calls)
        run.report.share((calls - 1 + share) / max(2, calls))

    encoder.progress = progress
    for job in jobs:
        if not run.wanted(job):
            run.report.leave(job.unit)
            continue
        run.report.start(job.unit)
        try:
            measured, items = sweep.measure(job, run.command)
        except (OSError, ValueError) as error:
            run.fail(job, error)
            run.report.leave(job.unit)
        else:
            run.finish(job, measured, items)
    if encoder.read.padded:
        padding = 1 - encoder.read.forwarded / encoder.read.padded
        run.report.say(f"The model read {encoder.read.forwarded} tokens in batches of which {padding:.1%} was padding")


def _call(plan: Plan) -> str:
    """Return a plan as the call that it came from."""
    temperatures = ", ".join(temperature_label(one) for one in plan.temperatures)
    options = [
        f", {name}={getattr(plan, name)!r}"
        for name in ("layers", "apply_to", "max_seq_length", "device", "dtype", "batch_tokens", "chunk_tokens")
        if getattr(plan, name) not in (None, "both")
    ]
    name = repr(plan.model) if isinstance(plan.model, str) else type(plan.model).__name__
    return f"evaluate({name}, {[str(task) for task in plan.tasks]}, [{temperatures}]{''.join(options)})"


def _check_engine(engine: str, plan: Plan) -> None:
    if engine not in ENGINES:
        raise ValueError(f"unknown engine {engine!r}: expected local or ray")
    if engine == "ray" and not all(isinstance(one, str) for one in (plan.model, *plan.tasks)):
        raise ValueError("engine='ray' needs the model and the tasks by name: each worker loads its own")


def _check_installed(package: str, extra: str) -> None:
    if importlib.util.find_spec(package) is None:
        raise ModuleNotFoundError(f"evaluate needs {package}, which is not installed: pip install 'tempscale[{extra}]'")
