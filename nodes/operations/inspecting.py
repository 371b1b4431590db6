"""The verb `inspect`: what stands out of a contribution, beside its base and the others.

Owns who is looked at, what is left out and said to be, and the shape of the answer.
Does not own figures and findings (`crdtmerge.scrutiny`), nor the words of one
(`finding_words`). It changes nothing and decides nothing; figures are kept in the
home's memo.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Final

from crdtmerge.bodies import SpaceId
from crdtmerge.digest import ContentId
from crdtmerge.errors import (
    BadInputError,
    ContentMissingError,
    CrdtMergeError,
    FaultyContributionError,
    NothingToResolveError,
)
from crdtmerge.manifest import Manifest
from crdtmerge.policy import Visible
from crdtmerge.scrutiny.findings import Finding, Report
from crdtmerge.scrutiny.judging import reports_of
from crdtmerge.scrutiny.measuring import OTHERS_MIN, Bounds, Measured, measure
from crdtmerge.scrutiny.spectra import has_spectrum
from crdtmerge.scrutiny.standing import Standing, counted_of
from crdtmerge.scrutiny.subjects import Company, Subject, company_of, subject_of

from ..store.memo import HomeMemo
from . import arguments as given
from .contents import base_manifest
from .finding_words import advice, meaning, sentence
from .live import Answer, Arguments, Context, Tell, telling
from .making import memory_of, threads_of, workers
from .selection import SHORT, choose_space, find_contribution

COMPANY_MAX: Final = 64
"""Contributions that are compared at once; of more, the first by content id."""

INGEST_BYTES: Final = 256 << 20
"""Bytes that `contribute` reads to inspect: tensors from all parts of the model."""

CLEAN: Final = (
    "no finding is no proof of good: a model can look like the others and still carry"
    " something, and several that look clean may merge into a backdoor"
)
FEW: Final = (
    "with so few contributions nobody can be told to stand out: distance and direction are"
    " judged from three on"
)
_ORDER: Final = ("clear", "notice", "warning")
UNPAIRED: Final = "not all pairs of matrices were inspected for what hides between them"
ALONE: Final = "`crdtmerge inspect` looks at everything, and again as others come"


NOT_ONE_DIRECTION: Final = (
    "adapters are looked at through their task vectors; how much of one lies in one"
    " direction is not judged, for that is what adapters are"
)


@dataclass(slots=True)
class _Looked:
    """Who is looked at, who is not and why, and what of the base they are of."""

    base: Manifest
    manifests: dict[ContentId, Manifest] = field(default_factory=dict)
    subjects: list[Subject] = field(default_factory=list)
    left_out: dict[ContentId, str] = field(default_factory=dict)


def inspect(context: Context, asked: Arguments, tell: Tell) -> Answer:
    """Measure contributions beside their base and each other, and tell what stands out.

    Of one contribution if an `id` is given, else of all that are visible.

    Raises:
        NotFoundError: no visible contribution has such an id.
        ContentMissingError: bytes of the one that is asked about have not arrived.
        FaultyContributionError: it does not fit the base.
        NothingToResolveError: no contribution is visible.
    """
    identity = given.optional_text(asked, "id")
    where = given.optional_text(asked, "space")
    if identity is None:
        space, one = choose_space(context.spaces, where), None
    else:
        named = find_contribution(context.spaces, identity, where)
        space, one = named.space, ContentId(named.id)
    threads, memory = threads_of(asked), memory_of(asked)
    with workers(threads) as executor:
        bounds = Bounds(None, memory, executor, threads, telling(tell))
        answer: Answer = _inspected(context, space, one, bounds)
        return answer


def remarks_of(
    context: Context, space: SpaceId, content: ContentId, tell: Tell
) -> list[str]:
    """Return what stands out of a contribution that was just made, as notes.

    A part of a large model is read, and whatever goes wrong is a note as well: that a
    model may be contributed is for the rules alone.
    """
    bounds = Bounds(INGEST_BYTES, report=telling(tell))
    try:
        answer = _inspected(context, space, content, bounds)
    except CrdtMergeError as e:
        return [f"it was not inspected: {e}"]
    (report,) = answer["reports"]
    found = [
        f"inspect, {finding['severity']}: {finding['text']}"
        for finding in report["findings"]
    ]
    tensors = answer["tensors"]
    if tensors["looked_at"] < tensors["all"]:
        part = f"{tensors['looked_at']} of {tensors['all']} tensors were inspected"
        found.append(f"{part}; {ALONE}")
    elif UNPAIRED in answer["notes"]:
        found.append(f"{UNPAIRED}; {ALONE}")
    elif found:
        found.append(f"`crdtmerge inspect {content.hex()[:SHORT]}` says more")
    return found


def _inspected(
    context: Context, space: SpaceId, one: ContentId | None, bounds: Bounds
) -> Any:
    """Return the answer; what is read is leased, and stays even if it is removed."""
    with context.home.blobs.leases.hold() as lease:
        looked = _company(context, space, one)
        for manifest in (looked.base, *looked.manifests.values()):
            lease.add(manifest.blobs())
        company = company_of(looked.base, looked.subjects)
        places = range(len(company.subjects))
        chosen = places if one is None else [company.place(one)]
        memo = HomeMemo(context.home.path)
        measured = measure(company, chosen, context.home.blobs, memo, bounds)
    reports = reports_of(measured, chosen)
    return {
        "space": space.hex(),
        "base": looked.base.content_id.hex(),
        "reports": [_told(report) for report in reports],
        "compared": [subject.content.hex() for subject in company.subjects],
        "left_out": [
            {"content": content.hex(), "reason": reason}
            for content, reason in sorted(looked.left_out.items())
        ],
        "tensors": _tensors(measured),
        "read_bytes": measured.read,
        "notes": _notes(company, measured, chosen),
    }


def _company(context: Context, space: SpaceId, one: ContentId | None) -> _Looked:
    """Return who can be looked at: visible, here, and fit for the base."""
    looked = _Looked(base_manifest(context, space))
    visible = context.spaces.view(space).visible
    if not visible:
        raise NothingToResolveError("the space has no visible contribution to inspect")
    for item in sorted(visible, key=lambda v: (v.content != one, v.content)):
        if len(looked.subjects) == COMPANY_MAX:
            looked.left_out[item.content] = f"more than {COMPANY_MAX} are not compared"
            continue
        try:
            _take(context, item, looked)
        except (ContentMissingError, FaultyContributionError) as e:
            if item.content == one:
                raise
            looked.left_out[item.content] = str(e)
    return looked


def _take(context: Context, item: Visible, looked: _Looked) -> None:
    """Let a contribution be looked at.

    Raises:
        ContentMissingError: its manifest, or some of its tensors, have not arrived.
        FaultyContributionError: it does not fit the base.
    """
    manifest = context.spaces.manifest(item)
    sizes = {entry.blob: entry.size for entry in manifest.tensors}
    if missing := context.home.blobs.missing(sizes):
        amount = sum(sizes[blob] for blob in missing)
        raise ContentMissingError(
            f"{len(missing)} of its tensors ({amount} bytes) have not arrived",
            hint="`crdtmerge fetch` brings them",
        )
    try:
        subject = subject_of(manifest, looked.base)
    except BadInputError as e:
        raise FaultyContributionError(item.content, str(e)) from e
    looked.manifests[item.content] = manifest
    looked.subjects.append(subject)


def _told(report: Report) -> Answer:
    severities = {finding.severity for finding in report.findings}
    nearest = report.nearest
    return {
        "content": report.content.hex(),
        "verdict": max(severities, default="clear", key=_ORDER.index),
        **_standing(report.standing),
        "concentration": _number(report.concentration),
        "nearest": nearest
        and {
            "content": nearest.content.hex(),
            "cosine": _number(nearest.cosine),
            "factor": _number(nearest.factor),
        },
        "layers": [
            {"layer": name, **_standing(standing)}
            for name, standing in report.layers.items()
        ],
        "findings": [_finding(finding) for finding in report.findings],
    }


def _standing(standing: Standing) -> Answer:
    return {
        "relative": _number(standing.relative),
        "ratio": _number(standing.ratio),
        "score": _number(standing.score),
        "agreement": _number(standing.agreement),
        "typical": _number(standing.typical),
    }


def _finding(finding: Finding) -> Answer:
    return {
        "finding": finding.name,
        "severity": finding.severity,
        "text": sentence(finding),
        "meaning": meaning(finding.name),
        "advice": advice(finding.name),
        "against": finding.against.hex() if finding.against else None,
        "where": list(finding.where),
        "figures": {name: _number(value) for name, value in finding.figures.items()},
    }


def _number(value: float | None) -> float | None:
    """Return a figure to six digits; what is none, or beyond all bounds, is null."""
    if value is None or not math.isfinite(value):
        return None
    return float(f"{value:.6g}")


def _tensors(measured: Measured) -> Answer:
    """Return how many tensors there are, were looked at, and were not in which way."""
    company, places = measured.company, measured.looked_at
    seen = [company.tensors[place] for place in places]
    large = [e.name for e in seen if len(e.shape) > 1 and not has_spectrum(e)]
    return {
        "all": len(company.tensors),
        "looked_at": len(seen),
        "no_spectrum": large,
        "whole_numbers": len(company.base.tensors) - len(company.tensors),
    }


def _notes(company: Company, measured: Measured, chosen: Iterable[int]) -> list[str]:
    notes = []
    if len(counted_of(measured)) <= OTHERS_MIN:
        notes.append(FEW)
    if measured.unpaired:
        notes.append(UNPAIRED)
    if any(company.subjects[place].kind == "lora" for place in chosen):
        notes.append(NOT_ONE_DIRECTION)
    return [*notes, CLEAN]
