"""A passphrase is one line of text, and comes only from files that others cannot read."""

import os
import threading
from pathlib import Path

import pytest

from crdtmerge.errors import BadInputError, MachineError, NotFoundError
from nodes.passphrase import PASSPHRASE_BYTES_MAX, from_file, from_text
from nodes.private import check_folder, read_private


def write(path: Path, data: bytes, mode: int = 0o600) -> Path:
    """Write a file with this mode."""
    path.write_bytes(data)
    path.chmod(mode)
    return path


@pytest.mark.parametrize(
    ("data", "secret"),
    [
        (b"hello", b"hello"),
        (b"hello\n", b"hello"),
        (b"hello\r\n", b"hello"),
        (b" two words \n", b" two words "),
        ("caf\N{LATIN SMALL LETTER E WITH ACUTE}\n".encode(), "café".encode()),
        ("cafe\N{COMBINING ACUTE ACCENT}\n".encode(), "café".encode()),
        (b"x" * PASSPHRASE_BYTES_MAX + b"\r\n", b"x" * PASSPHRASE_BYTES_MAX),
    ],
)
def test_a_file_gives_the_passphrase_that_is_typed(
    tmp_path: Path, data: bytes, secret: bytes
) -> None:
    """One line end does not count; spaces do; accents are one however they are coded."""
    assert from_file(write(tmp_path / "p", data)).secret == secret


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "is empty"),
        (b"\n", "is empty"),
        (b"one\ntwo\n", "is not one line"),
        (b"hello\n\n", "is not one line"),
        (b"he\0llo", "is not one line"),
        (b"hello\t", "is not one line"),
        (b"caf\xe9", "is not UTF-8"),
        (b"x" * (PASSPHRASE_BYTES_MAX + 1), "is too long"),
        (b"x" * (1 << 20), "is longer than"),
    ],
)
def test_a_file_without_a_passphrase_is_refused(
    tmp_path: Path, data: bytes, message: str
) -> None:
    """The file is named; nothing of what it holds is shown, in no part of the trace."""
    path = write(tmp_path / "p", data)
    with pytest.raises(BadInputError, match=message) as caught:
        from_file(path)
    assert str(path) in str(caught.value)
    assert "hello" not in str(caught.value)
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__ or caught.value.__context__ is None


def test_text_that_is_no_unicode_is_refused() -> None:
    """As the environment may hold it."""
    with pytest.raises(BadInputError, match="is not UTF-8"):
        from_text("caf\udce9", "HERE")


def test_a_passphrase_is_not_shown() -> None:
    """Python's own text of it tells the source alone."""
    shown = repr(from_text("hello", "HERE"))
    assert "hello" not in shown
    assert "HERE" in shown


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o644, 0o620, 0o601])
def test_a_passphrase_file_that_others_can_touch_is_refused(
    tmp_path: Path, mode: int
) -> None:
    """With the command that mends it."""
    path = write(tmp_path / "p", b"hello", mode)
    with pytest.raises(
        MachineError, match=f"open to others .mode {mode:04o}"
    ) as caught:
        from_file(path)
    assert caught.value.hint == f"run `chmod 600 {path}`"


def test_a_missing_passphrase_file_is_named(tmp_path: Path) -> None:
    """It is what was not found, not the home."""
    with pytest.raises(NotFoundError, match="no passphrase file"):
        from_file(tmp_path / "p")


def test_a_passphrase_file_may_be_a_link_but_what_it_leads_to_is_checked(
    tmp_path: Path,
) -> None:
    """Systems hand out secrets as links; a key file must be the file itself."""
    path, link = write(tmp_path / "p", b"hello"), tmp_path / "link"
    link.symlink_to(path)
    assert from_file(link).secret == b"hello"
    with pytest.raises(MachineError, match="is a symbolic link"):
        read_private(link, 100, follow=False)
    path.chmod(0o644)
    with pytest.raises(MachineError, match="open to others"):
        from_file(link)


def test_a_passphrase_may_come_through_a_pipe(tmp_path: Path) -> None:
    """As the shell's `<(...)` gives it; a pipe in place of a key is refused at once."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe, 0o600)
    writer = threading.Thread(target=pipe.write_bytes, args=(b"hello\n",))
    writer.start()
    assert from_file(pipe).secret == b"hello"
    writer.join()
    with pytest.raises(MachineError, match="is not a file"):
        read_private(pipe, 100, follow=False)
    with pytest.raises(MachineError, match="is not a file"):
        from_file(tmp_path)


def test_secrets_of_another_user_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever owns a file can read it and change it, whatever its mode; root can anyway."""
    path = write(tmp_path / "p", b"hello")
    owner = path.stat().st_uid
    tmp_path.chmod(0o700)
    monkeypatch.setattr("nodes.private._ROOT", -1)
    check_folder(tmp_path)
    monkeypatch.setattr(os, "geteuid", lambda: owner + 1)
    with pytest.raises(MachineError, match=rf"another user \(uid {owner}\)"):
        from_file(path)
    with pytest.raises(MachineError, match="another user"):
        check_folder(tmp_path)
    monkeypatch.setattr("nodes.private._ROOT", owner)
    assert from_file(path).secret == b"hello"
