"""`tempscale spectrum`: the filter rates of a model's heads, by layer, length and temperature."""

import random
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tempscale.cli.shared import (
    Column,
    Encoding,
    Model,
    Texts,
    exit_on_user_error,
    given_texts,
    parse_numbers,
    schedules,
    warnings_on_stderr,
    wrong_argument,
)
from tempscale.files import check_can_be_made
from tempscale.patching.schedules import temperature_label
from tempscale.plots import style
from tempscale.probing.rate_matched import RateMatched

if TYPE_CHECKING:
    import pandas as pd
    from sentence_transformers import SentenceTransformer

# Enough for intervals over texts, few enough for a small machine.
_TEXTS = 16


def spectrum(
    model: Model,
    texts: Texts = "docstrings",
    column: Column = None,
    encoding: Encoding = None,
    lengths: Annotated[str, typer.Option(help="Lengths in tokens to which the texts are cut.")] = "16,64,256",
    temperatures: Annotated[
        str, typer.Option(help="Numbers, or schedules: 'LogLength(64)', 'PerLayer({-1: 0.8})', a file of RateMatched.")
    ] = "1.0",
    match_length: Annotated[
        int | None, typer.Option(help="Also find the temperatures that keep the filter rates of this length.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Folder for spectrum.csv and spectrum.svg.")] = None,
) -> None:
    """Measure the filter rate of every attention head, on the same texts cut to several lengths.

    Up to 16 texts that are long enough are drawn with a fixed seed. The table has means over heads and texts with a 95 %
    interval over texts; the file has every head on every text, with all that tempscale.probe reads. With --match-length
    the folder gets rate_matched.json, too, a schedule for --temperatures.
    """
    sizes = sorted(parse_numbers("--lengths", lengths, int, _check_length))
    taus = schedules(temperatures)
    _check_folder(out)
    _check_match(match_length, sizes, out)
    found = given_texts(texts, column, ("numpy", "scipy"), encoding)

    import pandas as pd
    from rich.console import Console
    from rich.progress import Progress

    from tempscale.evaluation.identity import provenance
    from tempscale.files import write_table
    from tempscale.models import load_model, max_positions
    from tempscale.patching.patch import patch
    from tempscale.probing.probe import probe

    with exit_on_user_error():
        typer.echo(f"Loading {model}", err=True)
        loaded = load_model(model)
        limit = max_positions(loaded)
        if limit is not None and sizes[-1] > limit:
            wrong_argument(f"--lengths {lengths!r}: {model} has positions for {limit} tokens, not for {sizes[-1]}")
        chosen = _long_enough(loaded, found, sizes[-1])
        tables = []
        with Progress(console=Console(stderr=True)) as progress:
            task = progress.add_task(f"{len(chosen)} texts", total=len(taus) * len(sizes) * len(chosen))
            for tau in taus:
                with patch(loaded, tau):
                    for size in sizes:
                        for number, text in enumerate(chosen):
                            read = probe(loaded, [text], max_tokens=size)
                            tables.append(read.assign(text=number, schedule=temperature_label(tau)))
                            progress.advance(task)
        table = pd.concat(tables, ignore_index=True)
        summary = summarise(table)
        Console().print(_rendered(summary))
        if out is not None:
            about = provenance(model, loaded, chosen)
            out.mkdir(parents=True, exist_ok=True)
            write_table(table, out / "spectrum.csv", about)
            draw(summary, out / "spectrum.svg")
            typer.echo(f"Wrote {out / 'spectrum.csv'} and {out / 'spectrum.svg'}", err=True)
            if match_length is not None:
                _match(loaded, chosen, match_length, sizes, out / "rate_matched.json", about)


def _check_length(tokens: int) -> None:
    if tokens < 3:
        raise ValueError(f"a text of {tokens} tokens is no signal; expected at least 3, special tokens included")


def _check_folder(out: Path | None) -> None:
    if out is None:
        return
    try:
        check_can_be_made(out)
    except ValueError as error:
        wrong_argument(str(error))
    taken = [name for name in ("spectrum.csv", "spectrum.svg", "rate_matched.json") if (out / name).exists()]
    if taken:
        wrong_argument(f"{out / taken[0]} exists: name another folder, or move it away")


