"""The work of an evaluation, as units: one model, each part of each task, each temperature."""

import json
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from tempscale.encoding.encoder import Encoder
from tempscale.encoding.pieces import check_least
from tempscale.evaluation.identity import model_hash, model_name, prompts_of, versions
from tempscale.evaluation.run_unit import measure
from tempscale.evaluation.store import Item, Measured, Unit
from tempscale.evaluation.tasks import Part, find_parts
from tempscale.models import check_device, load_model, set_max_seq_length, to_dtype
from tempscale.patching.patch import Layers, layers_setting, unpatched
from tempscale.patching.schedules import Schedule, is_plain, temperature_label

if TYPE_CHECKING:
    import torch
    from sentence_transformers import SentenceTransformer


APPLY_TO = ("both", "document", "query")


class Job(NamedTuple):
    """A unit, and what it takes to run it."""

    unit: Unit
    part: Part
    temperature: Schedule


@dataclass(frozen=True)
class Plan:
    """What is asked for, checked: everything but the model, which takes longer to load. Arguments as for `evaluate`."""

    model: "str | SentenceTransformer"
    tasks: Sequence[Any]
    temperatures: Sequence[Schedule]
    layers: Layers | None = None
    apply_to: str = "both"
    data_dir: str | Path | None = None
    max_seq_length: int | None = None
    device: str | None = None
    dtype: "str | torch.dtype | None" = None
    batch_tokens: int | None = None
    chunk_tokens: int | None = None

    def check(self) -> None:
        """Raise ValueError for what cannot be, before anything is loaded or written."""
        if not self.temperatures:
            raise ValueError("no temperature given: name at least one, and 1.0 to compare with")
        for temperature in self.temperatures:
            temperature_label(temperature)
        layers_setting(self.layers)
        check_apply_to(self.apply_to)
        if not isinstance(self.model, str) and (self.device or self.dtype):
            raise ValueError("device and dtype are for models given by name: move a loaded model with `.to(...)`")
        if self.device is not None:
            check_device(self.device)
        if self.dtype is not None:
            to_dtype(self.dtype)
        if self.batch_tokens is not None and self.batch_tokens < 1:
            raise ValueError(f"batch_tokens must be at least 1, not {self.batch_tokens}; leave it out for the default")

        if self.chunk_tokens is not None:
            check_least(self.chunk_tokens)

    def parts(self) -> tuple[list[Part], list[str]]:
        """Return the parts of the tasks, and the names of tasks that have no queries and documents to tell apart."""
        found = find_parts(self.tasks, self.data_dir)
        if self.apply_to == "both":
            return found, []
        sided = [part for part in found if part.has_sides]
        if not sided:
            raise ValueError(
                f"apply_to={self.apply_to!r} needs tasks with queries and documents, and "
                f"{', '.join(dict.fromkeys(part.name for part in found))} has none: use apply_to='both'"
            )
        return sided, list(dict.fromkeys(part.name for part in found if not part.has_sides))


class Sweep:
    """A plan with its model loaded; at the end `close` leaves a model that was handed over as it was."""

    def __init__(self, plan: Plan, parts: Iterable[Part]) -> None:
        model: Any = plan.model
        self._max_seq_length = None
        if isinstance(model, str):
            name = model
            model = load_model(name, device=plan.device, dtype=plan.dtype, max_seq_length=plan.max_seq_length)
        else:
            name = model_name(model)
            unpatched(model)
            if plan.max_seq_length is not None:
                self._max_seq_length = model.max_seq_length
                set_max_seq_length(model, name, plan.max_seq_length)
        prompts = prompts_of(model, name)
        label, layers = layers_setting(plan.layers)
        self.encoder = Encoder(
            model.eval(),
            prompts=prompts,
            layers=layers,
            apply_to=plan.apply_to,
            batch_tokens=plan.batch_tokens,
            chunk_tokens=plan.chunk_tokens,
        )
        self._versions = json.dumps(versions())
        self._loaded: Any = None
        with self._closing_on_error():
            self.encoder.prove(plan.temperatures)
            digest = model_hash(model, prompts)
            temperatures = {temperature_label(one): one for one in plan.temperatures}
            dtype = str(next(model.parameters()).dtype).removeprefix("torch.")
            self.jobs = [
                # At temperature 1 layers and side make no difference: one baseline serves all.
                Job(
                    Unit(
                        model=name,
                        model_hash=digest,
                        task=part.name,
                        task_type=str(part.task.metadata.type),
                        split=part.split,
                        subset=part.subset,
                        temperature=named,
                        layers="all" if is_plain(named) else label,
                        apply_to="both" if is_plain(named) else plan.apply_to,
                        max_seq_length=int(model.max_seq_length or 0),
                        dtype=dtype,
                        data_hash=part.data_hash,
                        chunk_tokens=plan.chunk_tokens or 0,
                    ),
                    part,
                    temperature,
                )
                for part in parts
                for named, temperature in temperatures.items()
            ]

    def measure(self, job: Job, command: str) -> tuple[Measured, list[Item]]:
        """Run a unit; the data of one task are kept at a time."""
        if self._loaded is not None and self._loaded is not job.part.task:
            self._loaded.dataset, self._loaded.data_loaded = None, False
        self._loaded = job.part.task
        return measure(self.encoder, job.part, job.unit, job.temperature, self._versions, command)

    def close(self) -> None:
        """Take the temperature out of the model."""
        self.encoder.close()
        if self._max_seq_length is not None:
            self.encoder.model.max_seq_length = self._max_seq_length

    @contextmanager
    def _closing_on_error(self) -> Iterator[None]:
        try:
            yield
        except BaseException:
            self.close()
            raise


def check_apply_to(apply_to: str) -> str:
    """Return the side that a temperature applies to, or raise ValueError."""
    if apply_to not in APPLY_TO:
        raise ValueError(f"unknown apply_to {apply_to!r}: expected one of {', '.join(APPLY_TO)}")
    return apply_to
