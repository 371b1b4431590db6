"""What the verbs promise to commands and to the running node."""

import contextlib
import json
import shutil
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from crdtmerge.bodies import SpaceId
from crdtmerge.digest import BlobId
from crdtmerge.errors import (
    BadInputError,
    BaseMismatchError,
    ConflictError,
    ContentMissingError,
    CrdtMergeError,
    MalformedTicketError,
    NotAllowedError,
    NotFoundError,
    NothingToResolveError,
    UnknownNameError,
    VerificationError,
    VersionsApartError,
)
from crdtmerge.sync.messages import Heartbeat, ProbeReply
from nodes.attesting import Attested
from nodes.holding import Held
from nodes.operations.verbs import VERBS, Operations
from nodes.quotas import Quotas
from nodes.store.blobs import FileBlobs
from nodes.ticket import decode_ticket
from tests.homes import Fleet, records_of, snapshot, write_model


class Setting:
    """One home with a space, its base, and a few fine-tunes on disk."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.fleet = Fleet.at(folder)
        self.home = self.fleet.init("home")
        self.base = write_model(folder / "base", 0)
        self.tunes = [
            write_model(folder / f"tune{i}", i, near=self.base) for i in (1, 2, 3)
        ]
        self.call("space_create", name="digits", base=self.base, strategy="linear")

    def call(self, verb: str, **arguments: object) -> Any:
        """Run one verb on the home."""
        return self.fleet.call(self.home, verb, **arguments)

    def contribute(self, index: int, **arguments: object) -> Any:
        """Contribute one of the fine-tunes."""
        return self.call("contribute", path=self.tunes[index], **arguments)

    def status(self) -> Any:
        """Return the status of the space."""
        (space,) = self.call("status")["spaces"]
        return space


@pytest.fixture
def setting(tmp_path: Path) -> Setting:
    return Setting(tmp_path)


def refused(
    setting: Setting, error: type[CrdtMergeError], verb: str, **arguments: object
) -> CrdtMergeError:
    """Check that a verb refuses and leaves the home as it was; return the error."""
    before = snapshot(setting.home)
    with pytest.raises(error) as found:
        setting.call(verb, **arguments)
    assert snapshot(setting.home) == before
    return found.value


# --- spaces ----------------------------------------------------------------------------


def test_creating_a_space_leaves_the_base_where_it_is(setting: Setting) -> None:
    """The base's tensors are referenced: no copy of their bytes in the home."""
    copied = sum(
        file.stat().st_size
        for file in (setting.home / "blobs").rglob("*")
        if file.is_file()
    )
    model = (setting.base / "model.safetensors").stat().st_size
    assert copied < model  # a manifest and nothing else
    space = setting.status()
    assert space["name"] == "digits"
    assert space["rank"] == "owner"
    assert space["recipe"]["strategy"] == "linear/1"


def test_a_space_name_is_given_once_in_a_home(setting: Setting) -> None:
    """A second space of the same name would make `--space NAME` ambiguous."""
    refused(
        setting,
        ConflictError,
        "space_create",
        name="digits",
        base=setting.base,
        strategy="linear",
    )


@pytest.mark.parametrize("name", ["", " x", "a\nb", "x" * 65])
def test_a_name_that_no_record_can_carry_is_bad_input(
    setting: Setting, name: str
) -> None:
    """The user typed it: exit code 3, not a peer's fault."""
    refused(
        setting,
        BadInputError,
        "space_create",
        name=name,
        base=setting.base,
        strategy="linear",
    )


def test_an_unknown_strategy_comes_with_a_suggestion(setting: Setting) -> None:
    """A typing error is answered with the name that was meant."""
    error = refused(
        setting,
        UnknownNameError,
        "space_create",
        name="x",
        base=setting.base,
        strategy="tie",
    )
    assert "ties" in error.hint


def test_an_unknown_parameter_comes_with_a_suggestion(setting: Setting) -> None:
    """Also a parameter is suggested."""
    error = refused(
        setting,
        UnknownNameError,
        "space_create",
        name="x",
        base=setting.base,
        strategy="ties",
        params={"densty": "0.5"},
    )
    assert "density" in error.hint


