"""`tempscale advise`: which remedy helps on a user's own pairs, and the model with it."""

import json
import zipfile
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tempscale.cli.shared import (
    Device,
    DocumentColumn,
    Encoding,
    MaxSeqLength,
    MoreDocuments,
    QueryColumn,
    RelevanceColumn,
    exit_on_user_error,
    remedies_of,
    rendered,
    table_console,
    warnings_on_stderr,
    wrong_argument,
)
from tempscale.evaluation.store import FILE as STORE
from tempscale.files import check_can_be_made, check_new_folder, new_folder, replacing, write_table
from tempscale.texts.files import read_table

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

    from tempscale.advice.advise import Advice
    from tempscale.embeddings.remedies import Remedy


def advise(
    model: Annotated[str | None, typer.Argument(help="minilm, a hub id, or a local folder.")] = None,
    pairs: Annotated[
        str | None,
        typer.Argument(
            help="File with the columns query and document: .csv, .tsv, .json, .jsonl or .parquet, also .gz; - is stdin. "
            "With texts alone it says what can be said without pairs."
        ),
    ] = None,
    documents: MoreDocuments = None,
    query_column: QueryColumn = None,
    document_column: DocumentColumn = None,
    relevance_column: RelevanceColumn = None,
    encoding: Encoding = None,
    remedies: Annotated[
        str | None,
        typer.Option(
            help="What is tried, as for evaluate: 'project,pieces(64, overlap=8)'; by default pieces, what can be taken "
            "away from vectors, both together, and two temperatures."
        ),
    ] = None,
    vectors: Annotated[
        Path | None,
        typer.Option(
            help="Instead of MODEL and PAIRS: a file .npz with stored embeddings, the arrays queries (n, d) and documents "
            "(m, d). Unless query k belongs to document k, also relevant (p, 2): rows of a query and of a document."
        ),
    ] = None,
    max_seq_length: MaxSeqLength = None,
    device: Device = None,
    out: Annotated[
        Path | None,
        typer.Option(help="Folder for report.html, the tables, and what was measured; call again with it to resume."),
    ] = None,
    save: Annotated[
        Path | None,
        typer.Option(help="New folder for the model with the recommended remedy in it, if there is one."),
    ] = None,
) -> None:
    """Find out which remedy helps a search, on your own queries and documents.

    It measures the model as it is, and with remedies: long texts read in pieces, what all queries or all documents have in
    common taken away from their vectors, a temperature. One half of the pairs chooses, the other judges, in turn. Needs 40
    different queries with their documents, since fewer cannot tell a remedy from chance, and better some hundreds.
    """
    tried = None if remedies is None else remedies_of(remedies)
    for option, folder, check in (("--out", out, _check_out), ("--save", save, check_new_folder)):
        try:
            if folder is not None:
                check(folder)
        except ValueError as error:
            wrong_argument(f"{option}: {error}")
    if out is not None and save is not None and out.absolute() == save.absolute():
        wrong_argument(f"--out and --save are both {out}: name a folder of its own for the model")
    if vectors is not None:
        given = {
            "MODEL": model,
            "PAIRS": pairs,
            "--documents": documents,
            "--query-column": query_column,
            "--document-column": document_column,
            "--relevance-column": relevance_column,
            "--encoding": encoding,
            "--max-seq-length": max_seq_length,
            "--device": device,
        }
        for name, value in given.items():
            if value is not None:
                wrong_argument(f"{name} {value!r} is not for --vectors, which are embedded already: leave it out")
        return _from_vectors(vectors, tried, out, save)
    if model is None or pairs is None:
        wrong_argument("expected MODEL and PAIRS, such as minilm mine.csv, or --vectors FILE")
    columns = {"query": query_column, "document": document_column, "relevance": relevance_column}
    return _from_texts(
        model, pairs, documents, columns, encoding, tried, out, save, max_seq_length=max_seq_length, device=device
    )


def _check_out(out: Path) -> None:
    """Raise ValueError for a folder that holds other things than what was measured before."""
    check_can_be_made(out)
    if out.is_dir() and any(out.iterdir()) and not (out / STORE).exists():
        raise ValueError(f"{out} is not empty and holds no results to go on with: name a new folder")


