"""Jobs are run by mteb, and what comes out goes to the store, whoever runs them."""

import json
import logging
import time
import warnings
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from tempscale.embeddings.sides import CrossFitted
from tempscale.encoding.encoder import Embeddings
from tempscale.evaluation.failures import sentence, show_traceback
from tempscale.evaluation.item_scores import catching, items_of, statistic_of
from tempscale.evaluation.mteb_files import mteb_meta, write_mteb_file
from tempscale.evaluation.plan import Job, Session
from tempscale.evaluation.progress import ProgressReport
from tempscale.evaluation.store import Item, Measured, Store

POLL = 1.0  # seconds between two looks at what other processes have finished


class ResultSink:
    """Hands out jobs, writes finished units and reports progress, for both runners.

    Attributes:
        failures: what went wrong, by the name of the task.
    """

    def __init__(
        self, store: Store, out: str | Path, report: ProgressReport, failures: Mapping[str, Exception] | None = None
    ) -> None:
        self.report = report
        self.failures: dict[str, str] = {}
        for name, error in (failures or {}).items():
            self._fail(name, error)
        self._store, self._out = store, out
        self._waited_for: set[str] = set()

    def next(self, waiting: list[Job]) -> Job | None:
        """Take the first job out of a list that no other process runs, claim it and announce it.

        Jobs that another process has finished, or whose task has failed, leave the list, too. Those that another process
        runs stay in it: None says that there are no others. Who waits holds no claim, so processes with different orders
        do not wait for each other.
        """
        for job in list(waiting):
            if job.part.name in self.failures or self._store.finished(job.unit):
                waiting.remove(job)
                self.report.advance(job.unit)
            elif self._store.claim(job.unit):
                waiting.remove(job)
                if job.unit.id in self._store.altered:
                    self.report.say(f"1 unit was altered since ({self._store.altered[job.unit.id]}), and is run again")
                self.report.start(job.unit)
                return job
        return None

    def wait(self, waiting: Sequence[Job]) -> None:
        """Give the other processes, which run all that is left, some time; say so once for each of them."""
        for job in waiting:
            claim = self._store.claim_of_another(job.unit)
            if claim and claim.owner not in self._waited_for:
                self._waited_for.add(claim.owner)
                self.report.wait(job.unit, str(claim), claim.until - time.time())
        time.sleep(POLL)

    def finish(self, job: Job, measured: Measured, items: Sequence[Item]) -> None:
        """Keep what came out."""
        self._store.add(job.unit, measured, items)
        self.write_mteb_file(job)
        self.report.done(job.unit, measured)

    def fail(self, job: Job, error: Exception) -> None:
        """Give a task up, and go on with the others."""
        self._store.release(job.unit)
        self._fail(job.part.name, error)
        self.report.advance(job.unit)

    def _fail(self, name: str, error: Exception) -> None:
        said = sentence(error)
        self.failures[name] = said if name in said else f"{name}: {said}"
        self.report.say(f"{name}: failed, going on with the rest")
        show_traceback(error)

    def write_mteb_file(self, job: Job) -> None:
        """Write the finished parts of a job's task at its temperature as mteb does; what mteb refuses is a failure."""
        try:
            write_mteb_file(self._out, job.part, job.unit, self._store.parts(job.unit))
        except (OSError, MemoryError):  # concern every task
            raise
        except Exception as error:  # noqa: BLE001 - the net of a task: what mteb finds wrong with it is its affair
            if job.part.name not in self.failures:
                self._fail(job.part.name, error)


