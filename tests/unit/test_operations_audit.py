"""Homes attest what they resolve, and an audit tells whose fault a difference is."""

from collections.abc import Collection
from dataclasses import replace
from fractions import Fraction
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest

from crdtmerge.bodies import SpaceId
from crdtmerge.digest import BlobId, chunk_digests
from crdtmerge.errors import (
    BadInputError,
    NotFoundError,
    UpgradeNeededError,
    VerificationError,
)
from crdtmerge.formats.header import read_header
from crdtmerge.manifest import TensorEntry
from crdtmerge.numerics import CONTRACT_VERSION
from crdtmerge.resolve.resolution import model_digest
from crdtmerge.resolve.verify import read_resolution
from nodes.operations.auditing import (
    BOTH,
    FOLDER,
    FORMS,
    MAKER,
    OURS,
    PEER,
    UNPLANNED,
    Claim,
    draw,
    missed,
)
from nodes.store.attested import AttestedFiles, Made
from nodes.witness import Witness
from tests.small_adapters import write_adapter
from tests.unit.test_operations_members import Cast

ZERO = BlobId(bytes(32))


class Home(Cast):
    """One home with two contributions, and the model that it resolved."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, alone=True)
        for index in (0, 1):
            self.offers(self.owner, index)
        self.out = folder / "out"
        self.answer = self.call(self.owner, "resolve", out=self.out)
        (self.space,) = self.call(self.owner, "status")["spaces"]

    @property
    def files(self) -> AttestedFiles:
        """What the home attests."""
        return AttestedFiles(self.owner)

    @property
    def made(self) -> Made:
        """What it attests of its space."""
        made = self.files.load(self.id)
        assert made is not None
        return made

    @property
    def id(self) -> SpaceId:
        """Its space."""
        return SpaceId(bytes.fromhex(self.space["id"]))

    def audit(self, **asked: object) -> Any:
        """Audit all of it, unless told otherwise."""
        return self.call(self.owner, "audit", **({"share": "100%"} | asked))

    def peer(self, tensors: Collection[TensorEntry], **other: object) -> Any:
        """Return what a peer that attests these tensors is taken to say."""
        return {
            "space": self.id.hex(),
            "node": "ab" * 32,
            "authors": [],
            "merge_id": self.made.merge_id.hex(),
            "model_digest": model_digest(tensors).hex(),
            "contract": CONTRACT_VERSION,
            "platform": "elsewhere",
            "counter": 1,
            "tensors": [
                [t.name, t.dtype, list(t.shape), t.blob.hex()] for t in tensors
            ],
        } | other


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path)


def changed(tensors: Collection[TensorEntry], *names: str) -> tuple[TensorEntry, ...]:
    return tuple(replace(t, blob=ZERO) if t.name in names else t for t in tensors)


def flip(folder: Path, name: str) -> None:
    """Change one bit of a tensor in the model's file."""
    path = folder / "model.safetensors"
    (stored,) = [t for t in read_header(path) if t.name == name]
    data = bytearray(path.read_bytes())
    data[stored.offset] ^= 1
    path.write_bytes(data)


# --- what is attested -------------------------------------------------------------------


def test_a_whole_resolve_is_attested_and_status_says_so(home: Home) -> None:
    """With no node running, this home alone is known."""
    assert home.answer["attested"] is True
    told = home.space["attested"]
    assert told["model_digest"] == home.answer["model_digest"]
    assert (told["agree"], told["differ"], told["resolved_here"]) == (1, 0, True)
    (node,) = told["nodes"]
    assert (node["me"], node["verdict"]) == (True, "agrees")
    assert node["merge_id"] == home.answer["merge_id"]


def test_explorations_take_nobodys_place(home: Home) -> None:
    """Nor does what only tells what a resolve would do."""
    before = home.made
    content = home.answer["contributions"][0]
    asked: list[dict[str, object]] = [
        {"strategy": "ties"},
        {"without": [content]},
        {"io_budget": "1GiB"},
    ]
    for number, words in enumerate(asked):
        out = home.fleet.folder / f"other{number}"
        assert home.call(home.owner, "resolve", out=out, **words)["attested"] is False
    home.call(home.owner, "resolve", out=home.fleet.folder / "dry", explain=True)
    assert home.made == before


def test_the_counter_only_rises_whatever_the_clock_does(home: Home) -> None:
    """Set back, it is passed by one at a time; gone with the home, the clock carries on."""
    first = home.made.counter
    assert first == int(home.fleet.clock * 1000)
    home.fleet.clock -= 5000
    home.call(home.owner, "resolve", out=home.out, force=True)
    assert home.made.counter == first + 1
    home.fleet.clock += 9000
    home.call(home.owner, "resolve", out=home.out, force=True)
    assert home.made.counter == int(home.fleet.clock * 1000)