def _from_texts(
    model: str,
    pairs: str,
    documents: str | None,
    columns: dict[str, str | None],
    encoding: str | None,
    tried: "list[Remedy] | None",
    out: Path | None,
    save: Path | None,
    **options: Any,
) -> None:
    """Advise on texts, with pairs or without."""
    from tempscale.advice.advise import advise as advise_on
    from tempscale.evaluation.identity import command_line, prompts_of, provenance
    from tempscale.evaluation.pair_files import PairFile
    from tempscale.models import load_model

    with exit_on_user_error(), warnings_on_stderr():
        if _without_pairs(pairs, columns, encoding):
            given = {"--documents": documents, "--remedies": tried, "--out": out, "--save": save}
            for option, value in given.items():
                if value is not None:
                    wrong_argument(
                        f"{option} is for pairs, and {pairs} holds texts alone: give it the columns query and document"
                    )
            _say_without_pairs(model, pairs, columns, encoding, **options)
            return
        file = PairFile(pairs, documents=documents, encoding=encoding, **columns)
        found = advise_on(
            model,
            file,
            remedies=tried,
            out=out,
            command=command_line(),
            say=lambda line: typer.echo(line, err=True),
            **options,
        )
        _print(found)
        if out is None and save is None:
            return
        loaded = load_model(model, **options)
        loaded.prompts.update(prompts_of(loaded, model))
        assert found.evidence is not None
        queries, among = (list(side.texts) for side in found.evidence.sides)
        if out is not None:
            _write(found, out, provenance(model, loaded, [*queries, *among]))
        if save is not None:
            _save(found, loaded, queries, among, save)


def _without_pairs(pairs: str, columns: dict[str, str | None], encoding: str | None) -> bool:
    """Whether a file holds texts of only one kind; one that a column was named of does not."""
    if pairs == "-" or columns["query"] is not None:
        return False
    names = read_table(pairs, encoding=encoding, plain=True).names
    return len(names) == 1 or ("query" not in names and columns["document"] in names)


def _say_without_pairs(
    model: str, file: str, columns: dict[str, str | None], encoding: str | None, **options: Any
) -> None:
    """Say what texts without pairs tell, and that it chooses nothing."""
    from tempscale.advice.evidence import look
    from tempscale.evaluation.identity import prompts_of
    from tempscale.models import load_model

    table = read_table(file, encoding=encoding, plain=True)
    name = columns["document"] or ("document" if "document" in table.names else None)
    texts = list(dict.fromkeys(table.kept(table.chosen(name))))
    table.say()
    if not texts:
        wrong_argument(f"PAIRS: {file} holds no text")
    typer.echo(
        "Nothing can be chosen: which remedy helps is known only from queries with the documents that answer them, and "
        f"{file} has no queries (--query-column names theirs). 40 pairs are enough to begin with: "
        f"tempscale advise {model} pairs.csv, with the "
        "columns query and document."
    )
    loaded = load_model(model, **options)
    evidence = look(loaded, [], texts, prompts_of(loaded, model))
    for sentence in evidence.sentences():
        typer.echo(sentence)
    if evidence.cut(evidence.sides[0]):
        typer.echo("Reading those in pieces would read all of them; whether that helps a search, pairs tell.")


