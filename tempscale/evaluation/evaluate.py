"""MTEB over temperatures: resumable, with the scores of single items, on one machine or on a cluster."""

import importlib.util
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from tempscale.embeddings.remedies import Remedy, as_remedy
from tempscale.encoding.reading import ApplyTo
from tempscale.evaluation.plan import Job, Plan, Session
from tempscale.evaluation.progress import ProgressReport, what_was_read
from tempscale.evaluation.run import ResultSink, run_here
from tempscale.evaluation.store import Store
from tempscale.patching.layers import Layers, repeatable
from tempscale.patching.schedules import Schedule

if TYPE_CHECKING:
    import pandas as pd
    import torch
    from sentence_transformers import SentenceTransformer


class PlanError(ValueError):
    """The request is invalid; nothing was run."""


class EvaluationError(ValueError):
    """Some tasks could not be evaluated; the others are finished and kept."""


def evaluate(
    model: "str | SentenceTransformer",
    tasks: str | Iterable[Any],
    temperatures: Iterable[Schedule] = (1.0,),
    *,
    out: str | Path,
    remedies: Iterable[Remedy | str] = ("none",),
    layers: Layers | None = None,
    apply_to: ApplyTo = "both",
    data_dir: str | Path | None = None,
    max_seq_length: int | None = None,
    device: str | None = None,
    dtype: "str | torch.dtype | None" = None,
    engine: Literal["local", "ray"] = "local",
    address: str | None = None,
    batch_tokens: int | None = None,
    command: str | None = None,
    progress: bool = True,
) -> "pd.DataFrame":
    """Evaluate a model on MTEB tasks at several temperatures, and with other remedies.

    Say what to run and where to keep it: a model, tasks or a file of pairs, temperatures, and `out`. `tempscale.compare`
    reads the results.

    mteb itself evaluates, with the prompts and the pooling of the model's authors. A finished unit (a task's split and
    subset at one temperature, for one model, data and setting) is never run twice: call again to resume after an
    interruption, or several times at once on one machine to share the work.

    Args:
        model: "minilm", a hub id, a local folder, or a loaded SentenceTransformer, which is left as it was.
        tasks: names of MTEB tasks or benchmarks ("STS12", "LongEmbed", "MTEB(eng, v1)"), subsets ("Task(en, de)"), files of
            pairs ("mine.csv", or a `tempscale.evaluation.pair_files.PairFile`), or task objects of mteb.
        temperatures: numbers or schedules; 1 is the model as it is, and the only one by default.
        out: folder for `results.sqlite` (`tempscale.evaluation.store.Store`), and mteb's own files in `mteb/`.
        remedies: `Remedy` objects or their labels ("none", "pieces(128)", "project", "pieces(128)+project",
            "temperature(0.9, layers=last:3)", see `tempscale.read_remedy`); each is run at each of the temperatures, but one
            with a temperature of its own only at that. A mean or a direction that a remedy takes away is learned
            from the task's own texts, without their labels: for queries and documents separately, and for each half of the
            texts from the other half. Remedies with several vectors a document (pool=max) need tasks with queries.
        layers: layers that get the temperature: all by default; as for `patch`.
        apply_to: sides of a task that get the temperature: "both", or only "document" or "query", the others keeping 1.
            Tasks without sides (STS, classification, clustering) are then skipped, with a message.
        data_dir: folder that holds a folder for each task, in the layout of the hub; tasks without one come from the hub.
            By default the environment's TEMPSCALE_DATA.
        max_seq_length: length in tokens at which texts are cut; the model's by default.
        device: device of a model given by name, as in `load_model`.
        dtype: type of the weights of a model given by name, as in `load_model`.
        engine: "local", or "ray" to spread the units over an existing Ray cluster; models then go by name.
        address: address of the Ray cluster; by default the one that Ray finds.
        batch_tokens: size of a batch in tokens, padding included; by default what suits the device.
        command: command kept with the results; by default this call.
        progress: whether to print a line for each unit, and on a terminal a bar, on stderr.

    Returns:
        The finished units that were asked for, in their order, as `Store.units()` gives them but without mteb's raw scores.

    Raises:
        PlanError: a task, temperature, remedy, side, folder, device or engine that does not exist. Nothing was run.
        ValueError: a layer, max_seq_length or pieces that the model does not have. Nothing was run.
        UnsupportedModelError: the model has no proved temperature site. Nothing was run.
        EvaluationError: tasks that failed, because of their data or inside mteb; everything else is finished.
        KeyboardInterrupt: as it came, and with how much is finished; call again to go on.
        OSError: `out` cannot be written. MemoryError: not even one text fits on the device.
        ModuleNotFoundError: mteb or ray is not installed: they come with the extras `eval` and `ray`.

    >>> import tempfile
    >>> from tempscale import docstrings
    >>> folder = tempfile.mkdtemp()
    >>> texts = docstrings(["numpy"]).query("pair").head(40)[["summary", "body"]]
    >>> texts.set_axis(["query", "document"], axis=1).to_csv(f"{folder}/mine.csv", index=False)
    >>> units = evaluate("minilm", f"{folder}/mine.csv", [1.0, 0.9], out=f"{folder}/scores", progress=False)
    >>> units[["task", "temperature", "metric"]].values.tolist()
    [['mine', '1.0', 'ndcg_at_10'], ['mine', '0.9', 'ndcg_at_10']]
    """
    check_installed("evaluate", "mteb", "eval")
    if engine == "ray":
        check_installed("evaluate", "ray", "ray")
    listed = _listed("remedies", remedies, "['none', 'pieces(128)']")
    try:
        chosen = list(map(as_remedy, listed))
    except ValueError as error:
        raise PlanError(str(error)) from error
    plan = Plan(
        model=model,
        tasks=[tasks] if isinstance(tasks, str) else _listed("tasks", tasks, "['STS12', 'SciFact']"),
        temperatures=_listed("temperatures", temperatures, "[1.0, 0.9]"),
        remedies=chosen,
        layers=repeatable(layers),
        apply_to=apply_to,
        data_dir=data_dir or os.environ.get("TEMPSCALE_DATA") or None,
        max_seq_length=max_seq_length,
        device=device,
        dtype=dtype,
        engine=engine,
        batch_tokens=batch_tokens,
        command=command,
    )
    try:
        plan.check()
        parts, skipped = plan.parts()
    except (ValueError, NotADirectoryError) as error:
        raise PlanError(str(error)) from error
    jobs: Sequence[Job] = ()
    with Store(out) as store:
        try:
            with Session(plan, parts) as session:
                jobs = session.jobs
                failures = _run(plan, session, store, out, address, skipped, progress)
                units = store.units().drop(columns="scores").set_index("id", drop=False)
        except KeyboardInterrupt as interrupt:
            finished = sum(store.finished(job.unit) for job in jobs)
            units_kept = f"{finished} of {len(jobs)} units are" if jobs else "what was finished before is"
            interrupt.args = (f"{units_kept} kept in {out}, run the same command to go on",)
            raise
    if failures:
        raise EvaluationError("; ".join(failures.values()))
    return units.loc[[job.unit.id for job in jobs]].reset_index(drop=True)


