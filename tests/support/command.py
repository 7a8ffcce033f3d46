"""The command line: as a process of its own, or, much faster, in this one."""

import contextlib
import subprocess

from typer.testing import CliRunner

from support.process import run_program
from tempscale.cli.app import app


def run(*arguments, cwd=None):
    """Run a command as a process of its own, which has the libraries already."""
    return run_program("from tempscale.cli.app import app; app()", *arguments, cwd=cwd)


def invoke(*arguments, cwd="."):
    """Run a command in this process; what went wrong without a message is raised."""
    with contextlib.chdir(cwd):
        found = CliRunner().invoke(app, list(map(str, arguments)))
    if found.exception is not None and not isinstance(found.exception, SystemExit):
        raise found.exception
    return subprocess.CompletedProcess(arguments, found.exit_code, found.stdout, found.stderr)