def _from_vectors(vectors: Path, tried: "list[Remedy] | None", out: Path | None, save: Path | None) -> None:
    """Advise on stored embeddings."""
    import numpy as np

    from tempscale.advice.advise import advise_vectors
    from tempscale.embeddings.sides import PerSide, as_array, unit_again
    from tempscale.evaluation.identity import command_line, versions

    with exit_on_user_error(), warnings_on_stderr():
        try:
            with np.load(vectors) as opened:
                arrays = {name: opened[name] for name in opened.files}
        except OSError as error:
            said = error.strerror or "it is no file of arrays; expected .npz, as numpy.savez writes it"
            raise ValueError(f"cannot read {vectors}: {said}") from error
        except (ValueError, EOFError, AttributeError, TypeError, zipfile.BadZipFile, zlib.error) as error:
            raise ValueError(f"{vectors} is no file of arrays: expected .npz, as numpy.savez writes it") from error
        for name in ("queries", "documents"):
            if name not in arrays:
                raise ValueError(f"{vectors} has no array {name!r}, only {', '.join(arrays) or 'none'}")
        found = advise_vectors(arrays["queries"], arrays["documents"], arrays.get("relevant"), remedies=tried)
        _print(found)
        if out is not None:
            packages = ", ".join(f"{package} {number}" for package, number in versions().items())
            _write(found, out, {"command": command_line(), "model": str(vectors), "versions": packages})
        if save is None:
            return
        if found.recommended is None or found.recommended.vectors is None:
            typer.echo(f"{save} is not written: there is nothing to recommend", err=True)
            return
        unit = {name: unit_again(as_array(arrays[name])) for name in ("queries", "documents")}  # as it was measured
        sides = PerSide(found.recommended.vectors).fit(**unit)
        with new_folder(save) as folder:
            sides.save(folder / "remedy.npz")
        typer.echo(
            f"Wrote {save / 'remedy.npz'}: a query x of length one becomes x @ query_weight.T + query_bias, at length one "
            "again, and documents likewise",
            err=True,
        )


def _print(found: "Advice") -> None:
    """Print the answer, the table, and what else there is to say."""
    from tempscale.advice.words import cells

    answer, *others = found.sentences()
    console = table_console()
    console.print(answer, markup=False, highlight=False, style="bold")
    title = f"nDCG@10, {len(found.scores)} queries; without a remedy {100 * found.baseline:.1f}"
    console.print(rendered(cells(found.table), title, left=3))
    for sentence in [*others, *(found.evidence.sentences() if found.evidence else ()), *found.notes]:
        console.print(sentence, markup=False, highlight=False)


def _write(found: "Advice", out: Path, about: dict[str, str]) -> None:
    """Write the page and the tables."""
    from tempscale.advice.advice_page import html

    out.mkdir(parents=True, exist_ok=True)
    with replacing(out / "report.html") as unfinished:
        unfinished.write_text(html(found, about), encoding="utf-8")
    for name, table in (("remedies.csv", found.table), ("scores.csv", found.scores)):
        with replacing(out / name) as unfinished:
            write_table(table, unfinished, about)
    typer.echo(f"Wrote {out / 'report.html'} and its data", err=True)


def _save(found: "Advice", model: "SentenceTransformer", queries: list[str], documents: list[str], save: Path) -> None:
    """Write the model with the recommended remedy, or where one vector for a text cannot hold it, the vectors."""
    from dataclasses import replace

    import numpy as np

    from tempscale.embeddings.serving import apply, piece_vectors
    from tempscale.embeddings.sides import PerSide

    remedy = found.recommended
    if remedy is None:
        typer.echo(f"{save} is not written: there is nothing to recommend", err=True)
        return
    single = remedy if remedy.pieces is None else replace(remedy, pieces=replace(remedy.pieces, pool="mean"))
    made = apply(model, single, **({"queries": queries, "documents": documents} if remedy.vectors else {}))
    with new_folder(save) as folder:
        made.save_pretrained(str(folder))
        if single != remedy:
            sides = None
            if remedy.vectors is not None:
                before = apply(model, replace(single, vectors=None))
                embeddings = {"queries": before.encode_query(queries), "documents": before.encode_document(documents)}
                sides = PerSide(remedy.vectors).fit(**embeddings)
            vectors, owner = piece_vectors(model, remedy, documents, sides=sides)
            np.savez(folder / "document_pieces.npz", vectors=vectors, document=owner)
            lines = (json.dumps({"document": text}, ensure_ascii=False) for text in documents)
            (folder / "documents.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    trust = "" if remedy.pieces is None else ", trust_remote_code=True"
    typer.echo(f"Wrote {save}: SentenceTransformer({str(save)!r}{trust})", err=True)
    if single != remedy:
        typer.echo(
            "That is for queries. A document has several vectors, which no model gives: they are in document_pieces.npz, "
            "with the line of their document in documents.jsonl; a document is as near as its best piece",
            err=True,
        )
