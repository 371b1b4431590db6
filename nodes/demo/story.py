"""The story that the demo tells: train, contribute, gossip, merge, poison, ban.

Owns the order of events and the words that explain them. Does not own how a step is done
(`peers`, `training`) nor what the figures must show (`report`).
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from crdtmerge.formats.folder import RESOLUTION_FILE

from .peers import Cluster, DemoError, Peer, Say
from .processes import Children
from .report import Accuracy, Outcome, Stage
from .training import (
    BASE_SAMPLES,
    BASE_SCHEDULE,
    MODEL_FILE,
    TUNING_SCHEDULE,
    Digits,
    Weights,
    accuracy,
    accuracy_by_digit,
    load_model,
    new_network,
    one_thread,
    poison,
    read_digits,
    save_model,
    train,
)

SPACE: Final = "digits"
OWNER: Final = "alice"
INTRUDER: Final = "mallory"
CLASSES: Final = {"alice": (0, 1, 2), "bob": (3, 4, 5), "carol": (6, 7, 8, 9)}

SEED: Final = 8
"""One of many that work: the figures of the demo are about the usual ones."""


@dataclass(frozen=True, slots=True)
class Models:
    """What was trained, and what it was trained and tested on."""

    digits: Digits
    base: Weights
    tuned: Mapping[str, Weights]


def tell(folder: Path, say: Say) -> Outcome:
    """Play the whole story in `folder` and return what came of it.

    Raises:
        DemoError: a command failed, or the peers did not come to agree.
    """
    with Children() as children:
        models = _train(folder, say)
        cluster = Cluster(folder, children, say)
        return _Story(cluster, models, say).play()


def _train(folder: Path, say: Say) -> Models:
    """Train the base, which all share, and one fine-tune for each honest peer."""
    say(
        f"[1/6] Training a small network on {BASE_SAMPLES} handwritten digits: the base."
        "\n      Three peers then fine-tune it, each on digits the others do not have."
    )
    with one_thread():
        digits = read_digits(SEED)
        base = train(new_network(SEED), digits.base, BASE_SCHEDULE, SEED)
        tuned = {
            name: train(base, digits.tuning.of_classes(classes), TUNING_SCHEDULE, SEED)
            for name, classes in CLASSES.items()
        }
    save_model(folder / "base", base)
    return Models(digits, base, tuned)


class _Story:
    """The peers from their first command to the last."""

    def __init__(self, cluster: Cluster, models: Models, say: Say) -> None:
        self._cluster = cluster
        self._models = models
        self._say = say
        self._peers = {name: cluster.add_peer(name) for name in (*CLASSES, INTRUDER)}
        for name, weights in models.tuned.items():
            save_model(self._peers[name].folder / "finetune", weights)

    def play(self) -> Outcome:
        """Play it and return what came of it."""
        self._meet()
        honest = self._contribute()
        self._say(
            "[4/6] Every peer computes the merged model by itself, from its own copy of"
            "\n      what gossip brought. No peer sends a merged model to another."
        )
        merged = self._resolve("merged")
        poison_id = self._poison(honest)
        self._say("      It has arrived everywhere. All merge again, with the poison:")
        poisoned = self._resolve("poisoned")
        roots = self._ban(honest, poison_id)
        self._say("      Every peer knows of the ban. All merge again, without it:")
        after_ban = self._resolve("after-ban")
        tuned = tuple(self._models.tuned.values())
        ends = [self._resolved(n) for n in ("merged", "poisoned", "after-ban")]
        of_ends = [self._accuracy(weights) for weights in ends]
        test = self._models.digits.test
        return Outcome(
            names=tuple(self._peers),
            classes=tuple(CLASSES.values()),
            test_images=len(test.labels),
            accuracy=Accuracy(
                base=self._accuracy(self._models.base),
                fine_tunes=tuple(self._accuracy(weights) for weights in tuned),
                merged=of_ends[0],
                poisoned=of_ends[1],
                after_ban=of_ends[2],
            ),
            by_digit=tuple(
                accuracy_by_digit(weights, test)
                for weights in (self._models.base, *tuned, *ends)
            ),
            merged=merged,
            poisoned=poisoned,
            after_ban=after_ban,
            roots=roots,
        )

    def _meet(self) -> None:
        """Four peers: one creates the space, the others join it with a ticket each."""
        self._say(
            "[2/6] Four peers, each with a home and a process of its own. alice creates"
            "\n      a shared merge; a ticket lets another peer in."
        )
        alice = self._peers[OWNER]
        joiners = [peer for peer in self._peers.values() if peer is not alice]
        cluster = self._cluster
        cluster.run_each(
            dict.fromkeys(self._peers.values(), ("init", "--no-passphrase"))
        )
        create = ("space", "create", SPACE, "--base", "../base", "--strategy", "linear")
        cluster.run(alice, *create)
        cluster.start_nodes([alice])
        tickets = {
            peer: cluster.run(alice, "space", "ticket", "--space", SPACE)
            for peer in joiners
        }
        cluster.run_each(
            {
                peer: ("space", "join", ticket, "--base", "../base")
                for peer, ticket in tickets.items()
            }
        )
        cluster.start_nodes(joiners)

    def _contribute(self) -> frozenset[str]:
        """The honest peers contribute; return the ids of what they gave."""
        self._say(
            "[3/6] Three of them contribute. Only the signed records and the tensors"
            "\n      that others lack travel, by gossip from peer to peer."
        )
        givers = [self._peers[name] for name in CLASSES]
        given = self._contents(givers, "finetune")
        self._cluster.wait_for(given)
        self._say("      Every peer now has all three contributions.")
        return given

    def _poison(self, honest: frozenset[str]) -> str:
        """The fourth peer contributes a model made to do harm; return its id."""
        self._say(
            "[5/6] mallory contributes a poisoned model: ten times the merge's progress,"
            "\n      backwards. It is a valid contribution, so gossip carries it too."
        )
        mallory = self._peers[INTRUDER]
        merged = load_model(mallory.folder / "merged")
        save_model(mallory.folder / "poison", poison(self._models.base, merged))
        (content,) = self._contents([mallory], "poison")
        self._cluster.wait_for({*honest, content})
        return content

    def _ban(self, honest: frozenset[str], poison_id: str) -> tuple[str, ...]:
        """The owner bans the poison; return each peer's record root after it."""
        self._say(
            "[6/6] alice owns the space and bans that content. The ban spreads like any"
            "\n      record, and wins over every add of the same content, old or new."
        )
        self._cluster.run(self._peers[OWNER], "ban", poison_id, "--space", SPACE)
        views = self._cluster.wait_for(honest)
        return tuple(views[peer].record_root for peer in self._peers.values())

    def _contents(self, givers: Iterable[Peer], model: str) -> frozenset[str]:
        """Let some peers contribute the model folder of that name; return the ids."""
        asked = dict.fromkeys(givers, ("contribute", model, "--space", SPACE))
        answers = self._cluster.json_each(asked)
        return frozenset(_field(answer, "content") for answer in answers.values())

    def _resolve(self, model: str) -> Stage:
        """Let every peer resolve into a folder of its own; return what each got."""
        peers = self._peers.values()
        asked = dict.fromkeys(peers, ("resolve", "--space", SPACE, "--out", model))
        answers = self._cluster.json_each(asked)
        folders = [peer.folder / model for peer in peers]
        return Stage(
            tuple(_field(answers[peer], "model_digest") for peer in peers),
            tuple((folder / MODEL_FILE).read_bytes() for folder in folders),
            tuple((folder / RESOLUTION_FILE).read_bytes() for folder in folders),
        )

    def _resolved(self, model: str) -> Weights:
        """Return what alice resolved; the others' bytes are compared with hers."""
        return load_model(self._peers[OWNER].folder / model)

    def _accuracy(self, weights: Weights) -> float:
        return accuracy(weights, self._models.digits.test)


def _field(answer: Mapping[str, object], name: str) -> str:
    value = answer.get(name)
    if not isinstance(value, str):
        raise DemoError(f"the answer of a command has no text {name!r}: {answer}")
    return value
