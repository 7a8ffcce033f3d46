"""Jobs are run, and their results go to the store, whoever runs them."""

from collections.abc import Sequence
from pathlib import Path

from tempscale.evaluation.mteb_files import write_mteb_file
from tempscale.evaluation.plan import Job, Session
from tempscale.evaluation.progress import ProgressReport
from tempscale.evaluation.run_unit import run_unit
from tempscale.evaluation.store import Item, Measured, Store


class ResultSink:
    """Writes finished units and reports progress, for both runners.

    Attributes:
        failures: what went wrong, by the name of the task.
    """

    def __init__(self, store: Store, out: str | Path, report: ProgressReport) -> None:
        self.report = report
        self.failures: dict[str, str] = {}
        self._store, self._out = store, out

    def wanted(self, job: Job) -> bool:
        """Whether a job is still to be run: another process may have done it, or its task may have failed."""
        if job.part.name not in self.failures and not self._store.finished(job.unit):
            return True
        self.report.advance(job.unit)
        return False

    def finish(self, job: Job, measured: Measured, items: Sequence[Item]) -> None:
        """Keep what came out."""
        self._store.add(job.unit, measured, items)
        self.write_mteb_file(job)
        self.report.done(job.unit, measured)

    def fail(self, job: Job, error: Exception) -> None:
        """Give a task up, and go on with the others."""
        self.failures[job.part.name] = str(error)
        self.report.say(f"{job.part.name}: failed, going on with the rest")
        self.report.advance(job.unit)

    def write_mteb_file(self, job: Job) -> None:
        """Write the finished parts of a job's task at its temperature as mteb does."""
        write_mteb_file(self._out, job.part, job.unit, self._store.parts(job.unit))


def run_here(session: Session, jobs: Sequence[Job], sink: ResultSink) -> None:
    """Run jobs one after the other, in this process."""
    encoder = session.encoder

    def progress(share: float) -> None:
        # Most tasks encode twice: queries and documents, two sides of pairs, training and test.
        calls = len(encoder.work.requests)
        sink.report.share((calls - 1 + share) / max(2, calls))

    encoder.progress = progress
    for job in jobs:
        if not sink.wanted(job):
            continue
        sink.report.start(job.unit)
        try:
            measured, items = run_unit(session, job)
        except (OSError, ValueError) as error:
            sink.fail(job, error)
        else:
            sink.finish(job, measured, items)
    total = encoder.total_work
    if total.tokens_padded:
        padding = 1 - total.tokens_read / total.tokens_padded
        sink.report.say(f"The model read {total.tokens_read} tokens in batches of which {padding:.1%} was padding")
