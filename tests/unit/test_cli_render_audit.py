"""People are told who differs on what, and what an audit found, in plain lines."""

from typing import Any

from nodes.cli.render_audit import agreement, audited

NODE = "5d1c0a9b7e42" + "0" * 52


def node(verdict: str, **other: object) -> dict[str, object]:
    return {
        "node": NODE,
        "platform": "Linux x86_64",
        "verdict": verdict,
        "tensors": None,
        "tensors_differing": None,
    } | other


def told(*nodes: dict[str, object], **counts: int) -> str:
    facts = {"agree": 0, "differ": 0, "other_states": 0, "other_contracts": 0} | counts
    return "\n".join(agreement({**facts, "nodes": nodes}))


def audit(**other: object) -> str:
    facts: dict[str, Any] = {
        "dir": "/tmp/model",
        "peer": None,
        "platform": None,
        "checked": 20,
        "tensors": 200,
        "checked_bytes": 1024,
        "bytes": 10240,
        "seed": "abc",
        "model_digest": "d" * 64,
        "merge_id": "e" * 64,
        "missed": {"one_tensor": 0.9, "one_percent": 0.81},
        "compared_with_ours": False,
        "wrong": [],
        "wrong_tensors": 0,
    }
    return "\n".join(audited(facts | other))


def test_nothing_is_said_where_nobody_attests() -> None:
    """A space that was never resolved has no line more."""
    assert told() == ""


def test_who_agrees_is_counted_and_who_differs_is_named() -> None:
    """With the tensors where they are known, and what to do about it."""
    assert told(node("agrees"), agree=1) == (
        "  attested      1 of 1 node attests the same model"
    )
    differs = node("differs", tensors=["a", "b", "c", "d"], tensors_differing=4)
    text = told(node("agrees"), differs, agree=3, differ=1)
    assert "3 of 4 nodes attest the same model; 1 differs" in text
    assert "differs on 4 tensors: a, b, c and 1 more" in text
    assert "`crdtmerge audit --peer 5d1c0a9b7e42` recomputes" in text
    unknown = told(node("differs"), agree=1, differ=1)
    assert "(Linux x86_64) differs\n" in unknown


def test_other_states_and_contracts_are_no_mismatch() -> None:
    """They are told apart from those who differ."""
    text = told(
        node("another state"),
        node("another contract"),
        other_states=1,
        other_contracts=1,
    )
    assert "no node attests the present state yet" in text
    assert "1 node resolved another state last" in text
    assert "1 node under another numeric contract: no mismatch" in text
    assert "differs" not in text


def test_a_platform_cannot_command_the_terminal() -> None:
    """It came from a peer."""
    assert "\x1b" not in told(node("differs", platform="\x1b[2J"), agree=1, differ=1)


def test_an_audit_says_what_it_may_have_missed() -> None:
    """In words that stay true for small chances; nothing where all was computed."""
    text = audit()
    assert "20 of 200 tensors computed again (1.0 KiB of 10.0 KiB), seed abc" in text
    assert "they have the bytes" in text
    assert "a single wrong tensor 90 times in 100, 1% of them 81 times in 100" in text
    rare = audit(missed={"one_tensor": 0.0001, "one_percent": 0.0})
    assert "a single wrong tensor once in 10,000 times" in rare
    whole = audit(checked=200)
    assert "all of it has the bytes" in whole
    assert "misses" not in whole


def test_an_audit_names_what_is_wrong_and_whose_fault() -> None:
    """Of a peer it says too whether this home's own holds."""
    wrong = [{"tensor": "lm_head", "fault": "the peer attests other bytes"}]
    text = audit(
        dir=None, peer=NODE, wrong=wrong, wrong_tensors=1, compared_with_ours=True
    )
    assert "what node 5d1c0a9b7e42 attests" in text
    assert "1 wrong tensor:\n    lm_head: the peer attests other bytes" in text
    assert "what this home attests of them holds when recomputed" in text
    ours = [{"tensor": "lm_head", "fault": "what this home attests was damaged"}]
    text = audit(
        dir=None, peer=NODE, wrong=ours, wrong_tensors=70, compared_with_ours=True
    )
    assert "and 69 more" in text
    assert "resolve again to a new folder" in text
    assert "holds when recomputed" not in text
