"""Shared fixtures: the packaged model, loaded once; nothing here needs a network."""

import copy
import gc
import os
import shutil
import signal

# Set before any library reads them: a test that reaches for the hub must fail at once.
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import pytest
import torch
from hypothesis import settings
from support.absent import absent

import tempscale

settings.register_profile("tempscale", deadline=None, max_examples=50, derandomize=True)
settings.load_profile("tempscale")


FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


# A command that a shell begins in the background ignores an interruption, and so would all that it starts.
signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_finish():
    """Leave what has been imported out of every later search for garbage: it stays, and is most of what there is."""
    gc.freeze()


@pytest.fixture(scope="session")
def browser():
    """Headless Chromium: one for all tests of a process, in which Playwright allows no second."""
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    # the shell draws the same pages in half the time: it has no window to keep
    names = ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome")
    executable = next(filter(None, map(shutil.which, names)), None)
    if executable is None:
        absent(f"none of {', '.join(names)} on PATH: install one")
    with playwright.sync_playwright() as running:
        browser = running.chromium.launch(executable_path=executable, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def minilm():
    """Return all-MiniLM-L6-v2 on the CPU; tests that patch it must leave it as it was."""
    return tempscale.load_model("minilm", device="cpu")


@pytest.fixture(scope="session")
def shallow(minilm):
    """Return all-MiniLM-L6-v2 with its first layer only, at a sixth of the time.

    It is for what holds of any model with a tokenizer: where neither the number of layers nor the embeddings' meaning
    matters. Tests that patch it must leave it as it was.
    """
    model = copy.deepcopy(minilm)
    transformer = model[0].auto_model
    transformer.encoder.layer = transformer.encoder.layer[:1]
    transformer.config.num_hidden_layers = 1
    return model


@pytest.fixture(scope="session")
def shallow_folder(shallow, tmp_path_factory):
    """Return the folder of the saved shallow model, for commands."""
    folder = tmp_path_factory.mktemp("models") / "shallow"
    shallow.save_pretrained(str(folder))
    return str(folder)


@pytest.fixture(autouse=True)
def _seed():
    # torch.manual_seed would keep a trace of the stack, for good, for each kind of device that is not there.
    torch.default_generator.manual_seed(0)