def test_a_later_state_is_another_model_and_no_mismatch(home: Home) -> None:
    """What was attested of the state before is told as such."""
    home.offers(home.owner, 2)
    (space,) = home.call(home.owner, "status")["spaces"]
    told = space["attested"]
    assert (told["agree"], told["differ"], told["other_states"]) == (0, 0, 1)
    assert told["model_digest"] is None
    assert not told["resolved_here"]


def test_the_running_node_signs_what_a_resolve_left_once(home: Home) -> None:
    """A damaged file is like none; one that is new is told again."""
    with home.fleet.open(home.owner) as (opened, _, _):
        witness = Witness(opened)
        assert witness.changed()
        (item,) = witness.news()
        assert item.tensors == home.made.tensors
        assert not witness.changed()
        assert witness.news() == []
        home.files.keep(home.id, home.made, b"again")
        home.files.keep(SpaceId(bytes(32)), home.made, b"of a space that is not here")
        assert len(witness.news()) == 1
        path = home.owner / "attested" / home.id.hex()
        data = path.read_bytes()
        path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
        assert witness.news() == []
        assert home.files.load(home.id) is None


# --- a folder ---------------------------------------------------------------------------


def test_an_honest_model_passes(home: Home) -> None:
    """All of it, or at least one tensor; the answer says what a sample can miss."""
    whole = home.audit(dir=home.out)
    assert whole["ok"]
    assert whole["checked"] == whole["tensors"] == home.answer["tensors"]
    assert whole["checked_bytes"] == whole["bytes"] == home.answer["bytes"]
    assert whole["missed"] == {"one_tensor": 0.0, "one_percent": 0.0}
    one = home.audit(dir=home.out, share="1%")
    assert one["checked"] == 1
    assert one["missed"]["one_tensor"] == pytest.approx(1 - 1 / one["tensors"])


@pytest.mark.parametrize("strategy", ["geometric_median", "multi_krum", "dare_ties"])
def test_a_tensor_is_computed_as_in_the_whole_model(home: Home, strategy: str) -> None:
    """Where a strategy weighs whole models, or draws, one tensor alone comes out alike."""
    for index in (2, 3):
        home.offers(home.owner, index)
    home.call(home.owner, "recipe_set", strategy=strategy)
    home.call(home.owner, "resolve", out=home.out, force=True)
    for seed in ("a", "b", "c"):
        found = home.audit(dir=home.out, share="1%", seed=seed)
        assert (found["ok"], found["checked"]) == (True, 1)
    name = home.made.tensors[0].name
    peer = home.peer(changed(home.made.tensors, name))
    (wrong,) = home.audit(peer=peer, share="1%")["wrong"]
    assert (wrong["tensor"], wrong["fault"]) == (name, PEER)


def test_a_seed_repeats_the_choice_and_none_is_drawn_anew(home: Home) -> None:
    """The seed is printed; each audit without one has its own."""
    once, other = (home.audit(dir=home.out, share="1%") for _ in range(2))
    assert once["seed"] != other["seed"]
    again = home.audit(dir=home.out, share="1%", seed=once["seed"])
    assert again == once


def test_each_single_changed_tensor_is_found(home: Home) -> None:
    """Of a folder that was changed after it was made; the rest of it is right."""
    for name in [t.name for t in home.made.tensors]:
        home.call(home.owner, "resolve", out=home.out, force=True)
        flip(home.out, name)
        found = home.audit(dir=home.out)
        (wrong,) = found["wrong"]
        assert (wrong["tensor"], wrong["fault"]) == (name, FOLDER)
        assert wrong["stated"] == wrong["recomputed"] != wrong["file"]


def test_a_model_that_was_made_wrong_is_its_makers_fault(home: Home) -> None:
    """Files and resolution agree, and the contributions make something else."""
    name = home.made.tensors[0].name
    flip(home.out, name)
    said = read_resolution(home.out)
    in_file = home.audit(dir=home.out)["wrong"][0]["file"]
    blob = BlobId(bytes.fromhex(in_file))
    tensors = tuple(
        replace(t, blob=blob) if t.name == name else t for t in said.tensors
    )
    resolution = home.out / "resolution.json"
    resolution.write_text(replace(said, tensors=tensors).to_json())
    found = home.audit(dir=home.out)
    (wrong,) = found["wrong"]
    assert (wrong["tensor"], wrong["fault"]) == (name, MAKER)
    assert wrong["file"] == wrong["stated"] != wrong["recomputed"]
    assert not found["ok"]


def test_names_and_shapes_are_compared_even_where_bytes_are_not(home: Home) -> None:
    """They cost nothing, so none is left to chance."""
    said = read_resolution(home.out)
    resolution = home.out / "resolution.json"
    resolution.write_text(replace(said, tensors=said.tensors[1:]).to_json())
    found = home.audit(dir=home.out, share="1%")
    wrong = {item["tensor"]: item["fault"] for item in found["wrong"]}
    assert wrong == {said.tensors[0].name: FORMS}


