"""What a package index needs: the metadata, and a description that stands by itself."""

from pathlib import Path

import pytest
from hatchling.metadata.core import ProjectMetadata
from hatchling.plugin.manager import PluginManager
from trove_classifiers import classifiers

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def core():
    return ProjectMetadata(str(ROOT), PluginManager()).core


def test_classifiers_exist(core):
    assert set(core.classifiers) <= set(classifiers)
    assert not [name for name in core.classifiers if name.startswith("License ::")], "the licence is an SPDX expression"


def test_the_licence_is_named_and_carried(core):
    assert core.license_expression == "MIT"
    assert core.license_files == ["LICENSE"]


def test_the_addresses_agree(core):
    """The repository's address is written several times in one table; the book's is on the pages of its owner."""
    urls = dict(core.urls)
    assert urls["Issues"].startswith(urls["Repository"])
    assert urls["Changelog"].startswith(urls["Repository"])
    owner, name = urls["Repository"].removeprefix("https://github.com/").split("/")
    assert urls["Documentation"] == f"https://{owner}.github.io/{name}"


def test_the_description_is_the_readme(core):
    assert core.readme_content_type == "text/markdown"
    assert core.readme == (ROOT / "README.md").read_text("utf-8")
    assert len(core.description) < 140, "an index shows one line"
