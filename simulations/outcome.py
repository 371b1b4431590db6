"""What a run came to: the figures that are printed and compared.

Owns the form of an outcome. Does not own how it is printed (`cli`).
"""

from collections.abc import Mapping
from dataclasses import dataclass

from simulations.checking.checkers import merge_id, record_root, visible_root
from simulations.checking.settling import Settled

from .cluster import Cluster
from .faults import FAULTS, Faults


@dataclass(frozen=True, slots=True)
class Outcome:
    """One run, whose promises held; digests are in hex.

    `command` repeats it, after `crdtmerge simulate`. `settled` counts from the last
    disturbance. `visible` contributions are merged by `merge_id` into `model_digest`, which
    is empty where nothing is visible.
    """

    command: str
    seed: int
    nodes: int
    faults: Faults
    seconds: float
    settled: Settled
    records: int
    visible: int
    messages: int
    message_bytes: int
    blobs: int
    blob_bytes: int
    cut_off: int
    injected: Mapping[str, int]
    """How often each kind of fault struck."""
    crashes: int
    events: int
    record_root: str
    visible_root: str
    merge_id: str
    model_digest: str
    log_digest: str
    kinds: Mapping[str, int]

    def facts(self) -> dict[str, object]:
        """Return what `--json` prints."""
        return {
            "command": f"crdtmerge simulate {self.command}",
            "seed": self.seed,
            "nodes": self.nodes,
            "faults": dict(self.faults.items()),
            "agreed": True,
            "seconds": round(self.seconds, 3),
            "rounds": {
                "records": round(self.settled.record_rounds, 3),
                "contents": round(self.settled.rounds, 3),
            },
            "records": self.records,
            "visible": self.visible,
            "messages": self.messages,
            "bytes": self.message_bytes,
            "blobs": self.blobs,
            "blob_bytes": self.blob_bytes,
            "cut_off": self.cut_off,
            "injected": dict(self.injected),
            "crashes": self.crashes,
            "events": self.events,
            "record_root": self.record_root,
            "visible_root": self.visible_root,
            "merge_id": self.merge_id,
            "model_digest": self.model_digest,
            "log_digest": self.log_digest,
            "kinds": dict(sorted(self.kinds.items())),
        }


def outcome_of(command: str, cluster: Cluster, settled: Settled) -> Outcome:
    """Return the outcome of a story that has settled."""
    traffic, spaces = cluster.network.traffic, cluster.owner.spaces
    return Outcome(
        command=command,
        seed=cluster.seed,
        nodes=len(cluster.machines),
        faults=cluster.faults,
        seconds=cluster.clock.now,
        settled=settled,
        records=len(cluster.ledger),
        visible=len(spaces.view(cluster.space).visible),
        messages=traffic.messages,
        message_bytes=traffic.message_bytes,
        blobs=traffic.blobs,
        blob_bytes=traffic.blob_bytes,
        cut_off=traffic.cut_off,
        injected={n: cluster.dice.struck[n] for n in FAULTS if cluster.dice.struck[n]},
        crashes=cluster.crashes,
        events=cluster.events,
        record_root=record_root(spaces, cluster.space).hex(),
        visible_root=visible_root(spaces, cluster.space).hex(),
        merge_id=merge_id(spaces, cluster.space).hex(),
        model_digest=settled.model_digest.hex(),
        log_digest=cluster.log_digest,
        kinds=dict(traffic.kinds),
    )
