"""The book's local Sphinx extension.

Addresses, assets, the execution cache, roles, the claims ledger and its map; explorers, quiet cells, figures and tables.
"""

import gc
import os
import platform
from importlib.metadata import version
from pathlib import Path
from typing import Any

import api_reference
import appendix_numbers
import argument_map
import bibliography_roles
import execution_cache
import execution_table
import explorers
import figures
import late
import local_assets
import measured
import parallel_execution
import quiet
import reading_time
import tables
import typography
import unused
from claims import ClaimsDirective, SummaryDirective
from repository import address, install
from sphinx.application import ENV_PICKLE_FILENAME, Sphinx
from sphinx.config import Config
from verified import VerifiedRole, marks

REPORTED = (
    "tempscale",
    "torch",
    "transformers",
    "sentence-transformers",
    "numpy",
    "scipy",
    "matplotlib",
    "jupyter-book",
)


def use_repository(app: Sphinx, config: Config) -> None:
    """Give the theme's buttons the repository's address."""
    config.html_theme_options["repository_url"] = address()


def substitute(app: Sphinx, config: Config) -> None:
    """Offer the versions that matter as the substitution `versions`, and the command that installs as `install`."""
    lines = ["| package | version |", "|---|---|", f"| Python | {platform.python_version()} |"]
    lines += [f"| {name} | {version(name)} |" for name in REPORTED]
    lines += [f"| processor | {platform.machine()}, {os.cpu_count()} cores |"]
    config.myst_substitutions = {**config.myst_substitutions, "versions": "\n".join(lines), "install": install()}


def forget_failed_build(app: Sphinx, exception: Exception | None) -> None:
    """After warnings, which fail the build, make the next one read every page again.

    Sphinx would take the pages as read, say nothing of their warnings, and succeed.
    """
    if app._warncount:
        (Path(app.doctreedir) / ENV_PICKLE_FILENAME).unlink(missing_ok=True)


def setup(app: Sphinx) -> dict[str, Any]:
    """Connect the parts; called by Sphinx."""
    # A build makes millions of nodes that live as long as it: to look for garbage among them takes half its time.
    gc.disable()
    app.connect("config-inited", use_repository)
    app.connect("config-inited", substitute)
    app.connect("config-inited", execution_cache.use_keyed_cache)
    app.connect("builder-inited", parallel_execution.use_own_profile)
    app.connect("env-before-read-docs", parallel_execution.execute_changed)
    app.connect("doctree-read", parallel_execution.keep_outputs)
    app.connect("config-inited", local_assets.use_local_mathjax)
    app.connect("config-inited", local_assets.remove_thebe)
    app.connect("builder-inited", local_assets.copy_mathjax)
    # after every extension has added its own
    app.connect("html-page-context", local_assets.drop_remote_assets, priority=900)
    app.connect("html-page-context", local_assets.drop_idle_mathjax, priority=900)
    api_reference.register(app)
    appendix_numbers.register(app)
    bibliography_roles.register(app)
    explorers.register(app)
    figures.register(app)
    quiet.register(app)
    tables.register(app)
    typography.register(app)
    unused.register(app)
    app.connect("build-finished", forget_failed_build)
    app.add_role("verified", VerifiedRole())
    app.add_directive("claims", ClaimsDirective)
    app.add_directive("claims-summary", SummaryDirective)
    argument_map.register(app)
    late.register(app)
    late.add_block(app, "executed", execution_table.table)
    late.add(app, "marks", marks)
    late.add(app, "measured", measured.fill)
    late.add(app, "minutes", reading_time.minutes)
    late.add(app, "runtime", reading_time.runtime)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
