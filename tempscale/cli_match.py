"""`tempscale spectrum --match-length`: the temperatures that keep the filter rates of a length."""

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from tempscale.rate_matched import RateMatched

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer


def match(
    model: "SentenceTransformer",
    texts: Sequence[str],
    reference_length: int,
    lengths: Sequence[int],
    path: Path,
    about: Mapping[str, str],
) -> None:
    """Fit `RateMatched` at the lengths above the reference, print its temperatures and write it."""
    from rich.console import Console
    from rich.progress import Progress

    longer = [tokens for tokens in lengths if tokens > reference_length]
    with Progress(console=Console(stderr=True)) as progress, warnings.catch_warnings():
        warnings.showwarning = lambda message, *_, **__: typer.echo(f"tempscale: {message}", err=True)
        task = progress.add_task(f"Matching {reference_length} tokens", total=1.0)
        found = RateMatched.measure(
            model,
            texts,
            reference_length=reference_length,
            lengths=longer,
            about=about,
            progress=lambda share: progress.update(task, completed=share),
        )
    Console().print(_rendered(found))
    found.save(path)
    typer.echo(f"Wrote {path}: the filter rates miss their targets by {found.residual:.1%} at most", err=True)


def _rendered(found: RateMatched) -> Any:
    from rich.table import Table

    table = Table(
        title=f"Temperatures that keep the filter rates of {found.reference_length} tokens, and what they miss"
    )
    table.add_column("layer", justify="right")
    for tokens in found.lengths:
        table.add_column(f"{tokens} tokens", justify="right")
    for layer, (temperatures, misfits) in enumerate(zip(found.temperatures, found.misfits, strict=True), 1):
        table.add_row(
            f"{layer}", *(f"{tau:.3f} ({miss:+.1%})" for tau, miss in zip(temperatures, misfits, strict=True))
        )
    return table
