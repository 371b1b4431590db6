"""What a running node counts, in the format that monitoring systems read.

Owns the names, units and help of all metrics, and how each is read. Does not own the
numbers: those are plain counters of the objects that do the work, pulled when somebody
asks. No port serves them: `crdtmerge node metrics` asks over the control socket.

Names follow Prometheus: `crdtmerge_`, base units, `_total` for what only grows and is 0 at
the start of the node. Labels take few values: spaces, kinds of errors, kinds of blobs.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Final

from crdtmerge import __version__
from crdtmerge.bodies import SpaceId
from crdtmerge.policy import Visible

from .anchor import Doubt
from .connection_metrics import CONNECTIONS
from .counting import Metric, Samples, Sources, by_count, each_space, one
from .store.disk import SystemDisk
from .store.totals import totals

if TYPE_CHECKING:
    from prometheus_client import Metric as Family


def _of_blobs(field: str) -> Callable[[Sources], Samples]:
    """Return the reader of one number of the stored blobs, by their kind."""
    return lambda s: {
        (kind,): getattr(part, field) for kind, part in totals(s.home.database).items()
    }


def _by_doubt(sources: Sources) -> Samples:
    anchor = sources.home.anchor
    found = Counter(anchor.doubt(space) for space in anchor.doubted())
    return {(doubt.name.lower(),): found[doubt] for doubt in Doubt}


def _beyond(sources: Sources, space: SpaceId) -> list[Visible]:
    beyond = sources.spaces.beyond()
    visible = sources.spaces.view(space).visible
    return [v for v in visible if (space, v.content) in beyond]


_TRAFFIC: Final = (
    (
        "received_bytes",
        "bytes_in",
        "Bytes of chunks that came, verified.",
    ),
    (
        "received_wire_bytes",
        "wire_in",
        "Bytes of replies that came, encoded.",
    ),
    ("received_chunks", "chunks_in", "Chunks that came, verified and stored."),
    ("received_blobs", "blobs_in", "Blobs that came whole."),
    (
        "sent_bytes",
        "bytes_out",
        "Bytes of chunks that went to peers, decoded.",
    ),
    (
        "sent_wire_bytes",
        "wire_out",
        "Bytes of replies that went out, encoded.",
    ),
    ("sent_chunks", "chunks_out", "Chunks that went to peers."),
    ("refused_fetches", "refused", "Fetches of peers that found no free slot here."),
    (
        "bad_chunks",
        "bad_chunks",
        "Chunks of another digest, or no decoding.",
    ),
    (
        "banned_sources",
        "bans",
        "Sources left out of a blob for a lie.",
    ),
    (
        "lacking_sources",
        "lacking",
        "Sources without a blob, or of a wrong size.",
    ),
    (
        "unanswering_sources",
        "away",
        "Sources without an answer, or room.",
    ),
    ("stalled_streams", "stalls", "Streams that brought nothing for too long."),
    ("stolen_chunks", "stolen", "Chunks taken over from a slow source."),
    (
        "hedged_chunks",
        "hedged",
        "Chunks asked of a second source, too.",
    ),
    ("wasted_chunks", "wasted", "Chunks that came although they were here."),
    ("resumed_fetches", "resumed", "Fetches that began with chunks of an earlier one."),
)
"""What `Traffic` counts: its name here, its field there, and what it means."""


def _traffic(field: str) -> Callable[[Sources], Samples]:
    return one(lambda s: getattr(s.fetching.traffic, field))


METRICS: Final = (
    Metric(
        "gauge",
        "build_info",
        "1; the label says which version runs.",
        lambda _: {(__version__,): 1},
        ("version",),
    ),
    Metric(
        "gauge",
        "spaces",
        "Spaces that this home takes part in.",
        one(lambda s: len(s.spaces.all())),
    ),
    Metric(
        "gauge",
        "records",
        "Records of a space that are here.",
        each_space(lambda s, key: len(s.spaces.opset(key))),
        ("space",),
    ),
    Metric(
        "gauge",
        "contributions",
        "Contributions that are visible in a space.",
        each_space(lambda s, key: len(s.spaces.view(key).visible)),
        ("space",),
    ),
    Metric(
        "gauge",
        "faulty_contributions",
        "Contributions of a space that a fault shows to be unusable.",
        each_space(lambda s, key: len(s.spaces.view(key).faults)),
        ("space",),
    ),
    Metric(
        "gauge",
        "shown_forks",
        "Forks that records of a space show: an author used a number twice.",
        each_space(lambda s, key: len(s.spaces.view(key).forks)),
        ("space",),
    ),
    Metric(
        "counter",
        "noticed_forks",
        "Forks that this node has met before a record showed them.",
        one(lambda s: s.forks.noticed),
    ),
    Metric(
        "gauge",
        "missing_bytes",
        "Bytes that visible contributions of a space need and that are not here.",
        each_space(lambda s, key: sum(s.spaces.missing(key).values())),
        ("space",),
    ),
    Metric(
        "gauge",
        "beyond_quota_contributions",
        "Contributions of a space that are not fetched: beyond their author's bytes.",
        each_space(lambda s, key: len(_beyond(s, key))),
        ("space",),
    ),
    Metric(
        "gauge",
        "beyond_quota_bytes",
        "Bytes that these lack, as far as their manifests are here.",
        each_space(
            lambda s, key: sum(
                sum(s.spaces.lacking(key, v).values()) for v in _beyond(s, key)
            )
        ),
        ("space",),
    ),
    Metric(
        "gauge",
        "blobs",
        "Blobs in the store: `raw`, `packed`, or `referenced` in the user's files.",
        _of_blobs("count"),
        ("kind",),
    ),
    Metric(
        "gauge",
        "blob_bytes",
        "Bytes of the blobs in the store, by the same kinds.",
        _of_blobs("size"),
        ("kind",),
    ),
    Metric(
        "gauge",
        "stored_bytes",
        "Bytes that these blobs take of the disk of the home.",
        _of_blobs("stored"),
        ("kind",),
    ),
    Metric(
        "gauge",
        "disk_free_bytes",
        "Bytes that are free on the disk of the home.",
        one(lambda s: s.home.blobs.free()),
    ),
    Metric(
        "gauge",
        "pinned_contributions",
        "Contributions that collection leaves alone because the user pinned them.",
        one(lambda s: len(s.home.marks.pins())),
    ),
    Metric(
        "gauge",
        "unneeded_blobs",
        "Blobs that nothing needs and whose grace period runs.",
        one(lambda s: len(s.home.marks.unneeded())),
    ),
    Metric(
        "counter",
        "bad_blobs",
        "Readings of a blob that was `damaged` or `gone`, or a reference `edited`.",
        by_count(lambda s: s.home.blobs.access.bad),
        ("state",),
    ),
    Metric(
        "counter",
        "scrubbed_bytes",
        "Bytes of the store that the slow check has read again.",
        one(lambda s: s.keeper.scrubber.bytes),
    ),
    Metric(
        "counter",
        "scrubbed_blobs",
        "Blobs that the slow check has read to their end.",
        one(lambda s: s.keeper.scrubber.blobs),
    ),
    Metric(
        "counter",
        "scrub_passes",
        "Times that the slow check has come through the whole store.",
        one(lambda s: s.keeper.scrubber.passes),
    ),
    Metric(
        "counter",
        "scrub_damage",
        "Damaged blobs that the slow check has met, by what became of them.",
        by_count(lambda s: s.keeper.scrubber.damaged),
        ("outcome",),
    ),
    Metric(
        "counter",
        "collected_blobs",
        "Blobs that collection has removed: nothing needed them for long.",
        one(lambda s: s.keeper.collected_blobs),
    ),
    Metric(
        "counter",
        "collected_bytes",
        "Bytes of the disk that collection has given back.",
        one(lambda s: s.keeper.collected_bytes),
    ),
    Metric(
        "counter",
        "failed_syncs",
        "Times that the disk refused to keep what was written; never tried again.",
        one(lambda _: SystemDisk.failed_syncs),
    ),
    Metric(
        "gauge",
        "doubted_spaces",
        "Spaces in which this home signs nothing: it was restored, or copied.",
        _by_doubt,
        ("doubt",),
    ),
    Metric(
        "gauge",
        "peers_known",
        "Nodes of other members, in all spaces.",
        one(lambda s: len(s.spaces.members() - {s.node.me})),
    ),
    Metric(
        "gauge",
        "peers_connected",
        "Peers with an open stream.",
        one(lambda s: len(s.links.peers())),
    ),
    Metric(
        "gauge",
        "fetches",
        "Blobs that are on their way from a peer now.",
        one(lambda s: len(s.node.choices.flying)),
    ),
    Metric(
        "gauge",
        "attestations",
        "Attestations of nodes that are held, of all spaces together.",
        one(lambda s: s.node.attesting.held),
    ),
    Metric(
        "counter",
        "heard_attestations",
        "Attestations that came: `taken`, `too soon`, or `no news` (or of no member).",
        by_count(lambda s: s.node.attesting.counts),
        ("outcome",),
    ),
    Metric(
        "counter",
        "dropped_peers",
        "Times that a peer was cut off and banned for a while, by what it did.",
        by_count(lambda s: s.node.dropped),
        ("error",),
    ),
    Metric(
        "counter",
        "pauses",
        "Times that a peer was not read from for a while: it owed for what it sent.",
        one(lambda s: s.node.accounts.pauses),
    ),
    Metric(
        "counter",
        "paused_seconds",
        "Seconds of these pauses, of all peers together.",
        one(lambda s: s.node.accounts.paused_seconds),
    ),
    Metric(
        "counter",
        "peer_cost_units",
        "Work that peers caused; one unit is one check of a signature.",
        one(lambda s: s.node.accounts.units),
    ),
    Metric(
        "gauge",
        "waiting_records",
        "Records known to wait: their author's quota is met, by `rate` or in `total`.",
        lambda s: {(quota,): n for quota, n in s.node.holding.by_quota().items()},
        ("quota",),
    ),
    Metric(
        "gauge",
        "waiting_authors",
        "Authors of whom records wait.",
        one(lambda s: len(s.node.holding.waiting())),
    ),
    Metric(
        "counter",
        "left_records",
        "Times that a record was left for later, by the quota that its author met.",
        by_count(lambda s: s.node.holding.held),
        ("quota",),
    ),
    Metric(
        "counter",
        "failed_fetches",
        "Fetches that brought no blob, by why: a peer's fault, or this machine's.",
        by_count(lambda s: s.fetching.failed),
        ("error",),
    ),
    Metric(
        "counter",
        "failed_commands",
        "Commands over the control socket that ended with an error, by its kind.",
        by_count(lambda s: s.commands.failed),
        ("error",),
    ),
    *CONNECTIONS,
    *(Metric("counter", name, text, _traffic(field)) for name, field, text in _TRAFFIC),
)


class Collector:
    """What was read of all metrics at one moment, as a registry wants it."""

    def __init__(self, sources: Sources) -> None:
        """Read from `sources`, now and never again."""
        self.families = list(_read(sources))

    def collect(self) -> "Iterable[Family]":
        """Return what was read."""
        return self.families


def _read(sources: Sources) -> "Iterator[Family]":
    from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

    families = {"counter": CounterMetricFamily, "gauge": GaugeMetricFamily}
    for metric in METRICS:
        name = metric.full_name
        family = families[metric.kind](name, metric.help, labels=metric.labels)
        for labels, value in metric.read(sources).items():
            family.add_metric(labels, value)
        yield family


def exposition(sources: Sources) -> dict[str, object]:
    """Return all metrics, as the text that Prometheus reads and, the same, as JSON.

    Raises:
        MachineError: the store cannot be read.
    """
    from prometheus_client import CollectorRegistry, generate_latest

    registry = CollectorRegistry(auto_describe=False)
    collector = Collector(sources)
    registry.register(collector)
    return {
        "text": generate_latest(registry).decode(),
        "metrics": list(_as_json(collector.families)),
    }


def _as_json(families: "Iterable[Family]") -> Iterator[dict[str, object]]:
    for metric, family in zip(METRICS, families, strict=True):
        yield {
            "name": metric.full_name,
            "type": metric.kind,
            "help": metric.help,
            "samples": [
                {"labels": sample.labels, "value": sample.value}
                for sample in family.samples
            ],
        }
