"""What a node counts of its connections: streams, dials, handshakes, and what waits.

Owns these metrics. Does not own the numbers, nor how metrics are told (`metrics`).
"""

from typing import Final

from .counting import Metric, Samples, Sources, by_count, one


def _by_port(sources: Sources) -> Samples:
    ports = {
        "join": sources.join_server.handshaking.handshakes,
        "sync": sources.sync_server.handshaking.handshakes,
    }
    return {(name,): count for name, count in ports.items()}


CONNECTIONS: Final = (
    Metric(
        "gauge",
        "streams",
        "Open streams, by who dialled: `us`, or the `peer`.",
        by_count(lambda s: s.links.by_dialler()),
        ("dialler",),
    ),
    Metric(
        "counter",
        "opened_streams",
        "Streams that were opened, by who dialled.",
        by_count(lambda s: s.links.opened),
        ("dialler",),
    ),
    Metric(
        "counter",
        "ended_streams",
        "Streams that ended, or were refused for lack of room, by how.",
        by_count(lambda s: s.links.ended),
        ("how",),
    ),
    Metric(
        "counter",
        "dials",
        "Dials of addresses that are over: `let in`, or the error by which not.",
        by_count(lambda s: s.links.dials),
        ("outcome",),
    ),
    Metric(
        "counter",
        "handshakes",
        "TLS handshakes that callers began, at the `sync` and the `join` port.",
        _by_port,
        ("port",),
    ),
    Metric(
        "counter",
        "refused_calls",
        "Calls of members that were one too many of theirs at once.",
        one(lambda s: s.sync_server.refused_calls),
    ),
    Metric(
        "counter",
        "messages",
        "Messages on streams with peers that came `in` or went `out`; contents are none.",
        by_count(lambda s: s.links.messages),
        ("way",),
    ),
    Metric(
        "gauge",
        "waiting_messages",
        "Messages that wait to be sent, or answered, of all peers together.",
        one(lambda s: s.links.waiting()[0]),
    ),
    Metric(
        "gauge",
        "waiting_message_bytes",
        "About how many bytes these have.",
        one(lambda s: s.links.waiting()[1]),
    ),
    Metric(
        "gauge",
        "waiting_message_bytes_most",
        "About how many bytes wait for the peer for whom most wait.",
        one(lambda s: s.links.waiting()[2]),
    ),
    Metric(
        "gauge",
        "waiting_questions",
        "Questions of ours that wait until others are answered.",
        one(lambda s: s.links.unasked()),
    ),
    Metric(
        "gauge",
        "waiting_turns",
        "Inputs that wait for the node, of peers and of this machine.",
        one(lambda s: len(s.turns)),
    ),
    Metric(
        "gauge",
        "turn_seconds",
        "For how long the node has been at the input that it is at now.",
        one(lambda s: s.turns.busy()),
    ),
)
