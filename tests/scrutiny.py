"""Companies of contributions for tests of scrutiny: from arrays to reports.

Owns making manifests and blobs of arrays. The blobs lie in a dict, verified when read.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from crdtmerge.digest import ContentId
from crdtmerge.manifest import Manifest, TensorEntry
from crdtmerge.resolve.memo import Memo
from crdtmerge.scrutiny.findings import Report
from crdtmerge.scrutiny.judging import reports_of
from crdtmerge.scrutiny.measuring import Bounds, Measured, measure
from crdtmerge.scrutiny.subjects import company_of, subject_of
from tests.models import Blobs

Arrays = Mapping[str, NDArray[Any]]
DTYPES = {"float32": "F32", "float64": "F64", "float16": "F16", "int64": "I64"}


def manifest_of(
    arrays: Arrays, blobs: Blobs, kind: str = "base", base: bytes = b""
) -> Manifest:
    """Keep arrays and return their manifest."""
    entries = [
        TensorEntry(
            name,
            DTYPES[value.dtype.name],
            value.shape,
            blobs.put(np.ascontiguousarray(value).tobytes()),
        )
        for name, value in sorted(arrays.items())
    ]
    return Manifest(kind, base, tuple(entries))


@dataclass
class Group:
    """A base and fine-tunes of it, in the order in which they were given."""

    base: Manifest
    tunes: list[Manifest]
    blobs: Blobs

    @classmethod
    def of(cls, base: Arrays, tunes: Sequence[Arrays]) -> "Group":
        """Keep all of them."""
        blobs = Blobs()
        ground = manifest_of(base, blobs)
        made = [manifest_of(t, blobs, "full", ground.content_id) for t in tunes]
        return cls(ground, made, blobs)

    def content(self, place: int) -> ContentId:
        """Return what one of them is called."""
        return self.tunes[place].content_id

    def measure(
        self, memo: Memo | None = None, bounds: Bounds | None = None
    ) -> Measured:
        """Measure all."""
        company = company_of(self.base, [subject_of(t, self.base) for t in self.tunes])
        asked = range(len(company.subjects))
        return measure(company, asked, self.blobs, memo, bounds)

    def reports(self, measured: Measured | None = None) -> list[Report]:
        """Return the reports, in the order in which the fine-tunes were given."""
        found = measured or self.measure()
        places = [found.company.place(tune.content_id) for tune in self.tunes]
        return reports_of(found, places)


def names(report: Report) -> list[str]:
    """Return what was found."""
    return [finding.name for finding in report.findings]
