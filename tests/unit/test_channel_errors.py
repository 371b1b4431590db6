"""What a caller is told of a call that failed: whose fault, and where to look."""

import grpc

from crdtmerge.errors import RefusedError
from nodes.channel import peer_error


def test_a_node_that_fails_is_said_to_fail() -> None:
    """It refused nothing: its own output says what went wrong."""
    told = "something is wrong on this node"
    failed = peer_error(grpc.StatusCode.INTERNAL, told, "the running node")
    assert str(failed).startswith("the running node failed")
    assert "node run" in failed.hint
    refused = peer_error(grpc.StatusCode.PERMISSION_DENIED, "no", "the running node")
    assert str(refused) == "the running node refused: no"
    assert type(failed) is type(refused) is RefusedError
