"""Answers as people read them: short ids, plain tables, one fact a line.

Owns the words and the order. Does not own the facts (`operations.facts`), nor printing.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TypeAlias, cast

from .output import plain, short, table

Facts: TypeAlias = "Mapping[str, object]"

_DOUBTS = {
    "restored": "this home was restored or copied: it must compare with a peer first",
    "returned": "a peer knew more of this author: it must compare with a peer first",
    "copied": "another home signs as this author: stop it, then `store adopt`",
}
_UNITS = ("bytes", "KiB", "MiB", "GiB", "TiB")


def size(count: object) -> str:
    """Return a number of bytes as people say it."""
    value, unit = float(cast("int", count)), 0
    while value >= 1024 and unit < len(_UNITS) - 1:
        value, unit = value / 1024, unit + 1
    return f"{value:.0f} {_UNITS[0]}" if unit == 0 else f"{value:.1f} {_UNITS[unit]}"


def counted(count: object, noun: str) -> str:
    """Return a number with its noun."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def several(value: object) -> Sequence[Facts]:
    """Return a list of objects of an answer."""
    return cast("Sequence[Facts]", value)


def home(facts: Facts) -> list[str]:
    """Return the lines of `init` and `whoami`."""
    keys = "encrypted" if facts["encrypted"] else "in the clear: no passphrase"
    if facts["agent"]:
        keys = f"the author's in an agent, the node's {keys}"
    lines = [f"{key:7} {facts[key]}" for key in ("home", "author", "node")]
    return [*lines, f"keys    {keys}"]


def rekeyed(facts: Facts) -> list[str]:
    """Return the line of `passphrase`."""
    return [
        "the keys open with the new passphrase from now on"
        if facts["encrypted"]
        else "the keys are in the clear from now on: their mode alone protects them"
    ]


def ticket(facts: Facts) -> list[str]:
    """Return the one line of `space ticket`, to be piped as it is."""
    return [str(facts["ticket"])]


def spaces(facts: Facts) -> list[str]:
    """Return the lines of `space list`."""
    found = several(facts["spaces"])
    if not found:
        return ["no space yet: `crdtmerge space create` founds one"]
    rows = [
        (short(s["id"]), s["name"], s["mode"], s["rank"] or "-", s["contributions"])
        for s in found
    ]
    return table(("SPACE", "NAME", "MODE", "YOU ARE", "CONTRIBUTIONS"), rows)


def recipe(facts: Facts) -> str:
    """Return a recipe on one line."""
    parameters = cast("Mapping[str, str]", facts["parameters"])
    pairs = [f"{name}={value}" for name, value in parameters.items()]
    stages = [cast("Sequence[str]", facts.get(key, ())) for key in ("pre", "post")]
    line = " -> ".join([*stages[0], str(facts["strategy"]), *stages[1]])
    return plain(" ".join([line, *pairs]))


def status(facts: Facts) -> list[str]:
    """Return the lines of `status`."""
    peers = several(facts["peers"])
    linked = sum(bool(peer["connected"]) for peer in peers)
    running = f"running, {linked} of {len(peers)} peers connected"
    node = running if facts["running"] else "not running"
    lines = [
        f"home    {plain(facts['home'])}",
        f"author  {short(facts['author'])}",
        f"node    {short(facts['node'])}, {node}",
        *_upkeep(facts.get("upkeep")),
    ]
    for file in several(facts["changed_files"]):
        fate = "is gone" if file["fate"] == "gone" else "was changed"
        amount = counted(file["blobs"], "tensor")
        lines += [f"file    {plain(file['path'])} {fate}: {amount}", _hint(file)]
    for space in several(facts["spaces"]):
        lines += ["", *_space(space)]
    return lines


def _hint(facts: Facts) -> str:
    return f"        {facts['hint']}"