def test_an_open_space_says_that_bans_of_authors_are_cosmetic(setting: Setting) -> None:
    """Keys cost nothing where anybody may contribute."""
    made = setting.call(
        "space_create", name="all", base=setting.base, strategy="ties", mode="open"
    )
    assert "keys cost nothing" in made["notes"][0]


def test_an_ambiguous_space_is_listed(setting: Setting) -> None:
    """With two spaces, a command must say which; the hint has both."""
    setting.call("space_create", name="second", base=setting.base, strategy="ties")
    error = refused(setting, BadInputError, "contribute", path=setting.tunes[0])
    assert "digits" in error.hint
    assert "second" in error.hint
    assert setting.contribute(0, space="second")["new"]


def test_an_unknown_space_is_answered_with_those_that_exist(setting: Setting) -> None:
    """Nobody has to look up what there is."""
    error = refused(
        setting, NotFoundError, "contribute", path=setting.tunes[0], space="nope"
    )
    assert "digits" in error.hint


def test_a_ticket_needs_an_address(setting: Setting) -> None:
    """Without one it would be useless, so none is made and no invite kept."""
    refused(setting, NotFoundError, "space_ticket")


class Live:
    """A node that listens but has no peer; its time passes in pauses alone."""

    addresses = ("127.0.0.1:1",)
    join_addresses = ("127.0.0.1:2",)

    def __init__(self) -> None:
        self.tried: list[bytes] = []
        self.time = 0.0

    def want_probes(self) -> None:
        """Ask nobody."""

    def probed(self) -> dict[bytes, ProbeReply | None]:
        """Nobody was asked."""
        return {}

    def apart(self) -> dict[bytes, VersionsApartError]:
        """All speak our version."""
        return {}

    def connected(self) -> list[bytes]:
        """Return no peer."""
        return []

    def listed(self) -> dict[bytes, tuple[str, ...]]:
        """Return nothing: it was started without a list."""
        return {}

    def moved(self, node: bytes) -> None:
        """Note it."""
        self.tried.append(node)

    def reports(self, _space: SpaceId, /) -> dict[bytes, Heartbeat | None]:
        """Return none."""
        return {}

    def attested(self, _space: SpaceId, /) -> Attested:
        """Return nothing: nobody is heard."""
        return Attested()

    def want_tensors(self, _space: SpaceId, _node: bytes, /) -> None:
        """Ask nobody."""

    def brought(self) -> int:
        """Return nothing."""
        return 0

    def needing(
        self,
    ) -> contextlib.AbstractContextManager[Callable[[Iterable[BlobId]], None]]:
        """Wait for what comes."""
        return contextlib.nullcontext(lambda _: None)

    def arriving(self) -> dict[BlobId, int]:
        """Return nothing."""
        return {}

    quotas = Quotas()

    def limit(self, quotas: Quotas) -> None:
        """Hold to others."""
        self.quotas = quotas

    def waiting(self, _space: SpaceId) -> list[Held]:
        """Return nothing."""
        return []

    def upkeep(self) -> dict[str, object]:
        """Return nothing: no node runs."""
        return {}

    def metrics(self) -> dict[str, object]:
        """Return nothing."""
        return {}

    def now(self) -> float:
        """Return how long was paused."""
        return self.time

    def pause(self, seconds: float) -> None:
        """Let no time pass in truth."""
        self.time += seconds


def test_a_ticket_names_space_base_and_addresses(setting: Setting) -> None:
    """What a joiner needs is in the ticket, and its secret opens this home."""
    with setting.fleet.open(setting.home, live=Live()) as (home, spaces, verbs):
        made = verbs.call("space_ticket", {"space": "digits"}, lambda _: None)
        ticket = decode_ticket(str(made["ticket"]))
        (space,) = spaces.all()
        assert (ticket.space, ticket.base) == (space, spaces.view(space).base)
        assert ticket.addresses == ("127.0.0.1:2",)
        assert home.local.has_invite(space, ticket.secret)


