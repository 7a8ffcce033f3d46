"""The request as a plan, validated before anything is loaded, and as the jobs of a session with its model."""

import json
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Self, get_args

from tempscale.encoding.encoder import ApplyTo, Encoder
from tempscale.encoding.pieces import check_least
from tempscale.evaluation.identity import model_hash, model_name, prompts_of, versions
from tempscale.evaluation.store import Unit
from tempscale.evaluation.tasks import Part, find_parts
from tempscale.models import check_device, load_model, set_max_seq_length, to_dtype
from tempscale.patching.layers import RepeatableLayers, layers_label
from tempscale.patching.patch import unpatched
from tempscale.patching.schedules import Schedule, is_plain, temperature_label

if TYPE_CHECKING:
    import torch
    from sentence_transformers import SentenceTransformer


@dataclass(frozen=True)
class Plan:
    """A request to `evaluate`, without the model, which takes longer to load. Arguments as there."""

    model: "str | SentenceTransformer"
    tasks: Sequence[Any]
    temperatures: Sequence[Schedule]
    layers: RepeatableLayers = None
    apply_to: ApplyTo = "both"
    data_dir: str | Path | None = None
    max_seq_length: int | None = None
    device: str | None = None
    dtype: "str | torch.dtype | None" = None
    engine: Literal["local", "ray"] = "local"
    batch_tokens: int | None = None
    chunk_tokens: int | None = None
    command: str | None = None

    def check(self) -> None:
        """Validate the request before anything is loaded or written, or raise ValueError."""
        if not self.temperatures:
            raise ValueError("no temperature given: name at least one, and 1.0 to compare with")
        for temperature in self.temperatures:
            temperature_label(temperature)
        layers_label(self.layers)
        if self.apply_to not in get_args(ApplyTo):
            raise ValueError(f"unknown apply_to {self.apply_to!r}: expected one of {', '.join(get_args(ApplyTo))}")
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
        if self.engine not in ("local", "ray"):
            raise ValueError(f"unknown engine {self.engine!r}: expected local or ray")
        if self.engine == "ray" and not all(isinstance(one, str) for one in (self.model, *self.tasks)):
            raise ValueError("engine='ray' needs the model and the tasks by name: each worker loads its own")

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

    def __str__(self) -> str:
        """Return the command that the results are kept with."""
        if self.command is not None:
            return self.command
        temperatures = ", ".join(map(temperature_label, self.temperatures))
        options = [
            f", {name}={getattr(self, name)!r}"
            for name in ("layers", "apply_to", "max_seq_length", "device", "dtype", "batch_tokens", "chunk_tokens")
            if getattr(self, name) not in (None, "both")
        ]
        model = repr(self.model) if isinstance(self.model, str) else type(self.model).__name__
        return f"evaluate({model}, {[str(task) for task in self.tasks]}, [{temperatures}]{''.join(options)})"


class Job(NamedTuple):
    """A unit of work, and what it takes to run it."""

    unit: Unit
    part: Part
    temperature: Schedule


class Session:
    """A plan with its model loaded, and its jobs. At the end a model that was handed over is as it was.

    Attributes:
        encoder: model as mteb's encoder.
        jobs: a job for each part of the tasks and temperature.
        failures: what went wrong with the data of a task, which then has no jobs, by its name.
        versions: versions of the packages that scores depend on, a JSON object.
        command: command that the results are kept with.
    """

    def __init__(self, plan: Plan, parts: Sequence[Part]) -> None:
        self.versions, self.command = json.dumps(versions()), str(plan)
        self.failures: dict[str, Exception] = {}
        self._loaded: Part | None = None
        with ExitStack() as stack:
            model, name = _model_of(plan, stack)
            prompts = prompts_of(model, name)
            layers = layers_label(plan.layers)
            self.encoder = Encoder(
                model.eval(),
                prompts=prompts,
                layers=None if layers == "all" else plan.layers,
                apply_to=plan.apply_to,
                batch_tokens=plan.batch_tokens,
                chunk_tokens=plan.chunk_tokens,
            )
            stack.callback(self.encoder.close)
            self.encoder.prove(plan.temperatures)
            of_model = {
                "model": name,
                "model_hash": model_hash(model, prompts),
                "max_seq_length": int(model.max_seq_length or 0),
                "dtype": str(next(model.parameters()).dtype).removeprefix("torch."),
                "remedy": f"pieces({plan.chunk_tokens})" if plan.chunk_tokens else "",
            }
            self.jobs = list(_jobs(plan, list(self._readable(parts)), of_model, layers))
            self._undo = stack.pop_all()

    def _readable(self, parts: Sequence[Part]) -> Iterator[Part]:
        """Yield the parts whose data are there; some have to be loaded to see what they are."""
        for part in parts:
            try:
                _ = part.data_hash
            except MemoryError:
                raise
            except Exception as error:  # noqa: BLE001 - the net of a task: what its data raise is their affair
                self.failures[part.name] = error
            else:
                yield part

    def load(self, part: Part) -> None:
        """Load the data of a part's task; those of the task before are let go."""
        if self._loaded is not None and self._loaded.task is not part.task:
            self._loaded.unload()
        self._loaded = part
        part.load()

    def __enter__(self) -> Self:
        """Return the session."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Leave the model as it was."""
        self._undo.close()


def _model_of(plan: Plan, undo: ExitStack) -> tuple[Any, str]:
    """Return the model of a plan, loaded, and its name."""
    if isinstance(plan.model, str):
        model = load_model(plan.model, device=plan.device, dtype=plan.dtype, max_seq_length=plan.max_seq_length)
        return model, plan.model
    unpatched(plan.model)
    name = model_name(plan.model)
    for module in plan.model.modules():
        undo.callback(setattr, module, "training", module.training)
    if plan.max_seq_length is not None:
        undo.callback(setattr, plan.model, "max_seq_length", plan.model.max_seq_length)
        set_max_seq_length(plan.model, name, plan.max_seq_length)
    return plan.model, name


def _jobs(plan: Plan, parts: Sequence[Part], of_model: dict[str, Any], layers: str) -> Iterator[Job]:
    """Yield the jobs of a plan, equal temperatures once."""
    labelled = {temperature_label(temperature): temperature for temperature in plan.temperatures}
    for part in parts:
        for label, temperature in labelled.items():
            # At temperature 1 layers and side make no difference: one baseline serves all.
            plain = is_plain(temperature)
            unit = Unit(
                task=part.name,
                task_type=str(part.task.metadata.type),
                split=part.split,
                subset=part.subset,
                temperature=label,
                layers="all" if plain else layers,
                apply_to="both" if plain else plan.apply_to,
                data_hash=part.data_hash,
                **of_model,
            )
            yield Job(unit, part, temperature)