def test_what_the_contributions_do_not_make_is_no_model_of_theirs(home: Home) -> None:
    """A peer may not leave out a tensor, nor bring one of its own."""
    tensors = home.made.tensors
    extra = TensorEntry("zz.back.door", "F32", (1,), ZERO)
    found = home.audit(peer=home.peer((*tensors[1:], extra)))
    wrong = {item["tensor"]: item["fault"] for item in found["wrong"]}
    assert wrong == {tensors[0].name: UNPLANNED, "zz.back.door": UNPLANNED}


def test_what_cannot_be_audited_says_why(home: Home) -> None:
    """A folder without a resolution, a share of nothing, files that are cut."""
    with pytest.raises(NotFoundError, match=r"resolution\.json"):
        home.audit(dir=home.fleet.folder / "t1")
    for share in ("0%", "101%", "10", "ten%", "-1%"):
        with pytest.raises(BadInputError, match="no share"):
            home.audit(dir=home.out, share=share)
    (home.out / "model.safetensors").write_bytes(b"cut")
    with pytest.raises(VerificationError, match="damaged"):
        home.audit(dir=home.out)


def test_an_adapter_is_neither_attested_nor_audited(tmp_path: Path) -> None:
    """It is no whole model, and has the merge id of one."""
    cast = Cast(tmp_path, alone=True)
    cast.call(cast.owner, "contribute", path=write_adapter(tmp_path / "a"))
    out = tmp_path / "adapter"
    made = cast.call(cast.owner, "resolve", out=out, **{"as": "adapter"})
    assert made["attested"] is False
    (space,) = cast.call(cast.owner, "status")["spaces"]
    assert space["attested"]["nodes"] == []
    with pytest.raises(BadInputError, match="hang together"):
        cast.call(cast.owner, "audit", dir=out)


# --- what a peer attests ----------------------------------------------------------------


def test_whose_fault_a_difference_is(home: Home) -> None:
    """The peer's, ours, or both: what is recomputed decides, and nobody's word."""
    tensors, made = home.made.tensors, home.made
    first, second = tensors[0].name, tensors[1].name
    home.files.keep(
        home.id, replace(made, tensors=changed(tensors, second)), b"damaged"
    )
    peer = home.peer(changed(tensors, first))
    found = home.audit(peer=peer, share="1%")
    wrong = {item["tensor"]: item["fault"] for item in found["wrong"]}
    assert wrong == {first: PEER, second: OURS}
    assert found["known_to_differ"] == 2
    other = tuple(
        replace(t, blob=BlobId(b"\x01" * 32)) if t.name == second else t
        for t in tensors
    )
    found = home.audit(peer=home.peer(other), share="1%")
    assert {item["fault"] for item in found["wrong"]} == {BOTH}


def test_an_honest_peer_passes_with_or_without_a_model_of_ours(home: Home) -> None:
    """Who never resolved has nothing to compare, and recomputes all the same."""
    peer = home.peer(home.made.tensors)
    assert home.audit(peer=peer)["compared_with_ours"] is True
    (home.owner / "attested" / home.id.hex()).unlink()
    found = home.audit(peer=peer)
    assert (found["ok"], found["compared_with_ours"]) == (True, False)
    with pytest.raises(BadInputError, match="not the tensors"):
        home.audit(peer=peer | {"model_digest": "00" * 32})


def test_another_contract_or_state_is_no_mismatch(home: Home) -> None:
    """Both are said to be what they are."""
    tensors = home.made.tensors
    with pytest.raises(UpgradeNeededError, match="no mismatch"):
        home.audit(peer=home.peer(tensors, contract=CONTRACT_VERSION + 1))
    with pytest.raises(NotFoundError, match="resolved state"):
        home.audit(peer=home.peer(tensors, merge_id="00" * 32))


# --- chance -----------------------------------------------------------------------------


def test_the_chance_of_a_miss_is_that_of_counting_all_choices() -> None:
    """An oracle without formula: every choice of every size, looked at."""
    for total in range(1, 8):
        for checked in range(1, total + 1):
            for bad in range(total + 1):
                choices = list(combinations(range(total), checked))
                clean = sum(min(choice) >= bad for choice in choices)
                expected = Fraction(clean, len(choices))
                assert missed(total, checked, bad) == expected


def test_a_sample_has_its_share_at_least_one_and_no_favourites() -> None:
    """Every tensor is drawn about as often as every other, over many seeds."""
    tensors = tuple(
        TensorEntry(f"t{n:02}", "F32", (1,), BlobId(chunk_digests(b"%d" % n)[0]))
        for n in range(20)
    )
    claim = Claim(SpaceId(bytes(32)), bytes(32), tensors)
    for share, count in (
        (Fraction(1, 1000), 1),
        (Fraction(1, 8), 3),
        (Fraction(1), 20),
    ):
        assert len(draw(claim, "seed", share).names) == count
    drawn = [
        name for n in range(400) for name in draw(claim, str(n), Fraction(1, 5)).names
    ]
    times = {name: drawn.count(name) for name in {t.name for t in tensors}}
    assert len(drawn) == 1600
    assert min(times.values()) > 50
    assert max(times.values()) < 110
