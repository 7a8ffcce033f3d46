"""One unit of an evaluation: mteb evaluates a part of a task at one temperature."""

import json
import logging
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

from tempscale.evaluation.item_scores import catching, items_of, statistic_of
from tempscale.evaluation.mteb_files import mteb_meta
from tempscale.evaluation.plan import Job, Session
from tempscale.evaluation.store import Item, Measured


def run_unit(session: Session, job: Job) -> tuple[Measured, list[Item]]:
    """Return what mteb finds for a part of a task at a temperature, and the scores of its items.

    mteb's own cache is not used: it takes every local model, and every temperature, for the same one.

    Raises:
        OSError, ValueError: the data cannot be had, or are not what the task expects.
        MemoryError: not even one text fits.
    """
    import mteb

    start = time.perf_counter()
    encoder, part = session.encoder, job.part
    with _quiet():
        session.load(part)
        task = part.fresh()
        encoder.begin(job.temperature)
        encoder.mteb_model_meta = mteb_meta(job.unit)
        try:
            with catching(task) as caught:
                result = mteb.evaluate(encoder, task, cache=None, co2_tracker=False, show_progress_bar=False)
        except (KeyError, ValueError) as error:
            raise part.unreadable(error) from error
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
    )
    return measured, items


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
            warnings.filterwarnings("ignore", module=r"(mteb|datasets|huggingface_hub|sklearn)\b.*")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
        if shown:
            datasets.enable_progress_bars()
