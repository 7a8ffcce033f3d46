"""Every command that a chapter shows can be typed as it stands: its options exist and take what they are given."""

import re
import shlex
from pathlib import Path

import pytest
import typer
from repository import ROOT

from tempscale.cli.app import app

BLOCK = re.compile(r"^```bash\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def commands():
    """Return (file, arguments) of each `tempscale ...` in the shell blocks of the README and the chapters."""
    found = []
    for path in [ROOT / "README.md", *sorted((ROOT / "book").glob("*.md"))]:
        for block in BLOCK.findall(path.read_text("utf-8")):
            for line in block.replace("\\\n", " ").splitlines():
                words = shlex.split(line, comments=True)
                if words[:1] == ["tempscale"]:
                    found.append((path.name, words[1:]))
    return found


def parse(arguments):
    """Parse a command line without running it; raise what click raises."""
    command = typer.main.get_command(app).commands[arguments[0]]
    with command.make_context(arguments[0], arguments[1:]) as context:
        return context.params


@pytest.mark.parametrize(("name", "arguments"), [pytest.param(*one, id=" ".join(one[1])[:60]) for one in commands()])
def test_the_commands_of_the_chapters_can_be_typed(name, arguments):
    assert parse(arguments), f"{name}: no parameters"


def test_the_test_can_fail_and_finds_the_commands():
    assert {"evaluate", "compare"} <= {arguments[0] for _, arguments in commands()}
    assert "README.md" in {name for name, _ in commands()}
    with pytest.raises(Exception, match="No such option"):
        parse(["compare", str(Path.cwd()), "--no-such-option"])
