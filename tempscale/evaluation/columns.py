"""Columns of data sets, read once and at once, where `datasets` reads row by row as often as it is asked."""

from typing import Any

import numpy as np
import numpy.typing as npt
from datasets import Dataset


class Labels(list[int]):
    """A list of integers, not to be changed, that is an array where NumPy wants one: metrics do so a hundred times over.

    >>> import numpy as np
    >>> labels = Labels([3, 1, 2])
    >>> labels == [3, 1, 2], np.asarray(labels)
    (True, array([3, 1, 2]))
    """

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> npt.NDArray[Any]:
        if len(vars(self).get("array", ())) != len(self):
            self.array = np.array(list(self))
        return self.array.astype(dtype or self.array.dtype)  # a copy, which whoever asks may change


class ReadOnce(Dataset):  # type: ignore[misc]  # datasets is untyped here
    """A data set whose columns are lists, each read at once and kept.

    mteb hands columns of a data set to scikit-learn, whose metrics and validations go through all labels again and again.
    A column of `datasets` is read row by row each time, and of a selection of memory-mapped rows very slowly.
    """

    def __getitem__(self, key: Any) -> Any:
        if not isinstance(key, str):
            return super().__getitem__(key)
        kept = self.__dict__.setdefault("_tempscale_columns", {})
        at = self._fingerprint, key  # a copy that was changed since has another fingerprint
        if at not in kept:
            values = super().__getitem__(key)[:]
            of_integers = isinstance(values, list) and all(type(value) is int for value in values)
            kept[at] = Labels(values) if of_integers else values
        return kept[at]

    def select(self, *args: Any, **kwargs: Any) -> Any:
        """Return some rows, whose columns are read once, too."""
        return read_once(super().select(*args, **kwargs))


def read_once(data: Any) -> Any:
    """Let columns be read once, in a data set or in all those of a (nested) mapping, as tasks of mteb hold them.

    >>> data = read_once({"test": Dataset.from_dict({"label": [3, 1, 2]})})
    >>> data["test"]["label"], data["test"].select([2, 0])["label"], data["test"][1]
    ([3, 1, 2], [2, 3], {'label': 1})
    """
    if type(data) is Dataset:
        data.__class__ = ReadOnce
    elif isinstance(data, dict):
        for part in data.values():
            read_once(part)
    return data
