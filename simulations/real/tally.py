"""What nodes counted, of processes that live and of those that have ended.

Owns adding it up. Does not own the counting (`nodes.metrics`).
"""

from collections import Counter
from collections.abc import Mapping
from typing import Any, Final

COUNTED: Final = {
    ("crdtmerge_messages_total", "out"): "messages",
    ("crdtmerge_received_wire_bytes_total", ""): "content_bytes",
    ("crdtmerge_resumed_fetches_total", ""): "fetches resumed",
    ("crdtmerge_stalled_streams_total", ""): "streams stalled",
    ("crdtmerge_hedged_chunks_total", ""): "chunks asked of a second source",
    ("crdtmerge_wasted_chunks_total", ""): "chunks that came twice",
}
FIGURES: Final = frozenset({"messages", "content_bytes"})
"""Those that are figures of a run; the others say what trouble did to downloads."""


def read(answer: Mapping[str, Any]) -> Counter[str]:
    """Return what the answer of `metrics` says of messages and contents."""
    counted: Counter[str] = Counter()
    for metric in answer["metrics"]:
        for sample in metric["samples"]:
            label = next(iter(sample["labels"].values()), "")
            if name := COUNTED.get((metric["name"], label)):
                counted[name] += sample["value"]
    return counted
