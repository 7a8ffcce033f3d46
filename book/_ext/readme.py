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
from typography import with_minus

STATIC = ROOT / "book" / "_static"
# the picture, the chapter that draws it, and the figure's name there
PICTURES = {
    "what-helps.png": ("alternatives", "fig-eleven"),
}

BEGIN, END = "<!-- answer:begin -->", "<!-- answer:end -->"
ANSWER = """\
- **The collapse is real; in mean-pooled models averaging makes it.** The mean cosine between different texts rises from {phenomenon[cosine_16]:.3f} at 16 tokens to {phenomenon[cosine_256]:.3f} at 256. Take texts of seven pieces of 32 tokens that do not repeat themselves. Reading all seven together, and not the first alone, raises the mean cosine by {pooling[total]:.3f}. Averaging seven that were embedded one by one, so that attention never joins them, raises it by {pooling[pooling]:.3f} above that of single pieces: {pooling[pooling_share]:.2f} times as much [{pooling[pooling_share_low]:.2f}, {pooling[pooling_share_high]:.2f}]. So between such pieces attention works against the collapse. The paper's argument needs attention to smooth more in longer texts: its *filter rate*, the largest factor by which a step can multiply the differences between tokens, should fall. From 16 to 256 tokens it rises, in all-MiniLM-L6-v2 {probing[minilm_growth]:.2f}-fold [{probing[minilm_growth_low]:.2f}, {probing[minilm_growth_high]:.2f}].
- **A temperature: no reliable help.** On one more search in docstrings, a temperature of {results[chosen_constant]:.1f} is predicted to change nDCG@10 by {results[next_all_low]:+.1f} to {results[next_all_high]:+.1f} points (from fifteen searches, twelve of them in docstrings of Python packages); on a search of another kind by {results[next_retrieval_low]:+.1f} to {results[next_retrieval_high]:+.1f} (from four, one of them in docstrings). We know the paper's theory only second-hand, and none of its five models was run.
- **The mean direction: yes, for searching docstrings.** Subtract from every query vector its component along the mean query, and from every document vector its component along the mean document (one mean for both does harm): {alternatives[projected]:+.2f} points [{alternatives[projected_low]:+.2f}, {alternatives[projected_high]:+.2f}] over the docstrings of eleven Python packages (from {alternatives[packages_base]:.1f}), and {alternatives[larger_projected]:+.2f} [{alternatives[larger_projected_low]:+.2f}, {alternatives[larger_projected_high]:+.2f}] in all-mpnet-base-v2. On one more package {alternatives[projected_next_low]:+.2f} to {alternatives[projected_next_high]:+.2f} is predicted; on scientific abstracts there was nothing visible. The first paragraph of a docstring searches for the rest: no user's query is among them. It takes no labels and no training: fifty queries and fifty documents are enough. To *see* such a gain, `advise` takes {decision[enough]} to {decision[enough_surely]} labelled pairs. Each collection has 300 documents; hybrid search, rerankers, E5 and BGE were not tried.
- **Pieces: yes, for documents many times longer than the model's window.** On transcripts of meetings ({alternatives[meeting_ratio]:.0f} windows of 512 tokens long; the score is {alternatives[qmsum_base]:.1f} when only the first window is read) the mean of their pieces gained {alternatives[mean_piece_300]:+.1f} points [{alternatives[mean_piece_300_low]:+.1f}, {alternatives[mean_piece_300_high]:+.1f}], with the mean direction taken away {decision[mean_projected]:+.1f} [{decision[mean_projected_low]:+.1f}, {decision[mean_projected_high]:+.1f}], and the best piece, at {alternatives[vectors_qmsum]:.0f} vectors a document, {alternatives[best_qmsum]:+.1f} [{alternatives[best_qmsum_low]:+.1f}, {alternatives[best_qmsum_high]:+.1f}] (90 % intervals that hold together: all eight remedies at once; pieces had been seen to help on these meetings before).
- **Length can cost rank with the same information.** A docstring that says the same thing four times ranks lower than the same docstring saying it once: by {results[repeated_docs]:.1f} points [{results[repeated_docs_low]:.1f}, {results[repeated_docs_high]:.1f}], in all-mpnet-base-v2 by {results[mpnet_repeated_docs_one_preference]:.1f} [{results[mpnet_repeated_docs_one_preference_low]:.1f}, {results[mpnet_repeated_docs_one_preference_high]:.1f}]. Scientific abstracts lose {results[repeated_facts]:.1f} [{results[repeated_facts_low]:.1f}, {results[repeated_facts_high]:.1f}] in the first model and nothing clear in the second. A temperature does not visibly mend that.
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
    block = f"{BEGIN}\n{with_minus(ANSWER.format(**glued()))}{END}"
    return re.sub(f"{BEGIN}.*?{END}", lambda _: block, text, flags=re.DOTALL)


def main(readme: Path = ROOT / "README.md") -> None:
    """Write what has changed."""
    readme.write_text(filled(readme.read_text("utf-8")), "utf-8")
    for name in PICTURES:
        (STATIC / name).write_bytes(picture(name))


if __name__ == "__main__":
    main()
