"""The request as a plan, validated before anything is loaded, and as the jobs of a session with its model."""

import json
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Self, get_args

from tempscale.embeddings.remedies import Remedy
from tempscale.encoding.encoder import Encoder
from tempscale.encoding.reading import ApplyTo
from tempscale.evaluation.identity import model_hash, model_name, prompts_of, versions
from tempscale.evaluation.store import Unit
from tempscale.evaluation.tasks import Part, find_parts
from tempscale.models import check_device, load_model, set_max_seq_length, to_dtype
from tempscale.patching.layers import RepeatableLayers, layers_label
from tempscale.patching.patch import unpatched
from tempscale.patching.schedules import Schedule, temperature_label

if TYPE_CHECKING:
    import torch
    from sentence_transformers import SentenceTransformer


@dataclass(frozen=True)
class Plan:
    """A request to `evaluate`, without the model, which takes longer to load. Arguments as there."""

    model: "str | SentenceTransformer"
    tasks: Sequence[Any]
    temperatures: Sequence[Schedule]
    remedies: Sequence[Remedy] = (Remedy(),)
    layers: RepeatableLayers = None
    apply_to: ApplyTo = "both"
    data_dir: str | Path | None = None
    max_seq_length: int | None = None
    device: str | None = None
    dtype: "str | torch.dtype | None" = None
    engine: Literal["local", "ray"] = "local"
    batch_tokens: int | None = None
    command: str | None = None

    def check(self) -> None:
        """Validate the request before anything is loaded or written, or raise ValueError."""
        if not self.temperatures:
            raise ValueError("no temperature given: name at least one, and 1.0 to compare with")
        if not self.remedies:
            raise ValueError("no remedy given: name at least one, and 'none' to compare with")
        layers_label(self.layers)
        if self.apply_to not in get_args(ApplyTo):
            raise ValueError(f"unknown apply_to {self.apply_to!r}: expected one of {', '.join(get_args(ApplyTo))}")
        self.settings()
        if not isinstance(self.model, str) and (self.device or self.dtype):
            raise ValueError("device and dtype are for models given by name: move a loaded model with `.to(...)`")
        if self.device is not None:
            check_device(self.device)
        if self.dtype is not None:
            to_dtype(self.dtype)
        if self.batch_tokens is not None and self.batch_tokens < 1:
            raise ValueError(f"batch_tokens must be at least 1, not {self.batch_tokens}; leave it out for the default")
        if self.engine not in ("local", "ray"):
            raise ValueError(f"unknown engine {self.engine!r}: expected local or ray")
        if self.engine == "ray" and not all(isinstance(one, str) for one in (self.model, *self.tasks)):
            raise ValueError("engine='ray' needs the model and the tasks by name: each worker loads its own")

    def settings(self) -> list[Remedy]:
        """Return the different settings: each remedy at each temperature, or at its own if it has one."""
        each = [
            replace(remedy, temperature=temperature, layers=self.layers, side=self.apply_to)
            if remedy.is_plain
            else remedy
            for temperature in self.temperatures  # first: remedies on vectors share the embeddings
            for remedy in self.remedies
        ]
        return list(dict.fromkeys(each))

    def parts(self) -> tuple[list[Part], list[str]]:
        """Return the parts of the tasks, and a sentence for each kind of setting that is skipped for having no sides."""
        found = find_parts(self.tasks, self.data_dir)
        settings = self.settings()
        needing = [str(setting) for setting in settings if setting.needs_sides]
        whole = self.apply_to != "both"  # then the baseline of a task without sides is of no use, either
        if whole:
            needing = [f"apply_to={self.apply_to!r}"]
        sided = [part for part in found if part.has_sides]
        without = ", ".join(dict.fromkeys(part.name for part in found if not part.has_sides))
        if not needing or not without:
            return found, []
        if not sided and (whole or len(needing) == len(settings)):
            remedy = "use apply_to='both'" if whole else "leave it out"
            raise ValueError(f"{needing[0]} needs tasks with queries and documents, and {without} has none: {remedy}")
        skipped = "" if whole else f" {'; '.join(needing)}"
        return sided if whole else found, [f"Skipped{skipped}, for having no queries and documents: {without}"]

    def __str__(self) -> str:
        """Return the command that the results are kept with."""
        if self.command is not None:
            return self.command
        temperatures = ", ".join(map(temperature_label, self.temperatures))
        options = [
            f", {name}={getattr(self, name)!r}"
            for name in ("layers", "apply_to", "max_seq_length", "device", "dtype", "batch_tokens")
            if getattr(self, name) not in (None, "both")
        ]
        if any(remedy != Remedy() for remedy in self.remedies):
            options.insert(0, f", remedies={list(map(str, self.remedies))}")
        model = repr(self.model) if isinstance(self.model, str) else type(self.model).__name__
        return f"evaluate({model}, {[str(task) for task in self.tasks]}, [{temperatures}]{''.join(options)})"


class Job(NamedTuple):
    """A unit of work, and what it takes to run it."""

    unit: Unit
    part: Part
    remedy: Remedy


class Session:
    """A plan with its model loaded, and its jobs. At the end a model that was handed over is as it was.

    Attributes:
        encoder: model as mteb's encoder.
        jobs: a job for each part of the tasks and setting.
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
            self.encoder = Encoder(model.eval(), prompts=prompts, batch_tokens=plan.batch_tokens)
            stack.callback(self.encoder.close)
            self.encoder.prove(plan.settings())
            of_model = {
                "model": name,
                "model_hash": model_hash(model, prompts),
                "max_seq_length": int(model.max_seq_length or 0),
                "dtype": str(next(model.parameters()).dtype).removeprefix("torch."),
            }
            self.jobs = list(_jobs(plan, list(self._readable(parts)), of_model))
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


def _jobs(plan: Plan, parts: Sequence[Part], of_model: dict[str, Any]) -> Iterator[Job]:
    """Yield the jobs of a plan; a setting for sides only where a task has them."""
    for part in parts:
        for remedy in plan.settings():
            if remedy.needs_sides and not part.has_sides:
                continue
            # At temperature 1 layers and side make no difference: one baseline serves all.
            temperature, layers, side = remedy.labels()
            unit = Unit(
                task=part.name,
                task_type=str(part.task.metadata.type),
                split=part.split,
                subset=part.subset,
                temperature=temperature,
                layers=layers,
                apply_to=side,
                data_hash=part.data_hash,
                remedy=remedy.besides,
                **of_model,
            )
            yield Job(unit, part, remedy)
