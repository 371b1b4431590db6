"""Trie repair: messages and bytes to find what differs between two sets of records.

    python benchmarks/repair.py [--count 1000000]

Both sides are real tries; every message is encoded as it travels. The records themselves
are not counted: only what it costs to learn which ones are missing.
"""

import argparse

from crdtmerge.digest import Domain, digest
from crdtmerge.sync.messages import TrieReply, TrieRequest
from crdtmerge.sync.reconcile import Descent, answer
from crdtmerge.trie import Trie
from nodes.convert import encode

SPACE = bytes(32)


def repair(ours: Trie, theirs: Trie) -> tuple[int, int, int]:
    """Return (messages, bytes, digests found) of one descent."""
    descent = Descent(ours)
    messages = size = 0
    while prefixes := descent.ask():
        nodes = tuple(answer(theirs, prefixes))
        size += len(encode(TrieRequest(SPACE, prefixes)))
        size += len(encode(TrieReply(SPACE, nodes)))
        messages += 2
        descent.take(nodes)
    return messages, size, len(descent.lacking)


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=1_000_000)
    count = parser.parse_args().count
    items = [digest(Domain.RECORD, i.to_bytes(8, "little")) for i in range(count)]
    theirs = Trie.build(items)
    print(f"{'differences':>11}  {'messages':>8}  {'bytes':>9}")
    for missing in (1, 100, 1000):
        messages, size, found = repair(theirs.delete(items[:missing]), theirs)
        if found != missing:
            raise SystemExit(f"found {found} of {missing}")
        print(f"{missing:11}  {messages:8}  {size:9}")


if __name__ == "__main__":
    main()
