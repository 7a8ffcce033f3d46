"""Results as mteb's own files, for whoever reads those: one folder a setting, and none taken for another's."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tempscale.evaluation.store import Unit
from tempscale.evaluation.tasks import Part
from tempscale.files import replacing


def mteb_meta(unit: Unit) -> Any:
    """Describe the model to mteb: each setting, the temperature 1 too, is an experiment of its own."""
    from mteb.models import ModelMeta

    varied = ("temperature", "layers", "apply_to", "max_seq_length", "dtype")
    name = unit.model if unit.model.count("/") == 1 and unit.model[0] != "/" else f"local/{Path(unit.model).name}"
    settings = {name: getattr(unit, name) for name in varied}
    if unit.remedy:  # else the files keep the names that they had before there was a choice
        settings["remedy"] = unit.remedy
    overwrites = {"name": name, "revision": unit.model_hash, "experiment_kwargs": settings, "modalities": ["text"]}
    return ModelMeta.create_empty(overwrites=overwrites)


def write_mteb_file(
    out: str | Path, part: Part, unit: Unit, finished: Mapping[str, Mapping[str, tuple[str, float]]]
) -> None:
    """Write mteb's own result file of a task, and `model_meta.json` beside it, into the folder `mteb`.

    Args:
        out: folder of the evaluation.
        part: one of the task's.
        unit: one of the task's, whose model and setting the file is of.
        finished: scores as JSON, and seconds, by split and subset; without any, nothing is written.
    """
    from mteb import ResultCache
    from mteb.results import TaskResult

    if not finished:
        return
    scores = {
        split: {subset: _of_mteb(json.loads(found)) for subset, (found, _) in subsets.items()}
        for split, subsets in finished.items()
    }
    seconds = sum(took for subsets in finished.values() for _, took in subsets.values())
    meta = mteb_meta(unit)
    path = ResultCache(Path(out) / "mteb").get_task_result_path(part.name, meta)
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as unfinished:
        TaskResult.from_task_results(part.task, scores, evaluation_time=seconds).to_disk(unfinished)
    with replacing(path.with_name("model_meta.json")) as unfinished:
        unfinished.write_text(json.dumps(meta.to_dict(), default=str, indent=4), "utf-8")


def _of_mteb(scores: dict[str, Any]) -> dict[str, Any]:
    """Return the scores without what mteb adds to them anew."""
    return {name: score for name, score in scores.items() if name not in ("hf_subset", "languages", "mteb_version")}
