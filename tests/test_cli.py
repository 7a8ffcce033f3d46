"""The command line, as a user calls it."""

import subprocess
import sys
from importlib.metadata import version

import tempscale

COMMAND = [sys.executable, "-c", "from tempscale.cli import app; app()"]


def run(*arguments):
    return subprocess.run([*COMMAND, *arguments], capture_output=True, text=True, check=False)


def test_version():
    result = run("--version")
    assert result.returncode == 0
    lines = dict(line.split() for line in result.stdout.splitlines())
    assert lines["tempscale"] == tempscale.__version__ == version("tempscale")
    assert lines.keys() == {"tempscale", "torch", "transformers", "sentence-transformers"}


def test_wrong_arguments_exit_with_2_and_no_traceback():
    result = run("no-such-command")
    assert result.returncode == 2
    assert result.stdout == ""
    assert "Traceback" not in result.stderr
