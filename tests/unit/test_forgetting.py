"""What is undone, or removed as damaged, takes nothing that another has come to need."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from crdtmerge.digest import BlobId
from crdtmerge.errors import NotAllowedError
from nodes.operations import contributing
from nodes.store.leases import Leases
from nodes.upkeep.inspecting import inspect
from nodes.upkeep.needs import find_needs
from nodes.upkeep.repairing import repair
from nodes.upkeep.sources import Sources
from tests.unit.test_collecting import Setting, setting
from tests.unit.test_examining import flip

__all__ = ["setting"]


def test_a_command_that_fails_takes_no_blob_of_another(
    setting: Setting, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both bring the same bytes; the one that stored them first is refused in the end."""
    [tune] = setting.tunes[:1]
    say, told = contributing._say, []

    with setting.fleet.open(setting.home) as (_, spaces, verbs):
        asked = {"path": str(tune), "space": "digits"}

        def refused(*_: object) -> object:
            monkeypatch.setattr(contributing, "_say", say)
            told.append(verbs.call("contribute", asked, lambda _: None))
            raise NotAllowedError("a grant was revoked meanwhile")

        monkeypatch.setattr(contributing, "_say", refused)
        with pytest.raises(NotAllowedError):
            verbs.call("contribute", asked, lambda _: None)
        (space,) = spaces.all()
        (visible,) = spaces.view(space).visible
        assert told[0]["content"] == visible.content.hex()
        assert spaces.missing(space) == {}
    assert setting.call("store_fsck")["damaged"] == []
    setting.call("resolve", out=setting.fleet.folder / "out")


def test_a_command_that_fails_alone_leaves_nothing(
    setting: Setting, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What nobody else relies on goes at once."""
    before = setting.call("store_show")

    def refused(*_: object) -> object:
        raise NotAllowedError("a grant was revoked meanwhile")

    monkeypatch.setattr(contributing, "_say", refused)
    with pytest.raises(NotAllowedError):
        setting.call("contribute", path=setting.tunes[0])
    assert setting.call("store_show")["own"] == before["own"]


def test_a_repair_removes_nothing_that_came_to_be_needed(setting: Setting) -> None:
    """A damaged blob that nothing needed is contributed anew before the repair comes."""
    tune = setting.tunes[0]
    content = setting.call("contribute", path=tune)["content"]
    setting.call("remove", id=content)
    with setting.fleet.open(setting.home) as (home, spaces, verbs):
        needs, sources = find_needs(home, spaces), Sources(home, spaces)
        idle = [h.blob for h in home.blobs.holdings() if h.blob not in needs]
        flip(home.blobs.path_of(idle[0]), 1)
        [damage] = inspect(home.blobs)
        verbs.call("contribute", {"path": str(tune)}, lambda _: None)
        repair(home, spaces, damage, needs, sources)
        (space,) = spaces.all()
        assert spaces.missing(space) == {}
    found: Any = setting.call("store_fsck")
    assert found["damaged"] == []


def test_who_lets_go_of_a_blob_waits_for_no_collection() -> None:
    """The event loop does so; to begin to hold one waits, in a thread."""
    leases, blob = Leases(), BlobId(bytes(32))
    leases.take(blob)
    with ThreadPoolExecutor(2) as threads:
        with leases.closed() as closed:
            assert closed.held == {blob}
            threads.submit(leases.drop, blob).result(timeout=10)
            taking = threads.submit(leases.take, blob)
            with pytest.raises(TimeoutError):
                taking.result(timeout=0.2)
        taking.result(timeout=10)
    assert leases.held() == {blob}
