"""Author keys in a real ssh-agent: homes that sign with what they do not hold."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import (
    Ed25519PrivateKey,
    Ed25519PublicKey,
)
from cryptography.hazmat.primitives.serialization import (
    load_ssh_private_key,
    load_ssh_public_key,
)

from crdtmerge.errors import BadInputError, NotFoundError
from crdtmerge.identity import Purpose, verify
from nodes import agent, cli
from nodes.home import open_home
from tests.homes import write_model

pytestmark = pytest.mark.skipif(
    shutil.which("ssh-agent") is None, reason="OpenSSH's agent is not installed"
)
DEADLINE_S = 30.0


def ran(*words: object) -> str:
    """Run one of OpenSSH's programs; return what it printed."""
    done = subprocess.run(
        [str(word) for word in words],
        capture_output=True,
        text=True,
        check=True,
        timeout=DEADLINE_S,
        stdin=subprocess.DEVNULL,
    )
    return done.stdout


def key_of(file: Path) -> bytes:
    """Return the raw public part, as `cryptography` reads OpenSSH's file."""
    key = load_ssh_public_key(file.with_name(f"{file.name}.pub").read_bytes())
    assert isinstance(key, Ed25519PublicKey)
    return key.public_bytes_raw()


@dataclass(frozen=True)
class Agent:
    """A running agent, with a folder for key files."""

    folder: Path

    def key(self, name: str, kind: str = "ed25519") -> Path:
        """Make a key and give it to the agent; return its file."""
        file = self.folder / name
        ran("ssh-keygen", "-q", "-t", kind, "-N", "", "-C", name, "-f", file)
        ran("ssh-add", "-q", file)
        return file

    def run(self, *words: object) -> int:
        """Run one command of ours on a home beside the keys."""
        home = ["--home", str(self.folder / "home")]
        return cli.run([*home, *map(str, words)])


@pytest.fixture(name="ssh")
def fixture_ssh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Agent]:
    """Run OpenSSH's agent on a socket of the test."""
    socket = tmp_path / "agent"
    process = subprocess.Popen(
        ["ssh-agent", "-D", "-a", str(socket)], stdout=subprocess.DEVNULL
    )
    monkeypatch.setenv("SSH_AUTH_SOCK", str(socket))
    try:
        while not socket.exists():
            os.sched_yield()
        yield Agent(tmp_path)
    finally:
        process.terminate()
        process.wait(DEADLINE_S)


def test_a_home_signs_with_a_key_that_it_does_not_hold(ssh: Agent) -> None:
    """It founds a space and contributes; no file of it holds the author's secret."""
    file = ssh.key("work")
    ssh.key("other")
    write_model(ssh.folder / "base", 0)
    write_model(ssh.folder / "tune", 1, near=ssh.folder / "base")
    assert ssh.run("init", "--agent", "work", "--no-passphrase") == 0
    words = ("space", "create", "s", "--base", ssh.folder / "base")
    assert ssh.run(*words, "--strategy", "linear") == 0
    assert ssh.run("contribute", ssh.folder / "tune") == 0
    with open_home(ssh.folder / "home", write=False) as home:
        assert home.author.public == key_of(file)
        (space,) = home.records.spaces()
        records = home.records.load(space)
    assert {signed.record.kind for signed in records} >= {"genesis", "recipe", "add"}
    for signed in records:
        verify(key_of(file), Purpose.RECORD, signed.record.id, signed.signature)
    key = load_ssh_private_key(file.read_bytes(), None)
    assert isinstance(key, Ed25519PrivateKey)
    seed = key.private_bytes_raw()
    files = [f for f in (ssh.folder / "home").rglob("*") if f.is_file()]
    assert len(files) > 5
    for held in files:
        data = held.read_bytes()
        assert seed not in data
        assert seed.hex().encode() not in data
    named = (ssh.folder / "home" / "author.key").read_bytes()
    assert named == b"crdtmerge agent key 1\npublic %s\n" % key_of(file).hex().encode()


def test_a_key_is_named_by_fingerprint_comment_or_public_part(ssh: Agent) -> None:
    """What `ssh-add -l` prints will do."""
    file = ssh.key("work")
    fingerprint = ran("ssh-keygen", "-l", "-f", file).split()[1]
    assert fingerprint.startswith("SHA256:")
    public = key_of(file)
    for named in (fingerprint, "work", public.hex()):
        assert agent.find(named).public == public


def test_keys_of_other_kinds_are_not_found(ssh: Agent) -> None:
    """What they sign is no Ed25519 signature."""
    ssh.key("curve", "ecdsa")
    with pytest.raises(NotFoundError, match="no Ed25519 key named 'curve'"):
        agent.find("curve")


def test_a_name_of_two_keys_is_refused(ssh: Agent) -> None:
    """Nobody guesses which one is meant."""
    ssh.key("one")
    file = ssh.folder / "again"
    ran("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "one", "-f", file)
    ran("ssh-add", "-q", file)
    with pytest.raises(NotFoundError, match="more than one key"):
        agent.find("one")


def test_without_its_key_a_home_signs_nothing_and_says_why(
    ssh: Agent, capsys: pytest.CaptureFixture[str]
) -> None:
    """The key was taken out of the agent: nothing is half done, reading goes on."""
    ssh.key("work")
    write_model(ssh.folder / "base", 0)
    assert ssh.run("init", "--agent", "work", "--no-passphrase") == 0
    ran("ssh-add", "-q", "-D")
    words = ("space", "create", "s", "--base", ssh.folder / "base")
    capsys.readouterr()
    assert ssh.run(*words, "--strategy", "linear") == NotFoundError.exit_code
    assert "no agent holds the key" in capsys.readouterr().err
    assert ssh.run("whoami") == 0
    with open_home(ssh.folder / "home", write=False) as home:
        assert home.records.spaces() == []


def test_without_an_agent_nothing_is_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No home whose author nobody can be."""
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    assert Agent(tmp_path).run("init", "--agent", "work") == NotFoundError.exit_code
    assert not (tmp_path / "home").exists()


def test_a_passphrase_is_for_the_key_that_is_here(ssh: Agent) -> None:
    """The node's key is sealed; what names the author's stays."""
    ssh.key("work")
    secret = ssh.folder / "secret"
    secret.write_text("correct horse")
    secret.chmod(0o600)
    assert ssh.run("init", "--agent", "work", "--no-passphrase") == 0
    before = (ssh.folder / "home" / "author.key").read_bytes()
    assert ssh.run("passphrase", "--new-passphrase-file", secret) == 0
    assert (ssh.folder / "home" / "author.key").read_bytes() == before
    node = (ssh.folder / "home" / "node.key").read_bytes()
    assert node.startswith(b"crdtmerge key 1\n")


@pytest.mark.parametrize(
    "data",
    [
        b"crdtmerge agent key 1\npublic 00\n",
        b"crdtmerge agent key 2\npublic " + b"0" * 64 + b"\n",
        b"crdtmerge agent key 1\npublic " + b"0" * 64,
    ],
)
def test_a_changed_name_of_a_key_is_refused(data: bytes) -> None:
    """Cut, changed, or of a newer version."""
    with pytest.raises(BadInputError):
        agent.parse(data)
