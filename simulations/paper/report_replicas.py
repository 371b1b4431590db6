"""The report of tier 3: many replicas.

Owns its words and tables, and how a table is written. Does not own the figures.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

Facts = Mapping[str, Any]


def tier3(found: Facts) -> list[str]:
    """Return its lines."""
    return [
        "## Tier 3: many replicas, over real messages",
        "",
        *_crowd(found),
        "",
        *_smaller(found),
        "",
        *_beyond(found),
    ]


def _crowd(found: Facts) -> list[str]:
    theirs, each = found["paper"], found["per_node_and_ordering"]
    same = found["distinct_models"] == 1
    return [
        f"### {found['nodes']} nodes, {found['orderings']} orderings",
        "",
        (
            f"Each contributes one {found['side']}x{found['side']} tensor"
            f" ({found['strategy']}); each pushes to each other once, in random order"
            f" ({found['traffic']['exchanges']} exchanges); every node resolves with its own"
            " plan from its own store. **"
            f"{found['models_compared']} models, {found['distinct_models']} distinct"
            f"{'' if same else ' (!)'}**, in {found['seconds']} s on {found['processes']}"
            f" processes, resolves included."
        ),
        "",
        *table(
            ("an ordering", "ours", "paper"),
            [
                (
                    "distinct models of all",
                    found["distinct_models"],
                    "1 (difference 0)",
                ),
                (
                    "gossip, ms",
                    found["gossip_ms"],
                    f"{theirs['gossip_ms']} (in process, nothing serialised)",
                ),
                ("the same, ms of a processor", found["gossip_cpu_ms"], "-"),
                ("resolve of all, ms", found["resolve_ms"], theirs["resolve_s"] * 1e3),
                ("the same, ms of a processor", found["resolve_cpu_ms"], "-"),
                ("messages a node", each["messages"], "-"),
                ("bytes of messages a node", each["message_bytes"], "-"),
                ("bytes of tensors a node", each["blob_bytes"], "whole states"),
                (
                    "rounds until equal (a push a node)",
                    found["rounds_until_equal"],
                    f"- (push-pull at best {found['optimum_rounds']})",
                ),
            ],
        ),
        "",
        (
            "What each node does itself, in each ordering: it parses each frame, decodes each"
            " record and verifies its signature, joins its set, keeps its own trie and store,"
            " fetches each tensor once by a real request and hashes it, finds what the set"
            " means, plans, and computes every tensor. What it does not: bytes of a tensor"
            " that it has hashed are the same object in memory as its peer's, since they"
            " never change, and no socket lies between. No node uses what another computed."
        ),
    ]


def _smaller(found: Facts) -> list[str]:
    split, sweep = found["partition"], found["sweep"]
    theirs, over = split["paper"], found["overhead"]
    slow = max(sweep["rows"], key=lambda row: row["resolve_cpu_ms"])
    last = found["scaling"]["rows"][-1]
    goal = found["scaling"]["paper_ms"].get(str(last["nodes"]), "-")
    return [
        "### Partition, sweep, scaling, overhead",
        "",
        *table(
            ("experiment", "ours", "paper"),
            [
                (
                    f"{split['islands']} islands apart: distinct models",
                    f"{split['distinct_apart']} ({split['agreed_inside']} agree inside)",
                    theirs["distinct_apart"],
                ),
                (
                    "healed: nodes with the same bytes",
                    f"{split['equal_after']} of {split['nodes']}",
                    theirs["equal_after"],
                ),
                (
                    "apart and heal, ms (of a processor)",
                    (
                        f"{split['apart_ms']} + {split['heal_ms']}"
                        f" ({split['apart_cpu_ms']} + {split['heal_cpu_ms']})"
                    ),
                    f"{theirs['apart_ms']} + {theirs['heal_ms']}",
                ),
                (
                    f"sweep, {sweep['nodes']} nodes: strategies all equal",
                    f"{sweep['all_equal']} of {sweep['strategies']}",
                    f"{sweep['paper']['strategies']} of 26",
                ),
                (
                    "slowest of them, ten resolves",
                    f"{slow['strategy']}, {slow['resolve_cpu_ms']} ms of a processor",
                    sweep["paper"]["slowest"],
                ),
                (
                    f"gossip of {last['nodes']} nodes, ms (of a processor)",
                    f"{last['gossip_ms']} ({last['gossip_cpu_ms']})",
                    goal,
                ),
                (
                    f"order, root and seed of {over['contributions']}",
                    f"{over['ms']} ms, {over['bytes']} B kept",
                    f"< {over['paper']['ms']} ms, < 10 KB",
                ),
            ],
        ),
        "",
        (
            "Gossip takes longer than the paper's because it is another thing: there a join of"
            " two objects in one process, here frames, signatures, digests and stores. All"
            " pairs is the paper's definition; our nodes gossip otherwise, in a few rounds"
            f" (below). At its peak the overhead holds {over['peak_bytes']} B, nearly all of it"
            " the encoder's one buffer."
        ),
        "",
        *table(
            (
                "nodes",
                "gossip, ms",
                "of a processor",
                "exchanges",
                "messages",
                "bytes",
                "until equal",
            ),
            [
                (
                    row["nodes"],
                    row["gossip_ms"],
                    row["gossip_cpu_ms"],
                    row["exchanges"],
                    row["messages"],
                    row["message_bytes"],
                    row["until_equal"],
                )
                for row in found["scaling"]["rows"]
            ],
        ),
    ]


def _beyond(found: Facts) -> list[str]:
    faults = ", ".join(
        f"{name} {chance:g}" for name, chance in found["faulty"][0]["faults"].items()
    )
    return [
        "### Beyond the paper: when everything fails",
        "",
        (
            "Real nodes in virtual time, that find and dial one another, each with the store of"
            f" a real node on a simulated disk. Chances: {faults}. All contribute while that"
            " happens; links go on losing to the end. Rounds are from the last contribution or"
            " crash to equal records and contents everywhere (0 if that was so already); then"
            " every node merges from its own disk."
        ),
        "",
        *table(
            (
                "nodes",
                "rounds",
                "log2 n + ln n",
                "messages a node",
                "bytes a node",
                "crashes",
                "power lost",
                "distinct models",
                "s",
            ),
            [
                (
                    row["nodes"],
                    row["rounds_to_agree"],
                    row["optimum_rounds"],
                    row["messages_per_node"],
                    row["bytes_per_node"],
                    row["crashes"],
                    row["power_losses"],
                    row["distinct_models"],
                    row["seconds"],
                )
                for row in found["faulty"]
            ],
        ),
        "",
        *table(
            (
                "news among",
                "half",
                "99 of 100",
                "all",
                "log2 n + ln n",
                "messages a node",
            ),
            [
                (
                    f"{row['nodes']} nodes, {row['loss']:.0%} lost",
                    row["rounds_half"],
                    row["rounds_99_of_100"],
                    row["rounds_all"],
                    row["optimum_rounds"],
                    row["messages_per_node"],
                )
                for row in found["news"]
            ],
        ),
        "",
        "Liars: "
        + "; ".join(
            f"`{row['story']}` with {row['nodes']} nodes, agreed after"
            f" {row['rounds']['contents']} rounds"
            for row in found["liars"]
        )
        + ". Honest nodes end with the same bytes in each.",
    ]


def table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> list[str]:
    """Return the lines of a table."""
    lines = [head, ["---"] * len(head), *rows]
    return ["| " + " | ".join(str(cell) for cell in row) + " |" for row in lines]