def test_joining_with_another_base_is_refused_before_anything_is_sent(
    setting: Setting,
) -> None:
    """The message has the name of the space and both content ids."""
    ticket = live_ticket(setting)
    other = setting.fleet.init("other")
    before = snapshot(other)
    with pytest.raises(BaseMismatchError) as found:
        setting.fleet.call(other, "space_join", ticket=ticket, base=setting.tunes[0])
    ids = (setting.status()["base"][:12], "digits", "3 tensors")
    assert all(text in str(found.value) for text in ids)
    assert snapshot(other) == before


def live_ticket(setting: Setting) -> str:
    """Return a ticket of a node that no longer answers."""
    with setting.fleet.open(setting.home, live=Live()) as (_, _, verbs):
        return str(verbs.call("space_ticket", {}, lambda _: None)["ticket"])


@pytest.mark.parametrize("cut", [0, 10, -1])
def test_a_cut_ticket_is_refused(setting: Setting, cut: int) -> None:
    """The checksum finds it; nothing is read or sent."""
    ticket = live_ticket(setting)[:cut]
    refused(
        setting, MalformedTicketError, "space_join", ticket=ticket, base=setting.base
    )


def test_joining_again_only_moves_the_base(setting: Setting) -> None:
    """A moved base is told with the old ticket, and no peer is asked."""
    moved = setting.folder / "moved"
    ticket = live_ticket(setting)
    setting.contribute(0)
    shutil.move(setting.base, moved)
    with pytest.raises(ContentMissingError):
        setting.call("resolve", out=setting.folder / "out")
    answer = setting.call("space_join", ticket=ticket, base=moved)
    assert answer["joined"] is False
    assert setting.call("resolve", out=setting.folder / "out")["tensors"] == 3


# --- contributing ----------------------------------------------------------------------


def test_a_contribution_is_visible_whole_and_deduplicated(setting: Setting) -> None:
    """A tensor that the base has too is not stored again."""
    same = write_model(setting.folder / "same", 9, near=setting.base)
    first = setting.contribute(0, note="hello", weight="0.5")
    again = setting.call("contribute", path=same, note="other")
    assert first["new_bytes"] == first["bytes"] == again["new_bytes"]
    found = {c["content"]: c for c in setting.status()["contributions"]}
    assert found[first["content"]]["weight"] == "0.5"
    assert found[first["content"]]["notes"] == ["hello"]
    assert all(c["complete"] for c in found.values())


def test_contributing_the_same_again_signs_nothing(setting: Setting) -> None:
    """It is no error: the answer says that nothing is new."""
    first = setting.contribute(0)
    before = records_of(setting.home)
    again = setting.contribute(0)
    assert (again["new"], again["content"]) == (False, first["content"])
    assert again["new_bytes"] == 0
    assert "already" in again["notes"][0]
    assert records_of(setting.home) == before


def test_a_new_weight_or_note_is_a_new_record(setting: Setting) -> None:
    """Also a removed contribution comes back by contributing it again."""
    content = setting.contribute(0)["content"]
    assert setting.contribute(0, note="now with a note")["new"]
    assert setting.contribute(0, weight="0.5")["new"]
    setting.call("remove", id=content)
    assert setting.status()["contributions"] == []
    assert setting.contribute(0)["new"]
    assert len(setting.status()["contributions"]) == 1


def test_a_lower_weight_beside_an_earlier_add_is_explained(setting: Setting) -> None:
    """The largest weight of the live adds counts, and the author is told."""
    setting.contribute(0)
    answer = setting.contribute(0, weight="0.5")
    assert "earlier add" in answer["notes"][0]
    assert setting.status()["contributions"][0]["weight"] == "1"


@pytest.mark.parametrize("weight", ["-1", "1e3", "nan", "1001", "0.0000000001", "x"])
def test_a_weight_outside_of_the_grammar_is_refused(
    setting: Setting, weight: str
) -> None:
    """Weights are plain decimals from 0 to 1000."""
    refused(setting, BadInputError, "contribute", path=setting.tunes[0], weight=weight)


