"""Fill the README's results and picture from the executed chapters: `python book/_ext/readme.py`, after `make book`.

Numbers in the README are never typed in: they are the values that the chapters hand to their prose.
"""

import ast
import base64
import json
import re
import sys

from repository import ROOT

EXECUTED = ROOT / "_build" / "jupyter_execute" / "book"
PICTURE = ROOT / "book" / "_static" / "cosine-by-length.png"
PICTURE_CELL = 'ylabel="mean pairwise cosine"'

RESULTS = """\
*Prediction.* On a task that we never ran, a temperature of {results[chosen_constant]:.1f} will change retrieval by {results[next_retrieval_low]:+.1f} to {results[next_retrieval_high]:+.1f} points, sentence pairs by {results[next_sts_low]:+.1f} to {results[next_sts_high]:+.1f}, classification by {results[next_class_low]:+.1f} to {results[next_class_high]:+.1f} (95 % prediction intervals over 13 tasks). It may help or harm, by tenths; what helps by points is below.

All numbers: all-MiniLM-L6-v2 unless another model is named, technical prose where no task is, intervals of 95 % each.

- What helps: take from queries and documents each the direction of their own mean. On eleven collections that had no part in finding it nDCG@10 changes by {alternatives[projected]:+.2f} points [{alternatives[projected_low]:+.2f}, {alternatives[projected_high]:+.2f}], on {alternatives[projected_gain]} of them upwards, in all-mpnet-base-v2 by {alternatives[larger_projected]:+.2f} [{alternatives[larger_projected_low]:+.2f}, {alternatives[larger_projected_high]:+.2f}]; fifty unlabelled texts of each side give most of it ({alternatives[from_50]:+.2f} of {alternatives[from_all]:+.2f}, not cross-fitted). With one mean for both sides the same idea loses.
- Reading texts to their end in pieces of 128 tokens, and averaging, gains with the meetings of QMSum, of which the model otherwise reads the first 512 tokens, {alternatives[meetings]:+.1f} [{alternatives[meetings_low]:+.1f}, {alternatives[meetings_high]:+.1f}]. At equal budget it moves rank from short documents ({alternatives[equal_short]:+.1f}) to long ones ({alternatives[equal_long]:+.1f}).
- A temperature of {results[chosen_constant]:.1f} in all layers, chosen on six tasks of MTEB and LongEmbed, changes the mean of seven others by {results[constant_held_out]:+.2f} points [{results[constant_low]:+.2f}, {results[constant_high]:+.2f}]. The clearest gain, STS12 at 0.8, {results[sts12]:+.2f} [{results[sts12_low]:+.2f}, {results[sts12_high]:+.2f}], is {results[sts12_within]:+.2f} [{results[sts12_within_low]:+.2f}, {results[sts12_within_high]:+.2f}] within the sources of that benchmark. None of the paper's five models was run.
- Length can cost rank at fixed information: a document that says the same thing four times is found less well than once, by {results[repeated_docs]:.1f} points [{results[repeated_docs_low]:.1f}, {results[repeated_docs_high]:.1f}] with docstrings and {results[repeated_facts]:.1f} [{results[repeated_facts_low]:.1f}, {results[repeated_facts_high]:.1f}] with SciFact; in all-mpnet-base-v2 by {results[mpnet_repeated_docs_one_preference]:.1f} with docstrings, and by nothing for certain with SciFact. A temperature mends little of it, if anything.
- Cut to 16 tokens, different texts have a mean cosine of {phenomenon[cosine_16]:.3f}; cut to 256, {phenomenon[cosine_256]:.3f}: up by {phenomenon[rise_256]:.3f} [{phenomenon[rise_256_low]:.3f}, {phenomenon[rise_256_high]:.3f}]. At 512, beyond the length that the model's authors intended, {phenomenon[cosine_512]:.3f}. The phenomenon is real.
- Retrieval of the same documents still gains from 16 to 256 tokens: accuracy {phenomenon[gain_256]:+.3f} [{phenomenon[gain_256_low]:+.3f}, {phenomenon[gain_256_high]:+.3f}]; from 256 to 512 {phenomenon[gain_512]:+.3f} [{phenomenon[gain_512_low]:+.3f}, {phenomenon[gain_512_high]:+.3f}].
- The filter rate of trained heads *rises* with length, from 16 to 256 tokens by a factor of {probing[minilm_growth]:.2f} [{probing[minilm_growth_low]:.2f}, {probing[minilm_growth_high]:.2f}], in all-mpnet-base-v2 {probing[mpnet_growth]:.2f} [{probing[mpnet_growth_low]:.2f}, {probing[mpnet_growth_high]:.2f}]. The paper's argument, as it reached us second-hand, needs it to fall.
- Pooling alone, pieces of a text embedded separately and averaged, gives {pooling[pooling_share]:.2f} [{pooling[pooling_share_low]:.2f}, {pooling[pooling_share_high]:.2f}] of the rise of the cosine from 32 to 224 tokens. Attention between pieces of 32 tokens changes it by {pooling[attention]:+.3f} [{pooling[attention_low]:+.3f}, {pooling[attention_high]:+.3f}].
- A temperature of 0.8 multiplies the median head's filter rate by {softmax_temperature[factor_08]:.2f} [{softmax_temperature[factor_08_low]:.2f}, {softmax_temperature[factor_08_high]:.2f}]. The mean cosine changes by {softmax_temperature[short_08]:+.4f} [{softmax_temperature[short_08_low]:+.4f}, {softmax_temperature[short_08_high]:+.4f}] at 32 tokens and by {softmax_temperature[long_08]:+.4f} [{softmax_temperature[long_08_low]:+.4f}, {softmax_temperature[long_08_high]:+.4f}] at 256: small against the collapse.
"""  # noqa: E501


def glued() -> dict[str, dict[str, float | int | str]]:
    """The values that chapters hand to their prose, by chapter and name."""
    files = sorted(EXECUTED.glob("*.glue.json"))
    if not files:
        sys.exit(f"no executed chapter in {EXECUTED}: run `make book` first")
    return {
        file.name.partition(".")[0]: {
            name: ast.literal_eval(record["data"]["text/plain"])
            for name, record in json.loads(file.read_text("utf-8")).items()
        }
        for file in files
    }


def picture() -> bytes:
    """The figure of the first chapter, as a PNG."""
    notebook = json.loads((EXECUTED / "phenomenon.ipynb").read_text("utf-8"))
    for cell in notebook["cells"]:
        for output in cell.get("outputs", []):
            if PICTURE_CELL in "".join(cell["source"]) and "image/png" in output.get("data", {}):
                return base64.b64decode(output["data"]["image/png"])
    sys.exit(f"no executed cell draws {PICTURE_CELL}: run `make book` again")


def filled(text: str) -> str:
    """The README with its results filled in."""
    block = f"<!-- results:begin -->\n{RESULTS.format(**glued())}<!-- results:end -->"
    return re.sub("<!-- results:begin -->.*?<!-- results:end -->", lambda _: block, text, flags=re.DOTALL)


if __name__ == "__main__":
    readme = ROOT / "README.md"
    readme.write_text(filled(readme.read_text("utf-8")), "utf-8")
    PICTURE.write_bytes(picture())