def _check_match(reference: int | None, sizes: list[int], out: Path | None) -> None:
    if reference is None:
        return
    if out is None:
        wrong_argument(f"--match-length {reference} writes a file: name a folder with --out")
    if not 3 <= reference < sizes[-1]:
        wrong_argument(f"--match-length {reference}: expected at least 3 tokens, and a longer one in --lengths")


def _long_enough(model: Any, texts: Sequence[str], tokens: int) -> list[str]:
    """Return at most 16 texts of at least `tokens` tokens, drawn with a fixed seed, or raise ValueError."""
    distinct = list(dict.fromkeys(texts))
    random.Random(0).shuffle(distinct)
    found: list[str] = []
    for text in distinct:
        if len(model.tokenizer(text, truncation=True, max_length=tokens)["input_ids"]) == tokens:
            found.append(text)
        if len(found) == _TEXTS:
            return found
    if len(found) < 2:
        raise ValueError(
            f"{len(found) or 'none'} of {len(distinct)} different texts has {tokens} tokens: give at least two that long, "
            "or smaller --lengths"
        )
    return found


def summarise(table: "pd.DataFrame") -> "pd.DataFrame":
    """Return the filter rates of a table of `probe`, by schedule, tokens and layer.

    Columns: mean over heads and texts; low, high: 95 % t interval over texts of the mean over heads; above_1: share of
    heads, on all texts, with a filter rate above 1.
    """
    import numpy as np
    from scipy import stats

    by = ["schedule", "tokens", "layer"]
    per_text = table.groupby([*by, "text"], sort=False).filter_rate.mean().groupby(by, sort=False)
    summary = per_text.agg(["mean", "sem", "count"])
    half = stats.t.ppf(0.975, np.maximum(summary["count"] - 1, 1)) * summary["sem"]
    above = (table.filter_rate > 1).groupby([table[name] for name in by]).mean()
    found = summary[["mean"]].assign(low=summary["mean"] - half, high=summary["mean"] + half, above_1=above)
    return found.reset_index()


@style()
def draw(summary: "pd.DataFrame", path: Path) -> None:
    """Draw the filter rate by layer into a file, a line for each length and a panel for each temperature."""
    from matplotlib.figure import Figure

    taus = summary.schedule.unique()
    figure = Figure(figsize=(1 + 3.2 * len(taus), 3.4))
    panels = figure.subplots(1, len(taus), sharey=True, squeeze=False)[0]
    for panel, (tau, part) in zip(panels, summary.groupby("schedule", sort=False), strict=True):
        for marker, (tokens, line) in zip("osv^D*pXP<>", part.groupby("tokens"), strict=False):
            error = [line["mean"] - line.low, line.high - line["mean"]]
            panel.errorbar(line.layer + 1, line["mean"], error, marker=marker, capsize=2, label=f"{tokens} tokens")
        panel.axhline(1, color="black", linewidth=0.8, linestyle=":")
        panel.set(title=f"temperature {tau}", xlabel="layer", ylim=(0, None))
    panels[0].set_ylabel("filter rate, mean over heads")
    panels[0].legend()
    figure.savefig(path, metadata={"Date": None})


def _rendered(summary: "pd.DataFrame") -> Any:
    from rich.markup import escape
    from rich.table import Table

    table = Table(title="Filter rate: mean over heads, with a 95 % interval over texts")
    for heading in ("temperature", "tokens", "layer", "filter rate", "interval", "heads above 1"):
        table.add_column(heading, justify="right")
    for row in summary.to_dict("records"):
        table.add_row(
            escape(row["schedule"]),
            f"{row['tokens']}",
            f"{row['layer'] + 1}",
            f"{row['mean']:.2f}",
            rf"\[{row['low']:.2f}, {row['high']:.2f}]",
            f"{row['above_1']:.0%}",
        )
    return table


def _match(
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
    with Progress(console=Console(stderr=True)) as progress, warnings_on_stderr():
        task = progress.add_task(f"Matching {reference_length} tokens", total=1.0)
        found = RateMatched.measure(
            model,
            texts,
            reference_length=reference_length,
            lengths=longer,
            about=about,
            progress=lambda share: progress.update(task, completed=share),
        )
    Console().print(_rendered_match(found))
    found.save(path)
    typer.echo(f"Wrote {path}: the filter rates miss their targets by {found.residual:.1%} at most", err=True)


def _rendered_match(found: RateMatched) -> Any:
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