def test_a_note_above_the_limit_is_refused(setting: Setting) -> None:
    """Before the model is read."""
    refused(
        setting, BadInputError, "contribute", path=setting.tunes[0], note="x" * 1025
    )


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"layer_bias": np.full(5, np.nan, np.float32)}, "layer.bias"),
        ({"layer_bias": np.full(5, np.inf, np.float32)}, "layer.bias"),
        ({"layer_bias": np.full(5, 1e30, np.float32)}, "layer.bias"),
        ({"layer_bias": np.zeros(6, np.float32)}, "layer.bias"),
        ({"layer_bias": np.zeros(5, np.int32)}, "layer.bias"),
        ({"layer_bias": None}, "layer.bias"),
        ({"more": np.zeros(5, np.float32)}, "more"),
    ],
)
def test_a_model_that_cannot_be_merged_is_refused(
    setting: Setting, changed: dict[str, object], said: str
) -> None:
    """NaN, infinity, headroom, shape, dtype, names: the message has the tensor."""
    bad = write_model(setting.folder / "bad", 7, near=setting.base, **changed)
    error = refused(setting, BadInputError, "contribute", path=bad)
    assert said in str(error)


def test_a_truncated_file_is_refused(setting: Setting) -> None:
    """A download that was cut must not become a contribution."""
    file = setting.tunes[0] / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-7])
    refused(setting, BadInputError, "contribute", path=setting.tunes[0])


