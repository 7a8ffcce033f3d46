"""The samples are what the other commands read."""

from support.command import invoke

from tempscale.evaluation.pair_files import read_pair_file
from tempscale.texts.files import read_texts


def test_samples_can_be_read(tmp_path):
    result = invoke("samples", "new/samples", cwd=tmp_path)
    assert (result.returncode, result.stdout) == (0, ""), result.stderr
    assert result.stderr == "Wrote new/samples/texts.csv and new/samples/mine.csv\n"
    folder = tmp_path / "new" / "samples"
    texts = read_texts(folder / "texts.csv", "text")
    assert len(set(texts)) == 100
    assert min(len(text.split()) for text in texts) > 64, "enough for diagnose"
    pairs, documents = read_pair_file(folder / "mine.csv")
    assert (len({query for query, _, _ in pairs}), documents) == (300, [])
    again = invoke("samples", "new/samples", cwd=tmp_path)
    assert (again.returncode, again.stdout) == (2, "")
    assert "new/samples exists and is not an empty folder: name a new one" in again.stderr