def _upkeep(value: object) -> list[str]:
    """Return the line about damage that the running node found; none if there is none."""
    damaged = cast("Facts", value)["damaged"] if value else {}
    counts = cast("Mapping[str, int]", damaged)
    if not counts:
        return []
    words = ", ".join(f"{count} {outcome}" for outcome, count in counts.items())
    found = counted(sum(counts.values()), "damaged blob")
    return [f"store   {found} found since the start: {words}"]


def _space(facts: Facts) -> Iterator[str]:
    from . import render_compacting  # which take their words from here
    from .render_audit import agreement

    lost = ", your rights were revoked" if facts["rightless"] else ""
    lost = ", you left it" if facts["left"] else lost
    rank = f", you are {facts['rank']}{lost}" if facts["rank"] else ""
    name = plain(facts["name"])
    yield f"space {name} ({short(facts['id'])}), {facts['mode']}{rank}"
    found = facts["recipe"]
    known = recipe(cast("Facts", found)) if found else "none yet"
    conflict = (
        " (concurrent recipes: this one serves)" if facts["recipe_conflict"] else ""
    )
    yield f"  recipe        {known}{conflict}"
    yield f"  record root   {short(facts['record_root'])} ({facts['records']} records)"
    yield from render_compacting.status(cast("Facts", facts["compacted"]))
    yield f"  visible root  {short(facts['visible_root'])}"
    yield f"  merge id      {short(facts['merge_id'] or '-')}"
    yield from agreement(cast("Facts", facts["attested"]))
    if facts["missing_blobs"]:
        amount = size(facts["missing_bytes"])
        yield f"  missing       {facts['missing_blobs']} blobs, {amount}"
    if facts["doubt"]:
        yield f"  signs nothing {_DOUBTS[str(facts['doubt'])]}"
    if facts["forked"]:
        numbers = ", ".join(map(str, cast("Sequence[int]", facts["forked"])))
        yield f"  forked        this author signed two records of number {numbers}"
    if facts["quarantined"] is not None:
        since = facts["quarantined"]
        yield f"  quarantined   nothing you signed from number {since} on counts"
    if facts["unknown_critical"]:
        yield "  this version is too old for this space: upgrade crdtmerge"
    contributions = several(facts["contributions"])
    rows = [_contribution(item) for item in contributions]
    head = ("CONTRIBUTION", "WEIGHT", "HERE", "AUTHORS", "TAGS", "NOTE")
    lines = table(head, rows) if rows else ["no contributions yet"]
    yield from (f"  {line}" for line in lines)
    yield from _attached(contributions)
    yield from _quotas(facts)
    if facts["pending"]:
        acts = counted(facts["pending"], "act")
        yield f"  pending {acts} of owners: `crdtmerge space pending` lists what waits"
    for ban in several(facts["banned"]):
        yield f"  banned {ban['subject']} {short(ban['target'])}"
    for fault in several(facts["faulty"]):
        what = f"{short(fault['content'])}: {plain(fault['reason'])}"
        yield f"  faulty {what} (shown by {short(fault['author'])})"
    for fork in several(facts["forks"]):
        number, state = fork["author_seq"], fork["state"]
        what = f"author {short(fork['author'])} at number {number}: {state}"
        yield f"  forked {what}; `crdtmerge space forks` says what to do"


def _attached(contributions: Iterable[Facts]) -> Iterator[str]:
    """Return a line about the evidence of each contribution that attaches any."""
    for item in contributions:
        told = [
            f"{plain(kind['kind'])} ({kind['tensors']}, {size(kind['bytes'])})"
            for kind in several(item.get("evidence") or ())
        ]
        if told:
            yield f"  evidence of {short(item['content'])}: {', '.join(told)}"


def _contribution(facts: Facts) -> tuple[str, ...]:
    authors = cast("Sequence[str]", facts["authors"])
    notes = cast("Sequence[str]", facts["notes"])
    return (
        short(facts["content"]),
        str(facts["weight"]),
        _here(facts),
        " ".join(map(short, authors)),
        " ".join(cast("Sequence[str]", facts.get("tags", ()))) or "-",
        " / ".join(notes),
    )


