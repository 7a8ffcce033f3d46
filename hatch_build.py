"""The wheel carries the measured results, so that a chapter's notebook by itself needs no repository."""

import tempfile
import zipfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class ResultsHook(BuildHookInterface):
    """Put the tables of book/results into the wheel as tempscale/results.zip; an editable install reads them in place."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Write the archive; called by hatchling before it collects the wheel's files."""
        if version == "editable":
            return
        folder = Path(self.root, "book", "results")
        tables = sorted(folder.rglob("*.csv"))
        if not tables:
            raise FileNotFoundError(f"no tables in {folder}: build from the repository or from the sdist")
        self.temporary = tempfile.TemporaryDirectory()
        archive = Path(self.temporary.name, "results.zip")
        with zipfile.ZipFile(archive, "w", zipfile.ZIP_BZIP2, compresslevel=9) as file:
            for table in tables:
                # without the time of the file: the same tables give the same wheel
                entry = zipfile.ZipInfo(table.relative_to(folder).as_posix())
                file.writestr(entry, table.read_bytes(), zipfile.ZIP_BZIP2)
        build_data["force_include"][str(archive)] = "tempscale/results.zip"

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        """Remove the archive; called when the wheel is written."""
        if version != "editable":
            self.temporary.cleanup()
