"""`python -m benchmarks inspect`: rates of finding, and of false alarms.

Owns the command line and the table. An honest group is inspected as it is; then, where it
has enough members that know all, its last one is attacked and the group inspected again.
"""

import argparse
import json
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

import numpy as np
import torch

from benchmarks.inspecting.attacks import ATTACKS, Given
from benchmarks.inspecting.groups import Honest, groups
from crdtmerge.digest import BlobId, blob_id_of
from crdtmerge.manifest import Manifest, TensorEntry
from crdtmerge.resolve.memo import Known, Measures
from crdtmerge.scrutiny.findings import Report
from crdtmerge.scrutiny.judging import reports_of
from crdtmerge.scrutiny.measuring import Bounds, measure
from crdtmerge.scrutiny.subjects import company_of, subject_of
from nodes.demo.training import Weights

ATTACKED: Final = 5
"""Members of a group that an attack is made among."""


@dataclass
class _Kept:
    """Figures of a group, so that an attack on one member costs its own alone."""

    rows: dict[bytes, Measures] = field(default_factory=dict)

    def outputs(self, _keys: Iterable[bytes]) -> Mapping[bytes, Sequence[Known]]:
        return {}

    def measures(self, keys: Iterable[bytes]) -> Mapping[bytes, Measures]:
        return {key: self.rows[key] for key in keys if key in self.rows}

    def keep(
        self,
        outputs: Mapping[bytes, Known],  # noqa: ARG002  the protocol's
        measures: Mapping[bytes, Measures],
    ) -> None:
        self.rows.update(measures)


@dataclass
class _Blobs:
    held: dict[BlobId, bytes] = field(default_factory=dict)

    def read(self, blob: BlobId, size: int) -> bytes:
        assert len(self.held[blob]) == size
        return self.held[blob]

    def manifest(self, weights: Weights, base: Manifest | None = None) -> Manifest:
        entries = []
        for name, value in sorted(weights.items()):
            data = value.numpy().astype(np.float32).tobytes()
            blob = blob_id_of(data)
            self.held[blob] = data
            entries.append(TensorEntry(name, "F32", tuple(value.shape), blob))
        kind, of = ("base", b"") if base is None else ("full", base.content_id)
        return Manifest(kind, of, tuple(entries))


def main(argv: Sequence[str]) -> int:
    """Measure, and print a row of JSON for each group and attack, then the rates."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks inspect")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--minilm", action="store_true")
    parser.add_argument("--only", help="one family: cnn, transformer, mlp, minilm")
    parser.add_argument("--models", type=Path, help="where trained models are kept")
    options = parser.parse_args(argv)
    torch.set_num_threads(1)
    with TemporaryDirectory() as scratch:
        folder = options.models or Path(scratch)
        rows = []
        for group in groups(options.seeds, folder, with_minilm=options.minilm):
            if options.only not in {None, group.family}:
                continue
            for row in _rows(group):
                rows.append(row)
                print(json.dumps(row), file=sys.stderr, flush=True)
    for line in rates(rows):
        print(line)
    return 0


def _rows(group: Honest) -> Iterator[dict[str, Any]]:
    head = {"family": group.family, "kind": group.kind, "seed": group.seed}
    start = time.process_time()
    memo = _Kept()
    reports = _reports(group.base, group.tunes, memo)
    found = [_names(report) for report in reports]
    took = round(time.process_time() - start, 2)
    yield {**head, "models": len(found), "found": found, "cpu_s": took}
    if group.kind != "contributors":
        return
    members = list(group.tunes[:ATTACKED])
    for attack in ATTACKS:
        generator = torch.Generator().manual_seed(group.seed)
        given = Given(group.base, members[-1], members[0], generator)
        weights = attack.make(given)
        if weights is None:
            continue
        reports = _reports(group.base, [*members[:-1], weights], memo)
        found = [_names(report) for report in reports]
        copied = attack.found_as == "copy"
        yield {
            **head,
            "attack": attack.name,
            "hit": attack.found_as in found[-1],
            "any": bool(found[-1]),
            "found": found[-1],
            "honest": len(found) - 1 - copied,
            "alarms": sum(map(bool, found[1:-1] if copied else found[:-1])),
        }


def _reports(base: Weights, tunes: Sequence[Weights], memo: _Kept) -> list[Report]:
    blobs = _Blobs()
    ground = blobs.manifest(base)
    made = [blobs.manifest(tune, ground) for tune in tunes]
    company = company_of(ground, [subject_of(manifest, ground) for manifest in made])
    asked = range(len(company.subjects))
    measured = measure(company, asked, blobs, memo, Bounds())
    return reports_of(measured, [company.place(m.content_id) for m in made])


def _names(report: Report) -> list[str]:
    return sorted({finding.name for finding in report.findings})


def rates(rows: Sequence[dict[str, Any]]) -> Iterator[str]:
    """Yield the rates as lines of two tables."""
    yield "| honest groups | groups | models | with a finding | which |"
    yield "| --- | ---: | ---: | ---: | --- |"
    honest = [row for row in rows if "attack" not in row]
    for key in dict.fromkeys((row["family"], row["kind"]) for row in honest):
        own = [row for row in honest if (row["family"], row["kind"]) == key]
        found = [names for row in own for names in row["found"]]
        said = ", ".join(sorted({name for names in found for name in names})) or "-"
        count = sum(map(bool, found))
        yield f"| {key[0]}, {key[1]} | {len(own)} | {len(found)} | {count} | {said} |"
    yield ""
    yield "| attack | as | found | anything found | honest beside it with a finding |"
    yield "| --- | --- | ---: | ---: | ---: |"
    for attack in ATTACKS:
        own = [row for row in rows if row.get("attack") == attack.name]
        if own:
            hits, anything = (sum(row[key] for row in own) for key in ("hit", "any"))
            alarms, honest_ones = (sum(r[k] for r in own) for k in ("alarms", "honest"))
            yield (
                f"| {attack.name} | {attack.found_as} | {hits} of {len(own)} |"
                f" {anything} of {len(own)} | {alarms} of {honest_ones} |"
            )