def _here(facts: Facts) -> str:
    if facts["complete"]:
        return "yes"
    return "no, quota" if facts.get("beyond_quota") else "no"


def _quotas(facts: Facts) -> Iterator[str]:
    """Return the lines about what quotas of this home keep away."""
    if any(item.get("beyond_quota") for item in several(facts["contributions"])):
        yield "  quota: beyond the bytes of its author; `crdtmerge fetch ID` brings it"
    for held in several(facts.get("waiting", ())):
        yield f"  waiting {_waiting(held)}"


def _waiting(facts: Facts) -> str:
    """Return the line about an author whose records wait."""
    until = "its share comes with time"
    if facts["full"]:
        until = "as many are here as may be: `crdtmerge node quotas`"
    amount = counted(facts["records"], "record")
    return f"{amount} of author {short(facts['author'])}; {until}"


def contributed(facts: Facts) -> list[str]:
    """Return the lines of `contribute`."""
    content = short(facts["content"])
    if not facts["new"]:
        return [f"contribution {content} is unchanged"]
    amount = f"{counted(facts['tensors'], 'tensor')}, {size(facts['bytes'])}"
    new = f"{size(facts['new_bytes'])} new here"
    if facts["reference"] and facts["new_bytes"]:
        new += ", used where they lie"
    evidence = cast("Sequence[str]", facts.get("evidence", ()))
    beside = f" and evidence {', '.join(evidence)}" if evidence else ""
    said = f"contributed {content} ({amount}, {new}) with weight {facts['weight']}"
    return [said + beside]


def removed(facts: Facts) -> list[str]:
    """Return the lines of `remove`."""
    count = counted(len(cast("Sequence[str]", facts["adds"])), "add")
    verb = "proposed to remove" if facts["pending"] else "removed"
    return [f"{verb} {short(facts['content'])} ({count})"]


def banned(facts: Facts) -> list[str]:
    """Return the lines of `ban`."""
    what = f"{facts['subject']} {short(facts['target'])}"
    if not facts["new"]:
        return [f"{what} stays {'proposed' if facts['pending'] else 'banned'}"]
    if facts["pending"]:
        return [f"proposed to ban {what}"]
    count = counted(facts["hidden"], "contribution")
    return [f"banned {what}: {count} fewer in the merge"]


def checked(facts: Facts) -> list[str]:
    """Return the lines of `check`."""
    read = f"{size(facts['read_bytes'])} read"
    if facts["missing_bytes"]:
        read += f", {size(facts['missing_bytes'])} missing"
    content = short(facts["content"])
    if facts["usable"] and facts["missing_bytes"]:
        return [f"contribution {content}: nothing wrong in what is here ({read})"]
    if facts["usable"]:
        return [f"contribution {content} can be merged ({read})"]
    lines = [f"contribution {content} cannot be merged ({read})"]
    lines.append(f"  {plain(facts['reason'])}")
    if facts["new"]:
        lines.append(f"  published as {short(facts['record'])}: it is out of the merge")
    elif facts["proven"] and not facts["record"]:
        lines.append("  its bytes prove it: without --dry-run this is published")
    return lines


def founded(facts: Facts) -> list[str]:
    """Return the lines of `space create`."""
    amount = f"{counted(facts['tensors'], 'tensor')}, {size(facts['bytes'])}"
    return [
        f"founded space {plain(facts['name'])} ({short(facts['space'])}), {facts['mode']}",
        f"  base    {short(facts['base'])} ({amount})",
        f"  recipe  {recipe(cast('Facts', facts['recipe']))}",
        *_owners(facts),
        *(["  forks   cut off their author"] if facts["quarantine"] else []),
    ]


def _owners(facts: Facts) -> list[str]:
    owners = cast("Sequence[str]", facts["owners"])
    if len(owners) == 1:
        return []
    threshold = facts["threshold"]
    signs = f"{threshold} of them sign what an owner does" if threshold != 1 else ""
    return [f"  owners  {', '.join(map(short, owners))}{signs and f': {signs}'}"]