def run_here(session: Session, jobs: Sequence[Job], sink: ResultSink) -> None:
    """Run jobs one after the other, in this process; those that another process runs meanwhile are left to it."""
    encoder = session.encoder

    def progress(share: float) -> None:
        # Most tasks encode twice: queries and documents, two sides of pairs, training and test.
        calls = len(encoder.work.requests)
        sink.report.share((calls - 1 + share) / max(2, calls))

    encoder.progress = progress
    waiting = list(jobs)
    while waiting:
        job = sink.next(waiting)
        if job is None:
            if waiting:
                sink.wait(waiting)
            continue
        try:
            measured, items = run_unit(session, job)
        except MemoryError:
            raise
        except Exception as error:  # noqa: BLE001 - the net of a task: what its data and mteb raise is their affair
            sink.fail(job, error)
        else:
            sink.finish(job, measured, items)
    total = encoder.total_work
    if total.tokens_padded:
        padding = 1 - total.tokens_read / total.tokens_padded
        sink.report.say(f"The model read {total.tokens_read} tokens in batches of which {padding:.1%} was padding")


def run_unit(session: Session, job: Job) -> tuple[Measured, list[Item]]:
    """Return what mteb finds for a part of a task at a temperature, and the scores of its items.

    mteb's own cache is not used: it takes every local model, and every temperature, for the same one. A remedy on vectors
    is fitted on all texts of the part, found by running it a first time, when the model reads them; a text is mapped by
    what those of the other half taught.

    Raises:
        OSError, ValueError: the data cannot be had, or are not what the task expects; and whatever mteb raises.
        MemoryError: not even one text fits.
    """
    import mteb

    start = time.perf_counter()
    encoder, part = session.encoder, job.part
    encoder.mteb_model_meta = mteb_meta(job.unit)

    def run(task: Any) -> Any:
        try:
            return mteb.evaluate(encoder, task, cache=None, co2_tracker=False, show_progress_bar=False)
        except (KeyError, ValueError) as error:
            raise part.unreadable(error) from error

    with _quiet():
        session.load(part)
        if job.remedy.vectors is None:
            encoder.begin(job.remedy)
        else:
            pool = _Texts()
            encoder.begin(job.remedy, pool)
            run(part.fresh())
            encoder.begin(job.remedy, CrossFitted(job.remedy.vectors, pool.by_side()).transform)
        task = part.fresh()
        with catching(task) as caught:
            result = run(task)
    (scores,) = result.task_results[0].scores[part.split]
    metric = task.metadata.main_score
    items = items_of(caught, encoder.work.requests, metric)
    main_score = float(scores["main_score"])
    measured = Measured(
        main_score=main_score,
        metric=metric,
        statistic=statistic_of(items, main_score),
        device=str(encoder.model.device),
        versions=session.versions,
        command=session.command,
        seconds=round(time.perf_counter() - start, 3),
        tokens=encoder.work.tokens_asked,
        scores=json.dumps(scores),
        data_version=part.data_version,
        prompts=json.dumps({request.side or "text": request.prompt for request in encoder.work.requests}),
        cut=encoder.work.texts_cut / max(1, sum(len(request.texts) for request in encoder.work.requests)),
    )
    return measured, items


class _Texts:
    """Keeps the embeddings that pass, each text of a side once; of a document with pieces their mean, which is first."""

    def __init__(self) -> None:
        self._seen: dict[str | None, dict[str, Any]] = defaultdict(dict)

    def __call__(self, texts: Sequence[str], embeddings: Embeddings, side: str | None) -> Embeddings:
        vectors = embeddings[:, 0] if embeddings.ndim == 3 else embeddings
        self._seen[side].update(zip(texts, vectors, strict=True))
        return embeddings

    def by_side(self) -> dict[str | None, tuple[list[str], Embeddings]]:
        return {side: (list(seen), np.stack(list(seen.values()))) for side, seen in self._seen.items()}


@contextmanager
def _quiet() -> Iterator[None]:
    """Leave out the bars and notes of mteb and datasets: one line for each unit says enough."""
    import datasets

    shown = datasets.utils.logging.is_progress_bar_enabled()
    loggers = [logging.getLogger(name) for name in ("mteb", "datasets", "huggingface_hub")]
    levels = [logger.level for logger in loggers]
    datasets.disable_progress_bars()
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", module=r"(mteb|datasets|huggingface_hub|scipy|sklearn)\b.*")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
        if shown:
            datasets.enable_progress_bars()