def test_a_full_disk_leaves_no_half_of_a_model(
    setting: Setting, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The manifest does not fit: the three tensors go again."""
    from crdtmerge.errors import MachineError

    real, calls = FileBlobs.reserve, []

    def reserve(self: FileBlobs, size: int, **beside: int) -> None:
        calls.append(size)
        if len(calls) == 4:
            raise MachineError("the disk is full")
        real(self, size, **beside)

    monkeypatch.setattr(FileBlobs, "reserve", reserve)
    refused(setting, MachineError, "contribute", path=setting.tunes[0])
    assert len(calls) == 4  # once for each tensor, once for the manifest


def test_a_failing_commit_leaves_no_blob(
    setting: Setting, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When the record cannot be kept, the bytes go too."""
    from crdtmerge.errors import MachineError
    from nodes.store.sqlite import SqliteRecords

    def append(*_: object) -> None:
        raise MachineError("the disk is full")

    monkeypatch.setattr(SqliteRecords, "append", append)
    refused(setting, MachineError, "contribute", path=setting.tunes[0])


def test_a_referenced_contribution_stays_where_it_is(setting: Setting) -> None:
    """Its bytes are verified on use: a change is found, not merged."""
    setting.contribute(0, reference=True)
    out = setting.folder / "out"
    first = setting.call("resolve", out=out)
    assert first["tensors"] == 3
    write_model(setting.tunes[0], 99, near=setting.base)
    known = setting.call("resolve", out=setting.folder / "known")
    assert known["model_digest"] == first["model_digest"]  # of what was made before
    for folder in (out, setting.folder / "known"):
        shutil.rmtree(folder)
    with pytest.raises(CrdtMergeError) as found:
        setting.call("resolve", out=setting.folder / "again")
    assert found.value.exit_code in {4, 8}
    assert not (setting.folder / "again").exists()


# --- removing and banning --------------------------------------------------------------


def test_an_add_is_removed_by_its_own_id(setting: Setting) -> None:
    """Removing one of two adds leaves the content in the merge, and says so."""
    first = setting.contribute(0)
    setting.contribute(0, note="again")
    answer = setting.call("remove", id=first["record"][:16])
    assert answer["adds"] == [first["record"]]
    assert answer["still_visible"]
    setting.call("remove", id=first["content"][:10])
    assert setting.status()["contributions"] == []


@pytest.mark.parametrize("verb", ["remove", "ban"])
@pytest.mark.parametrize(
    ("given", "error"),
    [("zz", BadInputError), ("ab", BadInputError), ("0000000000", NotFoundError)],
)
def test_an_id_that_fits_nothing_is_refused(
    setting: Setting, verb: str, given: str, error: type[CrdtMergeError]
) -> None:
    """No hex, too short, unknown: three different answers to three mistakes."""
    setting.contribute(0)
    refused(setting, error, verb, id=given)


def test_a_banned_content_stays_out(setting: Setting) -> None:
    """It cannot be contributed again; a second ban says that nothing changed."""
    content = setting.contribute(0)["content"]
    setting.contribute(1)
    banned = setting.call("ban", id=content[:12])
    assert (banned["subject"], banned["hidden"], banned["new"]) == ("content", 1, True)
    assert [b["target"] for b in setting.status()["banned"]] == [content]
    refused(setting, NotAllowedError, "contribute", path=setting.tunes[0])
    before = records_of(setting.home)
    assert setting.call("ban", id=content)["new"] is False
    assert records_of(setting.home) == before


def test_nobody_bans_themselves(setting: Setting) -> None:
    """An owner's slip would take away what nobody could give back."""
    setting.contribute(0)
    author = setting.call("whoami")["author"]
    refused(setting, NotAllowedError, "ban", id=author[:16])


# --- resolving and verifying -----------------------------------------------------------


def test_nothing_to_resolve_is_said(setting: Setting) -> None:
    """A space without a contribution has no model; no folder is left."""
    refused(setting, NothingToResolveError, "resolve", out=setting.folder / "out")
    assert not (setting.folder / "out").exists()


def test_a_model_does_not_depend_on_threads_or_on_order(setting: Setting) -> None:
    """Two homes' worth of order: the digest is of the set alone."""
    for index in (0, 1, 2):
        setting.contribute(index)
    digests = {
        setting.call("resolve", out=setting.folder / f"out{n}", threads=n)[
            "model_digest"
        ]
        for n in (1, 2, 5)
    }
    assert len(digests) == 1
    assert (setting.folder / "out1" / "config.json").is_file()


def test_exploring_leaves_the_shared_recipe_alone(setting: Setting) -> None:
    """Another strategy, parameter or set gives another merge id and says `explored`."""
    for index in (0, 1):
        setting.contribute(index)
    shared = setting.call("resolve", out=setting.folder / "shared")
    before = records_of(setting.home)
    contents = shared["contributions"]
    trials: list[dict[str, object]] = [
        {"strategy": "ties", "params": {"density": "0.5"}},
        {"strategy": "dare_ties"},
        {"without": [contents[0][:8]]},
    ]
    for number, trial in enumerate(trials):
        out = setting.folder / f"trial{number}"
        answer = setting.call("resolve", out=out, **trial)
        assert answer["explored"]
        assert answer["merge_id"] != shared["merge_id"]
        assert setting.call("verify", dir=out)["recomputed"]
        assert setting.call("verify", dir=out)["current"] is False
    assert not shared["explored"]
    assert shared["merge_id"] == setting.status()["merge_id"]
    assert records_of(setting.home) == before


def test_a_folder_in_the_way_is_kept(setting: Setting) -> None:
    """Without --force nothing is replaced."""
    setting.contribute(0)
    out = setting.folder / "out"
    setting.call("resolve", out=out)
    before = (out / "model.safetensors").read_bytes()
    setting.contribute(1)
    refused(setting, ConflictError, "resolve", out=out)
    assert (out / "model.safetensors").read_bytes() == before
    setting.call("resolve", out=out, force=True)
    assert (out / "model.safetensors").read_bytes() != before


def test_verify_says_how_far_it_could_look(setting: Setting) -> None:
    """A home of the space computes the model again; another one checks digests."""
    setting.contribute(0)
    out = setting.folder / "out"
    digest = setting.call("resolve", out=out)["model_digest"]
    full = setting.call("verify", dir=out)
    assert (full["recomputed"], full["current"]) == (True, True)
    assert full["model_digest"] == digest
    other = setting.fleet.init("other")
    partly = setting.fleet.call(other, "verify", dir=out)
    assert partly["recomputed"] is False
    assert "does not take part" in str(partly["reason"])


def test_verify_computes_again_what_is_no_longer_in_the_merge(setting: Setting) -> None:
    """A resolution of yesterday names contributions that a ban has hidden since."""
    content = setting.contribute(0)["content"]
    setting.contribute(1)
    out = setting.folder / "out"
    setting.call("resolve", out=out)
    setting.call("ban", id=content)
    answer = setting.call("verify", dir=out)
    assert (answer["recomputed"], answer["current"]) == (True, False)


def test_a_forged_resolution_is_found_by_computing_again(setting: Setting) -> None:
    """Digests that fit forged bytes do not help: the contributions make others."""
    setting.contribute(0)
    setting.contribute(1)
    out, fake = setting.folder / "out", setting.folder / "fake"
    setting.call("resolve", out=out)
    content = setting.call("resolve", out=fake, strategy="ties")["contributions"][0]
    setting.call("verify", dir=fake)
    honest = json.loads((out / "resolution.json").read_text())
    forged = json.loads((fake / "resolution.json").read_text())
    for field in ("recipe", "merge_id", "strategies", "seeds"):
        forged[field] = honest[field]
    text = json.dumps(forged, sort_keys=True, indent=2) + "\n"
    (fake / "resolution.json").write_text(text)
    with pytest.raises(VerificationError, match="computed again"):
        setting.call("verify", dir=fake)
    assert content in text


def test_a_weight_that_nobody_gave_fails_verification(setting: Setting) -> None:
    """With one contribution the weight changes no byte, so it is checked by itself."""
    setting.contribute(0)
    out = setting.folder / "out"
    setting.call("resolve", out=out)
    file = out / "resolution.json"
    file.write_text(file.read_text().replace('"weight": "1"', '"weight": "2"'))
    with pytest.raises(VerificationError, match="weight 2"):
        setting.call("verify", dir=out)


def test_a_changed_base_is_no_forged_model(setting: Setting) -> None:
    """The digests still hold; that the model was not computed again is said."""
    setting.contribute(0)
    out = setting.folder / "out"
    setting.call("resolve", out=out)
    file = setting.base / "model.safetensors"
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(data)
    answer = setting.call("verify", dir=out)
    assert (answer["digests"], answer["recomputed"]) == (True, False)
    assert "was changed" in answer["reason"]


def test_the_base_is_never_overwritten(setting: Setting) -> None:
    """Not with force, and not where it is itself a merged model."""
    setting.contribute(0)
    (setting.base / "resolution.json").write_text("{}")
    refused(setting, ConflictError, "resolve", out=setting.base, force=True)


def test_a_changed_byte_fails_verification(setting: Setting) -> None:
    """Exit code 8, and the tensor is named."""
    setting.contribute(0)
    out = setting.folder / "out"
    setting.call("resolve", out=out)
    file = out / "model.safetensors"
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(data)
    with pytest.raises(VerificationError, match="tensor"):
        setting.call("verify", dir=out)


# --- the calls themselves --------------------------------------------------------------


def test_every_verb_answers_in_json(setting: Setting) -> None:
    """What a verb answers travels over the control socket as it is."""
    content = setting.contribute(0)["content"]
    out = setting.folder / "out"
    answers = [
        setting.call("whoami"),
        setting.call("space_list"),
        setting.call("status"),
        setting.call("resolve", out=out),
        setting.call("verify", dir=out),
        setting.call("ban", id=content),
    ]
    for answer in answers:
        assert json.loads(json.dumps(answer)) == answer


def test_an_unknown_verb_is_answered(setting: Setting) -> None:
    """A command of a newer version meets an older node."""
    error = refused(setting, BadInputError, "dance")
    assert "version" in error.hint


@pytest.mark.parametrize(
    ("verb", "arguments"),
    [
        ("contribute", {"path": "relative"}),
        ("contribute", {"path": 7}),
        ("contribute", {}),
        ("resolve", {"out": "/x", "threads": "two"}),
        ("resolve", {"out": "/x", "without": "abc"}),
        ("space_create", {"name": "x", "base": "/x", "strategy": 1}),
        ("space_create", {"name": "x", "base": "/x", "strategy": "ties", "params": 3}),
    ],
)
def test_arguments_of_another_type_are_refused(
    setting: Setting, verb: str, arguments: dict[str, object]
) -> None:
    """They come from another process, so they are checked."""
    refused(setting, BadInputError, verb, **arguments)


def test_reading_verbs_need_no_lock(setting: Setting) -> None:
    """They work on a home opened for reading while another process holds the lock."""
    setting.contribute(0)
    with (
        setting.fleet.open(setting.home),
        setting.fleet.open(setting.home, write=False) as (_, _, verbs),
    ):
        asked = {"out": str(setting.folder / "out")}
        digest = verbs.call("resolve", asked, lambda _: None)["model_digest"]
        found = verbs.call("verify", {"dir": asked["out"]}, lambda _: None)
        assert found["model_digest"] == digest
        assert verbs.call("status", {}, lambda _: None)["running"] is False


def test_a_node_announces_itself_once(setting: Setting) -> None:
    """Starting again at the same address says nothing new."""
    with setting.fleet.open(setting.home) as (home, spaces, verbs):
        (space,) = spaces.all()
        for address in ("127.0.0.1:1", "127.0.0.1:1", "127.0.0.1:2"):
            verbs.announce_node(home.node.public, (address,))
        assert spaces.view(space).nodes == {home.node.public: ("127.0.0.1:2",)}
        assert spaces.records.last(space) == 4  # genesis, recipe and two addresses


def test_commands_at_once_do_not_fork_their_author(setting: Setting) -> None:
    """Several threads sign at once, as in a node: each record has its own number."""
    with setting.fleet.open(setting.home) as (_, spaces, verbs):
        asked = [
            {"path": str(tune), "note": note}
            for tune in setting.tunes
            for note in ("a", "b", "c", "d")
        ]
        with ThreadPoolExecutor(4) as threads:
            calls = [
                threads.submit(verbs.call, "contribute", item, lambda _: None)
                for item in asked
            ]
            assert all(call.result()["new"] for call in calls)
        (space,) = spaces.all()
        numbers = [r.author_seq for r in spaces.opset(space).records.values()]
        assert sorted(numbers) == list(range(len(asked) + 2))


def test_progress_of_long_work_is_told(setting: Setting) -> None:
    """Every stage of a contribution ends at its total."""
    told: list[Any] = []
    with setting.fleet.open(setting.home) as (_, _, verbs):
        assert isinstance(verbs, Operations)
        verbs.call("contribute", {"path": str(setting.tunes[0])}, told.append)
    stages = {item["work"]: item for item in told}
    assert set(stages) == {"storing", "inspecting"}  # one pass each, one bar
    assert all(item["done"] == item["total"] for item in stages.values())


def test_the_table_of_verbs_is_complete() -> None:
    """Every command that touches a home has its verb."""
    assert set(VERBS) == {
        "whoami",
        "audit",
        "attested_tensors",
        "space_list",
        "status",
        "resolve",
        "verify",
        "space_create",
        "space_join",
        "space_ticket",
        "space_ticket_revoke",
        "space_grant",
        "space_revoke",
        "space_revoke_lift",
        "space_members",
        "space_approve",
        "space_pending",
        "space_prove",
        "space_forks",
        "space_forks_publish",
        "space_forks_lift",
        "space_leave",
        "inspect",
        "space_compact",
        "doctor_reach",
        "space_export",
        "space_import",
        "contribute",
        "remove",
        "ban",
        "ban_lift",
        "check",
        "evaluation_add",
        "evaluation_list",
        "recipe_set",
        "recipe_show",
        "recipe_check",
        "log",
        "peers_add",
        "peers_remove",
        "peers_list",
        "node_metrics",
        "node_quotas",
        "store_show",
        "store_gc",
        "store_quota",
        "store_adopt",
        "store_pin",
        "store_unpin",
        "store_pack",
        "store_unpack",
        "store_fsck",
        "store_await",
        "fetch",
        "wait",
    }
