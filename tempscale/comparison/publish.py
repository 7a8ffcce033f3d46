"""A comparison as files to publish: what was compared, and the units behind it."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from tempscale.comparison.matching import newest, select_tasks
from tempscale.evaluation.store import Setting, Store
from tempscale.files import new_folder, write_table

if TYPE_CHECKING:
    import pandas as pd

DIGITS = 10
ITEM_DIGITS = 5  # mteb rounds its scores to as many
ITEM = ["task", "split", "subset", "item", "tokens", "target", "cluster"]


def publish(
    comparison: "pd.DataFrame",
    out: str | Path,
    folder: Path,
    about: dict[str, str],
    *,
    tasks: Sequence[str] | None = None,
    items: bool = False,
    versions: Literal["newest", "all"] = "newest",
) -> None:
    """Write a comparison and what it rests on into a new folder.

    The files are `comparison.csv`, what `compare` returned, and `units.csv`, the finished units without mteb's raw scores.
    Each has a comment line for each fact above its table.

    Args:
        comparison: table that `compare` returned.
        out: folder that `evaluate` wrote, of which the comparison is.
        folder: folder to make; there is none of that name yet, or an empty one.
        about: facts to write above each table, such as the command.
        tasks: names of the tasks that were compared; all if None.
        items: whether to write `items.csv`, too, see `item_scores`.
        versions: as it was for `compare`.
    """
    with Store(out, create=False) as store:
        units = select_tasks(store.units(), tasks).drop(columns="scores")
        if versions == "newest":
            units = newest(units, [])  # `compare` has said what is left out
        scores = item_scores(store, units) if items else None
    tables = {"comparison": comparison, "units": units}
    with new_folder(folder) as unfinished:
        for name, table in tables.items():
            write_table(table, unfinished / f"{name}.csv", about, digits=DIGITS)
        if scores is not None:
            write_table(scores, unfinished / "items.csv", about, digits=ITEM_DIGITS)


def item_scores(store: Store, units: "pd.DataFrame") -> "pd.DataFrame":
    """Return the score of every item under every setting: a row per item, a column per model, length and setting.

    The columns are task, split, subset, item, tokens, target, cluster, and then labels such as "minilm 512 0.9 last:3 both";
    an item without a score under a setting has NaN there. Where a model or the data of a task are there in several states,
    the labels begin with the model's hash after its name, or a column data_hash comes after subset.
    """
    import pandas as pd

    columns: dict[str, list[pd.Series[float]]] = {}
    several_models = units.groupby(["model", "dtype"]).model_hash.nunique().max() > 1
    several_data = units.groupby("task").data_hash.nunique().max() > 1
    about = [*ITEM[:3], *(["data_hash"] if several_data else [])]
    index = [*about, *ITEM[3:]]
    for unit in units.to_dict("records"):
        found = store.items(unit["id"])
        if found.empty:
            continue
        setting = Setting(*(unit[name] for name in Setting._fields))
        keys = found.assign(**{name: unit[name] for name in about})
        model = f"{unit['model']} {unit['model_hash']}" if several_models else unit["model"]
        label = f"{model} {unit['max_seq_length']} {setting.label}"
        columns.setdefault(label, []).append(keys.set_index(index).score)
    wide = pd.concat({label: pd.concat(parts) for label, parts in columns.items()}, axis=1)
    return wide.rename_axis(index=index).reset_index()
