"""The command line: as a process of its own, or, much faster, in this one."""

import contextlib
import subprocess
import sys

from typer.testing import CliRunner

from tempscale.cli.app import app


def run(*arguments, cwd=None):
    """Run a command as a user's shell does."""
    command = [sys.executable, "-c", "from tempscale.cli.app import app; app()", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=cwd, timeout=600)


def invoke(*arguments, cwd="."):
    """Run a command in this process; what went wrong without a message is raised."""
    with contextlib.chdir(cwd):
        found = CliRunner().invoke(app, list(map(str, arguments)))
    if found.exception is not None and not isinstance(found.exception, SystemExit):
        raise found.exception
    return subprocess.CompletedProcess(arguments, found.exit_code, found.stdout, found.stderr)
