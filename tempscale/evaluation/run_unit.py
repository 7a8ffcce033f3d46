"""One unit of an evaluation: mteb evaluates a part of a task at one temperature."""

import json
import logging
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tempscale.encoding.encoder import Encoder
from tempscale.evaluation.item_scores import catching, items_of, statistic_of
from tempscale.evaluation.store import Item, Measured, Store, Unit
from tempscale.evaluation.tasks import Part
from tempscale.files import replacing
from tempscale.patching.schedules import Schedule


def measure(
    encoder: Encoder, part: Part, unit: Unit, temperature: Schedule, versions: str, command: str
) -> tuple[Measured, list[Item]]:
    """Return what mteb finds for a part of a task at a temperature, and the scores of its items.

    mteb's own cache is not used: it takes every local model, and every temperature, for the same one.

    Raises:
        OSError, ValueError: the data cannot be had, or are not what the task expects.
        MemoryError: not even one text fits.
    """
    import mteb

    start = time.perf_counter()
    with _quiet():
        part.load()
        task = part.fresh()
        encoder.begin(temperature)
        encoder.mteb_model_meta = _meta(unit)
        try:
            with catching(task) as caught:
                result = mteb.evaluate(encoder, task, cache=None, co2_tracker=False, show_progress_bar=False)
        except (KeyError, ValueError) as error:
            raise part.unreadable(error) from error
    (scores,) = result.task_results[0].scores[part.split]
    items = items_of(caught, encoder.work.calls, task.metadata.main_score)
    main_score = float(scores["main_score"])
    measured = Measured(
        main_score=main_score,
        metric=task.metadata.main_score,
        statistic=statistic_of(items, main_score),
        device=str(encoder.model.device),
        versions=versions,
        command=command,
        seconds=round(time.perf_counter() - start, 3),
        tokens=encoder.work.tokens,
        scores=json.dumps(scores),
    )
    return measured, items


def write_result(out: str | Path, store: Store, part: Part, unit: Unit) -> None:
    """Write mteb's own result file of a task: the parts of it that are finished, and `model_meta.json` beside it."""
    from mteb import ResultCache
    from mteb.results import TaskResult

    meta = _meta(unit)
    parts = store.parts(unit)
    scores = {
        split: {subset: _of_mteb(json.loads(found)) for subset, (found, _) in subsets.items()}
        for split, subsets in parts.items()
    }
    if not scores:
        return
    path = ResultCache(Path(out) / "mteb").get_task_result_path(part.name, meta)
    path.parent.mkdir(parents=True, exist_ok=True)
    seconds = sum(took for subsets in parts.values() for _, took in subsets.values())
    result = TaskResult.from_task_results(part.task, scores, evaluation_time=seconds)
    with replacing(path) as unfinished:
        result.to_disk(unfinished)
    with replacing(path.with_name("model_meta.json")) as unfinished:
        unfinished.write_text(json.dumps(meta.to_dict(), default=str, indent=4), "utf-8")


def _of_mteb(scores: dict[str, Any]) -> dict[str, Any]:
    """Return the scores without what mteb adds to them anew."""
    return {name: score for name, score in scores.items() if name not in ("hf_subset", "languages", "mteb_version")}


def _meta(unit: Unit) -> Any:
    """Describe the model to mteb: each setting, the temperature 1 too, is an experiment of its own."""
    from mteb.models import ModelMeta

    varied = ("temperature", "layers", "apply_to", "max_seq_length", "dtype")
    name = unit.model if unit.model.count("/") == 1 and unit.model[0] != "/" else f"local/{Path(unit.model).name}"
    settings = {name: getattr(unit, name) for name in varied}
    if unit.chunk_tokens:  # else the files keep the names that they had before there was a choice
        settings["chunk_tokens"] = unit.chunk_tokens
    overwrites = {"name": name, "revision": unit.model_hash, "experiment_kwargs": settings, "modalities": ["text"]}
    return ModelMeta.create_empty(overwrites=overwrites)


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
