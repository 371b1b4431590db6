"""What stands out of contributions, as people read it.

Owns the lines. Does not own the facts (`operations.inspecting`), nor the sentences.
"""

from collections.abc import Sequence
from typing import Final, cast

from .output import plain, short, table
from .render import Facts, counted, several, size

WHERE_SHOWN: Final = 3


def inspected(facts: Facts) -> list[str]:
    """Return the lines of `inspect`."""
    reports = several(facts["reports"])
    tensors = cast("Facts", facts["tensors"])
    compared = len(cast("Sequence[str]", facts["compared"]))
    head = (
        f"{counted(len(reports), 'contribution')} inspected among {compared}:"
        f" {tensors['looked_at']} of {counted(tensors['all'], 'tensor')},"
        f" {size(facts['read_bytes'])} read"
    )
    lines = [head, ""]
    lines += table(
        ("CONTRIBUTION", "VERDICT", "DISTANCE", "RATIO", "AGREES", "NEAREST", "FIRST"),
        [_row(report) for report in reports],
    )
    for report in reports:
        found = several(report["findings"])
        if found:
            lines += ["", f"contribution {short(report['content'])}"]
            for finding in found:
                lines += _finding(finding)
    return [*lines, *_left_out(facts)]


def _row(report: Facts) -> tuple[str, ...]:
    found = several(report["findings"])
    verdict = str(report["verdict"])
    verdict += f" ({len(found)})" if found else ""
    return (
        short(report["content"]),
        verdict,
        _number(report["relative"], ".4f"),
        _number(report["ratio"], ".2f"),
        _number(report["agreement"], "+.2f"),
        _nearest(report["nearest"]),
        _number(report["concentration"], ".2f"),
    )


def _nearest(value: object) -> str:
    if value is None:
        return "-"
    nearest = cast("Facts", value)
    return f"{short(nearest['content'])} {_number(nearest['cosine'], '+.3f')}"


def _number(value: object, form: str) -> str:
    return "-" if value is None else format(cast("float", value), form)


def _finding(finding: Facts) -> list[str]:
    where = cast("Sequence[str]", finding["where"])
    lines = [f"  {finding['severity']}: {finding['finding']}: {plain(finding['text'])}"]
    if where:
        listed = ", ".join(map(plain, where[:WHERE_SHOWN]))
        more = len(where) - WHERE_SHOWN
        lines.append(f"    where    {listed}{f' and {more} more' if more > 0 else ''}")
    lines.append(f"    means    {plain(finding['meaning'])}")
    lines.append(f"    do       {plain(finding['advice'])}")
    return lines


def _left_out(facts: Facts) -> list[str]:
    """Return who and what was not looked at."""
    left_out = several(facts["left_out"])
    tensors = cast("Facts", facts["tensors"])
    lines = [
        f"not looked at: {short(item['content'])}: {plain(item['reason'])}"
        for item in left_out
    ]
    large = cast("Sequence[str]", tensors["no_spectrum"])
    if large:
        listed = ", ".join(map(plain, large[:WHERE_SHOWN]))
        more = len(large) - WHERE_SHOWN
        listed += f" and {more} more" if more > 0 else ""
        lines.append(f"too large or too small for their directions: {listed}")
    return ["", *lines] if lines else []