def _run(
    plan: Plan,
    session: Session,
    store: Store,
    out: str | Path,
    address: str | None,
    skipped: Sequence[str],
    progress: bool,
) -> dict[str, str]:
    """Run what is not finished yet; return what went wrong, by the name of the task."""
    todo = [job for job in session.jobs if not store.finished(job.unit)]
    with ProgressReport([job.unit for job in todo], shown=progress) as report:
        for line in skipped:
            report.say(line)
        sink = ResultSink(store, out, report, session.failures)
        if plan.engine == "ray":
            from tempscale.evaluation.ray_runner import run_on_ray

            run_on_ray(plan, todo, sink, address)
        else:
            run_here(session, todo, sink)
        units = store.units()
        for line in what_was_read(units[units.id.isin([job.unit.id for job in session.jobs])]):
            report.say(line)
    # Also of what was finished before: the files are those of what was asked for last.
    for job in {(job.unit.task, job.unit.setting): job for job in session.jobs}.values():
        sink.write_mteb_file(job)
    return sink.failures


def _listed(name: str, given: Any, example: str) -> list[Any]:
    """Return several values as a list, or raise PlanError for a single one."""
    if isinstance(given, str) or not isinstance(given, Iterable):
        raise PlanError(f"{name} must be a list such as {example}, not {given!r}")
    return list(given)


def check_installed(what: str, package: str, extra: str) -> None:
    """Raise ModuleNotFoundError if a package that something needs is not there, with the extra that brings it."""
    if importlib.util.find_spec(package) is None:
        raise ModuleNotFoundError(f"{what} needs {package}, which is not installed: pip install 'tempscale[{extra}]'")
