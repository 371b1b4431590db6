"""What `crdtmerge inspect` says of the study's contributions.

Owns asking for it, scenario by scenario, as if all lay in one space. Does not own what is
found, nor from where on (`crdtmerge.scrutiny`).
"""

from collections.abc import Iterator, Sequence
from typing import Any, TypeAlias

from benchmarks.quality.merging import Bench
from crdtmerge.scrutiny.judging import report_of
from crdtmerge.scrutiny.measuring import measure
from crdtmerge.scrutiny.subjects import company_of, subject_of
from nodes.demo.training import Weights

Told: TypeAlias = dict[str, Any]


def inspections(bench: Bench, models: Sequence[Weights]) -> Iterator[list[Told]]:
    """Yield the findings of each model, in the order in which they are given."""
    manifests = [bench.manifest(model) for model in models]
    subjects = [subject_of(manifest, bench.base) for manifest in manifests]
    company = company_of(bench.base, subjects)
    measured = measure(company, range(len(company.subjects)), bench.memory)
    for manifest in manifests:
        report = report_of(measured, company.place(manifest.content_id))
        yield [
            {"finding": finding.name, "severity": finding.severity}
            for finding in report.findings
        ]
