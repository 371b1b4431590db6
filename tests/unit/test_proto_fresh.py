"""The committed wire code is what `proto/replica.proto` generates."""

from pathlib import Path

import pytest
from grpc_tools import protoc

ROOT = Path(__file__).parents[2]
NAMES = ("replica_pb2.py", "replica_pb2.pyi", "replica_pb2_grpc.py")


@pytest.fixture(scope="module")
def generated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Generate the code anew, as `make proto` does."""
    out = tmp_path_factory.mktemp("wire")
    arguments = [
        "protoc",
        f"-Inodes/wire={ROOT / 'proto'}",
        f"--python_out={out}",
        f"--pyi_out={out}",
        f"--grpc_python_out={out}",
        str(ROOT / "proto" / "replica.proto"),
    ]
    assert protoc.main(arguments) == 0
    return out / "nodes" / "wire"


@pytest.mark.parametrize("name", NAMES)
def test_generated_code_is_fresh(generated: Path, name: str) -> None:
    """A change of the proto without `make proto` fails here."""
    committed = (ROOT / "nodes" / "wire" / name).read_bytes()
    assert (generated / name).read_bytes() == committed, "run `make proto`"
