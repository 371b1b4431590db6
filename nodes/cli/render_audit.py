"""Who attests what, and what an audit found, as people read it.

Owns the words. Does not own the facts (`operations.agreeing`, `operations.auditing`).
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import cast

from .output import plain, short
from .render import Facts, counted, several, size

_NAMES_SHOWN = 3


def agreement(facts: Facts) -> Iterator[str]:
    """Yield the lines of `status` about attestations; none if nobody attests anything."""
    nodes = several(facts["nodes"])
    if not nodes:
        return
    same, differ = cast("int", facts["agree"]), cast("int", facts["differ"])
    of = same + differ
    if of:
        differs = (
            f"; {differ} {'differs' if differ == 1 else 'differ'}" if differ else ""
        )
        nodes_of = counted(of, "node")
        attest = "attests" if same == 1 else "attest"
        yield f"  attested      {same} of {nodes_of} {attest} the same model{differs}"
    else:
        yield "  attested      no node attests the present state yet"
    for node in nodes:
        if node["verdict"] == "differs":
            yield from _differing(node)
    others = cast("int", facts["other_states"])
    if others:
        yield f"                {counted(others, 'node')} resolved another state last"
    contracts = cast("int", facts["other_contracts"])
    if contracts:
        text = "under another numeric contract: no mismatch"
        yield f"                {counted(contracts, 'node')} {text}"


def _differing(node: Facts) -> Iterator[str]:
    name, where = short(node["node"]), plain(node["platform"])
    yield f"                {name} ({where}) differs{_on(node)}"
    yield f"                `crdtmerge audit --peer {name}` recomputes who is right"


def _on(node: Facts) -> str:
    if node["tensors_differing"] is None:
        return ""
    names = cast("Sequence[str]", node["tensors"])
    count = cast("int", node["tensors_differing"])
    shown = ", ".join(plain(name) for name in names[:_NAMES_SHOWN])
    more = f" and {count - _NAMES_SHOWN} more" if count > _NAMES_SHOWN else ""
    return f" on {counted(count, 'tensor')}: {shown}{more}"


def audited(facts: Facts) -> list[str]:
    """Return the lines of `audit`."""
    what = facts["dir"] or f"what node {short(facts['peer'])} attests"
    checked = f"{facts['checked']} of {counted(facts['tensors'], 'tensor')}"
    amount = f"{size(facts['checked_bytes'])} of {size(facts['bytes'])}"
    lines = [
        f"{plain(what)}: {checked} computed again ({amount}), seed {facts['seed']}",
        f"  model digest  {facts['model_digest']}",
        f"  merge id      {short(facts['merge_id'])}",
    ]
    wrong = cast("int", facts["wrong_tensors"])
    if wrong:
        return [*lines, *_wrong(facts, wrong)]
    if facts["peer"] and facts["compared_with_ours"]:
        lines.append("  this home attests the same")
    if facts["checked"] == facts["tensors"]:
        return [*lines, "  all of it has the bytes that the contributions make"]
    have = "it has" if facts["checked"] == 1 else "they have"
    return [
        *lines,
        f"  {have} the bytes that the contributions make",
        f"  a choice of so many misses {_missed(facts)}",
    ]


def _missed(facts: Facts) -> str:
    """Return how likely a wrong tensor, and a few of them, are not among the chosen."""
    missed = cast("Mapping[str, float]", facts["missed"])
    words = f"a single wrong tensor {_chance(missed['one_tensor'])}"
    if cast("int", facts["tensors"]) > 100:
        words += f", 1% of them {_chance(missed['one_percent'])}"
    return words


def _chance(share: float) -> str:
    """Return a chance in words that stay true when it is small."""
    if 0 < share < 0.005:
        return f"once in {1 / share:,.0f} times"
    return f"{100 * share:.0f} times in 100"


def _wrong(facts: Facts, count: int) -> Iterator[str]:
    told = several(facts["wrong"])
    of = "wrong tensor" if count == 1 else "wrong tensors"
    yield f"  {count} {of}:"
    for item in told:
        yield f"    {plain(item['tensor'])}: {item['fault']}"
    if count > len(told):
        yield f"    and {count - len(told)} more"
    if facts["peer"]:
        yield from _held(facts)


def _held(facts: Facts) -> Iterator[str]:
    """Yield whether what this home attests held, where both were compared."""
    damaged = any("this home" in str(item["fault"]) for item in several(facts["wrong"]))
    if facts["compared_with_ours"] and not damaged:
        yield "  what this home attests of them holds when recomputed"
    if damaged:
        yield "  resolve again to a new folder, and check this machine's memory and disk"
