"""Where a table of measurements comes from, written above it."""

import csv
import hashlib
import shlex
import sys
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tempscale.models import packaged_minilm

if TYPE_CHECKING:
    import pandas as pd

PACKAGES = ("tempscale", "torch", "transformers", "sentence-transformers", "numpy")


def provenance(name: str, model: Any, texts: Sequence[str]) -> dict[str, str]:
    """Return what a measurement was made with.

    Args:
        name: of the model, as given to `load_model`.
        model: the SentenceTransformer.
        texts: all that were read.

    Returns:
        The command line, the model with a hash of its weights (of the file, or the hub's commit), its dtype, device and
        max_seq_length, the texts' number and hash, and the versions of the packages.
    """
    transformer = model[0].auto_model
    parameter = next(transformer.parameters())
    return {
        "command": shlex.join(["tempscale", *sys.argv[1:]]),
        "model": name,
        "weights": _weights(name, transformer),
        "dtype": str(parameter.dtype).removeprefix("torch."),
        "device": parameter.device.type,
        "max_seq_length": str(model.max_seq_length),
        "texts": f"{len(texts)}, sha256 {hashlib.sha256(chr(0).join(texts).encode()).hexdigest()}",
        "versions": ", ".join(f"{package} {version(package)}" for package in PACKAGES),
    }


def _weights(name: str, transformer: Any) -> str:
    file = (packaged_minilm() if name == "minilm" else Path(name)) / "model.safetensors"
    if file.is_file():
        with file.open("rb") as opened:
            return f"sha256 {hashlib.file_digest(opened, 'sha256').hexdigest()}"
    return f"commit {getattr(transformer.config, '_commit_hash', None) or 'unknown'}"


def write_table(table: "pd.DataFrame", path: Path, about: dict[str, str], *, digits: int = 4) -> None:
    """Write a table as CSV, below a comment line for each fact: `pandas.read_csv(path, comment="#")`.

    Args:
        table: its index is left out.
        path: of the file.
        about: the facts by name.
        digits: significant ones of a number.

    >>> import pandas, tempfile
    >>> path = Path(tempfile.mkdtemp()) / "table.csv"
    >>> write_table(pandas.DataFrame({"rate": [1 / 3]}), path, {"model": "minilm"})
    >>> path.read_text()
    '# model: minilm\\nrate\\n0.3333\\n'
    """
    facts = "".join(f"# {key}: {' '.join(value.split())}\n" for key, value in about.items())
    text = table.to_csv(index=False, float_format=f"%.{digits}g", lineterminator="\n")
    if "#" in text:  # in quotes it starts no comment
        text = table.to_csv(index=False, float_format=f"%.{digits}g", lineterminator="\n", quoting=csv.QUOTE_NONNUMERIC)
    path.write_text(facts + text, encoding="utf-8")
