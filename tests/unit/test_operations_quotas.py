"""Quotas are kept in the home, shown, and told wherever something waits for one."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from crdtmerge.errors import (
    BadInputError,
    ContentMissingError,
    MachineError,
    NotConvergedError,
)
from crdtmerge.identity import AuthorId
from crdtmerge.sync.messages import Heartbeat
from nodes.cli.quotas import _lines, pairs
from nodes.cli.render import status
from nodes.holding import Held
from nodes.operations.bringing import WAITING
from nodes.operations.limiting import MEANING, read, with_settings
from nodes.quotas import BURST_S, NAMES, Quotas
from tests.unit.test_operations import Setting
from tests.unit.test_operations_peers import Scripted


@pytest.fixture
def setting(tmp_path: Path) -> Setting:
    return Setting(tmp_path)


@pytest.fixture
def member(setting: Setting) -> Path:
    """Return the home of a member, to whom two contributions of the owner are known."""
    setting.contribute(0)
    setting.contribute(1)
    home = setting.fleet.init("member")
    setting.fleet.admit(setting.home, home, setting.base, "contributor")
    return home


def shown(answer: Any) -> dict[str, float]:
    return {quota["name"]: quota["value"] for quota in answer["quotas"]}


def test_quotas_are_the_defaults_until_somebody_sets_them(setting: Setting) -> None:
    """All that can be set are shown, with what they mean."""
    answer = setting.call("node_quotas")
    assert all(quota["value"] == quota["default"] for quota in answer["quotas"])
    assert answer["burst_seconds"] == BURST_S
    assert MEANING.keys() == set(NAMES)


def test_what_is_set_stays_and_goes_back(setting: Setting) -> None:
    """In the home: the next command, or node, holds to it."""
    given = {"author-bytes": "2GB", "peer-records": "500/s", "peer-bytes": "2MiB/s"}
    setting.call("node_quotas", set=given)
    found = shown(setting.call("node_quotas"))
    assert found["author-bytes"] == 2 * 10**9
    assert found["peer-records"] == 500
    assert found["peer-bytes"] == 2 << 20
    setting.call("node_quotas", set={"peer-records": "default"})
    found = shown(setting.call("node_quotas"))
    assert found["peer-records"] == Quotas().peer_records
    assert found["author-bytes"] == 2 * 10**9


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"peer-recrods": "1"}, "no quota 'peer-recrods'"),
        ({"peer-records": "many"}, "'many' is no rate"),
        ({"peer-records": "2MB"}, "'2MB' is no rate"),
        ({"author-records": "1.5"}, "'1.5' is no number of records"),
        ({"author-bytes": "lots"}, "'lots' is no size"),
        ({"peer-questions": "0.5"}, "peer-questions is 0.5, not at least 1"),
    ],
)
def test_wrong_quotas_are_refused(
    setting: Setting, given: dict[str, str], told: str
) -> None:
    """Nothing of what was asked is kept then."""
    with pytest.raises(BadInputError, match=told):
        setting.call("node_quotas", set={"author-rate": "7", **given})
    assert shown(setting.call("node_quotas"))["author-rate"] == Quotas().author_rate


def test_a_damaged_setting_is_no_fault_of_the_user(setting: Setting) -> None:
    """A store that says nonsense is named as such."""
    with setting.fleet.open(setting.home) as (home, _, verbs):
        for text in (b"peer_records=1", b"nonsense", b"peer_records=\xff"):
            home.local.set_value("quotas", text)
            with pytest.raises(MachineError, match="damaged: its quotas"):
                verbs.call("node_quotas", {}, lambda _: None)


def test_a_running_node_holds_to_new_quotas_at_once(setting: Setting) -> None:
    """It is told, and shows what it holds to: a flag of this run may be among it."""
    live = Scripted(quotas=Quotas(peer_records=999))
    with setting.fleet.open(setting.home, live=live) as (_, _, verbs):
        answer = verbs.call("node_quotas", {}, lambda _: None)
        assert shown(answer)["peer-records"] == 999
        verbs.call("node_quotas", {"set": {"author-rate": "3"}}, lambda _: None)
    assert live.quotas.author_rate == 3


def test_quotas_are_shown_as_people_read_them(setting: Setting) -> None:
    """Rates a second, totals as such, and no limit in words."""
    setting.call("node_quotas", set={"peer-bytes": "0", "author-bytes": "2GiB"})
    text = "\n".join(_lines(setting.call("node_quotas")))
    assert "peer-bytes      no limit  set" in text
    assert "2.0 GiB " in text
    assert "512/s" in text


def test_options_say_each_quota_once() -> None:
    """NAME=VALUE, and nothing else."""
    assert pairs(["author-rate = 5", "peer-bytes=1MB"]) == {
        "author-rate": "5",
        "peer-bytes": "1MB",
    }
    for wrong in (["author-rate"], ["=5"], ["a="], ["a=1", "a=2"]):
        with pytest.raises(Exception, match="is not NAME=VALUE"):
            pairs(wrong)
    settings, back = read({"author-rate": "5", "peer-bytes": "Default"})
    assert with_settings(settings) == Quotas(author_rate=5)
    assert back == {"peer_bytes"}


# --- what is told ----------------------------------------------------------------------


def test_status_says_what_is_beyond_the_bytes_of_its_author(
    setting: Setting, member: Path
) -> None:
    """What is not here and will not come by itself is told apart from what is coming."""
    setting.fleet.call(member, "node_quotas", set={"author-bytes": "1"})
    facts: Any = setting.fleet.call(member, "status")
    (space,) = facts["spaces"]
    assert [c["beyond_quota"] for c in space["contributions"]] == [True, True]
    lines = "\n".join(status(facts))
    assert lines.count("no, quota") == 2
    assert (
        "quota: beyond the bytes of its author; `crdtmerge fetch ID` brings it" in lines
    )
    assert setting.status()["contributions"][0]["beyond_quota"] is False


def test_status_says_whose_records_wait(setting: Setting) -> None:
    """By author, and whether time alone brings them."""
    author = bytes(range(32))

    class Waiting(Scripted):
        def waiting(self, _space: object) -> list[Held]:
            return [Held(author, 7, full=False), Held(author, 1, full=True)]  # type: ignore[arg-type]

    with setting.fleet.open(setting.home, live=Waiting()) as (_, _, verbs):
        facts: Any = verbs.call("status", {}, lambda _: None)
    assert facts["spaces"][0]["waiting"][0] == {
        "author": author.hex(),
        "records": 7,
        "full": False,
    }
    text = "\n".join(status({**facts, "running": False}))
    assert f"waiting 7 records of author {author.hex()[:12]}; its share comes" in text
    assert "waiting 1 record of author" in text
    assert "`crdtmerge node quotas`" in text


def test_fetch_leaves_out_what_is_beyond_unless_it_is_named(
    setting: Setting, member: Path
) -> None:
    """It does not wait for what no node fetches, and says how to get it."""
    setting.fleet.call(member, "node_quotas", set={"author-bytes": "1"})
    live = Scripted(heard={})
    with setting.fleet.open(member, live=live) as (_, spaces, verbs):
        spaces.author_bytes = 1
        answer: Any = verbs.call("fetch", {"patience": 1}, lambda _: None)
        assert answer["contributions"] == []
        assert "beyond the bytes of its author" in answer["notes"][0]
        content = next(c for _, c in sorted(spaces.beyond())).hex()
        asked = {"ids": [content], "patience": 1}
        with pytest.raises(ContentMissingError, match=content[:12]):
            verbs.call("fetch", asked, lambda _: None)
        with pytest.raises(NotConvergedError, match="2 contributions are beyond"):
            verbs.call("wait", {"timeout": 1}, lambda _: None)


def test_fetch_does_not_wait_for_what_waits(setting: Setting, member: Path) -> None:
    """A peer that has more, and of whom records wait, is compared with: that is told."""
    peer = bytes(32)
    mine = Heartbeat(bytes(32), bytes(32), 9, bytes(16), 9)

    class Waiting(Scripted):
        def waiting(self, _space: object) -> list[Held]:
            return [Held(AuthorId(peer), 7, full=False)]

    def beat(live: Scripted) -> None:
        live.heard[peer] = replace(mine)

    live = Waiting(scenes=[beat], heard={peer: mine})
    with setting.fleet.open(member, live=live) as (_, spaces, verbs):
        spaces.author_bytes = 1
        answer: Any = verbs.call("fetch", {"patience": 30}, lambda _: None)
    assert answer["compared"]
    assert live.time < 30
    assert answer["notes"][-1] == f"7 {WAITING}"


def test_what_is_pinned_is_not_beyond(setting: Setting, member: Path) -> None:
    """The user wants it here."""
    setting.fleet.call(member, "node_quotas", set={"author-bytes": "1"})

    def contributions() -> Any:
        facts: Any = setting.fleet.call(member, "status")
        return facts["spaces"][0]["contributions"]

    content = contributions()[0]["content"]
    setting.fleet.call(member, "store_pin", id=content)
    assert [c["beyond_quota"] for c in contributions()] == [False, True]
