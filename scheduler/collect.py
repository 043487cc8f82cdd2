"""Writes the results of a batch whose runs have all ended: page by page, in the order of its lines.

Lines that were never begun, because the batch ended before, come last and say why.
"""

import time
from dataclasses import dataclass

import structlog

from ledger import feeding, files
from ledger.feeding import OpenBatch, Result
from ledger.session import Ledger
from ledger.states import BatchStatus
from workers.line import name_of
from workers.result import result_of, result_of_none

PAGE, PAGE_BYTES = 500, 4 * 2**20
_log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Collector:
    """`kept_s`: seconds that the files are kept. A visit takes `at_most` seconds; the next one goes on."""

    ledger: Ledger
    kept_s: float
    at_most: float = 0.2  # so that a turn with many batches is not longer than its transaction may be silent

    def collect(self, batch: OpenBatch) -> None:
        """Write on, or end the batch when all is written."""
        if not batch.has_files:
            feeding.begin_files(self.ledger, batch.id)
        ends_as = batch.ends_as or BatchStatus.COMPLETED
        end, written = time.monotonic() + self.at_most, batch.written
        while page := self._page(batch, ends_as, written):
            if not feeding.write(self.ledger, batch.id, written, page):
                return
            written = page[-1].number
            if time.monotonic() >= end:
                return
        status = feeding.finish(self.ledger, batch.id, kept_s=self.kept_s)
        if status is not None:
            _log.info("batch.ended", batch=str(batch.id), status=status)

    def _page(self, batch: OpenBatch, ends_as: BatchStatus, after: int) -> list[Result]:
        if after < batch.fed:
            ended = feeding.ends(self.ledger, batch.id, after=after, limit=PAGE, size=PAGE_BYTES)
            return [result_of(batch.id, batch.endpoint, ends_as, one) for one in ended]
        rest = files.page(self.ledger, batch.file_id, after=after, limit=PAGE, size=PAGE_BYTES)
        return [result_of_none(batch.id, ends_as, one.number, name_of(one)) for one in rest]
