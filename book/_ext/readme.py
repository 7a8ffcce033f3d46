"""Fill the README's numbers and the pictures from the executed chapters: `python book/_ext/readme.py`, after `make book`.

Numbers in the README are never typed in: they are the values that the chapters hand to their prose.
"""

import base64
import json
import re
import sys
from io import BytesIO
from pathlib import Path

import measured
from PIL import Image
from repository import ROOT

STATIC = ROOT / "book" / "_static"
# the picture, the chapter that draws it, and the figure's name there
PICTURES = {
    "what-helps.png": ("alternatives", "fig-eleven"),
}

ANSWER = """\
- **A temperature: no.** On a search task that we never ran, {results[chosen_constant]:.1f} is predicted to change nDCG@10 by {results[next_all_low]:+.1f} to {results[next_all_high]:+.1f} points, sentence pairs by {results[next_sts_low]:+.1f} to {results[next_sts_high]:+.1f}, classification by {results[next_class_low]:+.1f} to {results[next_class_high]:+.1f} (95 % prediction intervals over 24 tasks; eleven of the fifteen search tasks are documentation of Python packages).
- **For search: yes, the mean direction.** Subtract from every query vector its component along the mean query, and from every document vector its component along the mean document: {alternatives[projected]:+.2f} points [{alternatives[projected_low]:+.2f}, {alternatives[projected_high]:+.2f}] over the documentation of eleven Python packages. No labels, no training.
- **For documents far longer than the model's window: yes, pieces.** On transcripts of meetings the mean of their pieces gained {alternatives[meetings]:+.1f} [{alternatives[meetings_low]:+.1f}, {alternatives[meetings_high]:+.1f}], the best piece {alternatives[best_qmsum]:+.1f} [{alternatives[best_qmsum_low]:+.1f}, {alternatives[best_qmsum_high]:+.1f}] (this one a 90 % interval, simultaneous for eight remedies).
"""  # noqa: E501

RESULTS = """\
- *The collapse is real*: the mean cosine between different texts rises from {phenomenon[cosine_16]:.3f} at 16 tokens to {phenomenon[cosine_256]:.3f} at 256. Averaging alone would make more of it: averaging seven pieces that were embedded separately raises it by {pooling[pooling_share]:.2f} times [{pooling[pooling_share_low]:.2f}, {pooling[pooling_share_high]:.2f}] its whole rise from 32 to 224 tokens. The filter rate, which the paper's argument (as it reached us, second-hand) needs to fall with length, rises {probing[minilm_growth]:.2f}-fold [{probing[minilm_growth_low]:.2f}, {probing[minilm_growth_high]:.2f}].
- *The mean direction* helps on {alternatives[projected_gain]} of {alternatives[collections]} collections, and in all-mpnet-base-v2 by {alternatives[larger_projected]:+.2f} points [{alternatives[larger_projected_low]:+.2f}, {alternatives[larger_projected_high]:+.2f}]; fifty unlabelled texts of each side give most of it. One mean for both sides does harm.
- *A temperature* of {results[chosen_constant]:.1f}, chosen on six tasks, changes the mean of seven others by {results[constant_held_out]:+.2f} points [{results[constant_low]:+.2f}, {results[constant_high]:+.2f}]. None of the paper's five models was run.
- *Length can cost rank with the same information*: a document that says the same thing four times ranks lower than once, by {results[repeated_docs]:.1f} points [{results[repeated_docs_low]:.1f}, {results[repeated_docs_high]:.1f}]. A temperature mends little of it, if anything.
"""  # noqa: E501


def glued() -> dict[str, dict[str, measured.Value]]:
    """The values that chapters hand to their prose, by chapter and name."""
    chapters = [file.name.partition(".")[0] for file in sorted(measured.EXECUTED.glob("*.glue.json"))]
    if not chapters:
        sys.exit(f"no executed chapter in {measured.EXECUTED}: run `make book` first")
    return {chapter: measured.glued(chapter) for chapter in chapters}


def picture(name: str) -> bytes:
    """One of the pictures, as its executed chapter drew it."""
    chapter, figure = PICTURES[name]
    notebook = json.loads((measured.EXECUTED / f"{chapter}.ipynb").read_text("utf-8"))
    for cell in notebook["cells"]:
        if cell["metadata"].get("mystnb", {}).get("figure", {}).get("name") == figure:
            for output in cell["outputs"]:
                if "image/png" in output.get("data", {}):
                    return on_white(base64.b64decode(output["data"]["image/png"]))
    sys.exit(f"no executed cell draws {figure}: run `make book` again")


def on_white(png: bytes) -> bytes:
    """The transparent picture on white: where the README is shown, pages may be dark."""
    drawn = Image.open(BytesIO(png)).convert("RGBA")
    paper = Image.new("RGBA", drawn.size, "white")
    paper.alpha_composite(drawn)
    buffer = BytesIO()
    paper.convert("RGB").save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


def filled(text: str) -> str:
    """The README with its numbers filled in."""
    values = glued()
    for name, template in {"answer": ANSWER, "results": RESULTS}.items():
        block = f"<!-- {name}:begin -->\n{template.format(**values)}<!-- {name}:end -->"
        text = re.sub(
            f"<!-- {name}:begin -->.*?<!-- {name}:end -->", lambda _, block=block: block, text, flags=re.DOTALL
        )
    return text


def main(readme: Path = ROOT / "README.md") -> None:
    """Write what has changed."""
    readme.write_text(filled(readme.read_text("utf-8")), "utf-8")
    for name in PICTURES:
        (STATIC / name).write_bytes(picture(name))


if __name__ == "__main__":
    main()