def joined(facts: Facts) -> list[str]:
    """Return the lines of `space join`."""
    verb = "joined" if facts["joined"] else "updated the base of"
    rank = f" as {facts['rank']}" if facts["rank"] else ""
    return [f"{verb} space {plain(facts['name'])} ({short(facts['id'])}){rank}"]


def resolved(facts: Facts) -> list[str]:
    """Return the lines of `resolve`."""
    count = counted(len(cast("Sequence[str]", facts["contributions"])), "contribution")
    explored = ", explored: not the shared merge" if facts["explored"] else ""
    amount = f"{_amount(facts)}{explored}"
    lines = []
    if facts["as"] == "adapter":
        left = 100 * float(cast("float", facts["relative_error"]))
        lines = [f"  rank {facts['rank']}      leaves out {left:.3g}% of the change"]
    if "io_budget" in facts:
        lines.append(_budget(cast("Facts", facts["io_budget"])))
    lines += _work(facts)
    return [
        f"resolved {count} to {plain(facts['out'])} ({amount})",
        *lines,
        f"  model digest  {facts['model_digest']}",
        f"  merge id      {short(facts['merge_id'])}",
    ]


def _work(facts: Facts) -> list[str]:
    """Return the line about what was computed, and what was there; none for an adapter."""
    if "computed" not in facts:
        return []
    made = {word: cast("Facts", facts[word]) for word in ("reused", "resumed")}
    there = [
        f"{found['tensors']} {word} ({size(found['bytes'])})"
        for word, found in made.items()
        if found["tensors"]
    ]
    computed = f"{cast('Facts', facts['computed'])['tensors']} computed"
    moved = f"{size(facts['read_bytes'])} read, {size(facts['written_bytes'])} written"
    return [f"  tensors       {', '.join([computed, *there])}; {moved}"]


def _budget(facts: Facts) -> str:
    unread = cast("Mapping[str, Sequence[str]]", facts["unread"])
    count = counted(sum(map(len, unread.values())), "task vector")
    left = f"{count} ({size(facts['unread_bytes'])}) left unread"
    return f"  io budget     {size(facts['reads'])} of {size(facts['bytes'])}, {left}"


def _amount(facts: Facts) -> str:
    """Return how much was written."""
    shards = cast("int", facts["shards"])
    files = f" in {shards} files" if shards > 1 else ""
    return f"{counted(facts['tensors'], 'tensor')}, {size(facts['bytes'])}{files}"


def merged(facts: Facts) -> list[str]:
    """Return the lines of `merge`."""
    used = cast("Facts", facts["recipe"])
    rules, own = len(several(used["rules"])), cast("int", facts["own_values"])
    more = [counted(rules, "rule")] if rules else []
    more += [f"own values of {counted(own, 'model')}"] if own else []
    count = counted(len(cast("Sequence[str]", facts["contributions"])), "model")
    amount = _amount(facts)
    return [
        f"merged {count} to {plain(facts['out'])} ({amount})",
        f"  recipe        {recipe(used)}",
        *(
            [f"  with          {' and '.join(more)}: see resolution.json"]
            if more
            else []
        ),
        *_work(facts),
        f"  model digest  {facts['model_digest']}",
        f"  merge id      {short(facts['merge_id'])}",
    ]


def verified(facts: Facts) -> list[str]:
    """Return the lines of `verify`."""
    tensors = facts["tensors"]
    have = "has the digest" if tensors == 1 else "have the digests"
    stated = f"{counted(tensors, 'tensor')} {have} of resolution.json"
    lines = [
        f"{plain(facts['dir'])}: {stated}",
        f"  model digest  {facts['model_digest']}",
    ]
    if facts["recomputed"]:
        return [
            *lines,
            "  recomputed from the contributions and recipe: the same bytes",
        ]
    return [*lines, f"  not recomputed: {plain(facts['reason'])}"]
