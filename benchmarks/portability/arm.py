"""An Arm machine inside this one: an arm64 Python of Debian's, run by QEMU's emulator.

Owns fetching and unpacking it. Uses apt's own sources as they are set up, with state and
cache of its own; installs nothing, needs no root and no chroot. Under emulation a process
cannot start another of its kind, so everything runs in one.
"""

import subprocess
import sys
from pathlib import Path
from typing import Final

from benchmarks.portability.platforms import (
    CONSTRAINTS,
    PACKAGES,
    Platform,
    UnreadyError,
    prepare,
)

PYTHON: Final = "3.11"
DEBS: Final = (f"python{PYTHON}", "libstdc++6", "libgomp1")
EMULATOR: Final = "qemu-aarch64-static"
WHEELS: Final = ("manylinux_2_28_aarch64", "manylinux_2_17_aarch64")


def machine(folder: Path) -> Platform:
    """Return the machine that lies in `folder`, as `prepare_machine` laid it.

    Raises:
        UnreadyError: there is none.
    """
    root, emulator = folder / "root", folder / "host" / "usr" / "bin" / EMULATOR
    python = root / "usr" / "bin" / f"python{PYTHON}"
    if not (folder / "ready").exists():
        raise UnreadyError(f"no arm64 machine in {folder}; --prepare-arm makes one")
    command = (str(emulator), "-L", str(root), str(python))
    return Platform(command, (str(folder / "site"),))


def prepare_machine(folder: Path) -> None:
    """Fetch and unpack emulator, system and wheels; nothing where that was done.

    Raises:
        UnreadyError: something cannot be fetched here.
    """
    ready, wanted = (
        folder / "ready",
        " ".join(PACKAGES) + "\n" + CONSTRAINTS.read_text(),
    )
    if ready.exists() and ready.read_text() == wanted:
        return
    for name in ("state/lists/partial", "cache/archives/partial"):
        (folder / "apt" / name).mkdir(parents=True, exist_ok=True)
    (folder / "apt" / "status").touch()
    debs = _fetch_debs(folder / "apt")
    for deb in debs:
        prepare(["dpkg-deb", "-x", str(deb), str(folder / "root")])
    _fetch_emulator(folder / "host")
    site = ["--target", str(folder / "site"), "--python-version", PYTHON]
    tags = [word for tag in WHEELS for word in ("--platform", tag)]
    pins = ["-c", str(CONSTRAINTS)]
    options = ["--quiet", "--upgrade", "--only-binary=:all:", *pins, *tags, *site]
    prepare([sys.executable, "-m", "pip", "install", *options, *PACKAGES])
    ready.write_text(wanted)


def _fetch_debs(apt: Path) -> list[Path]:
    """Return the packages of the system; apt resolves them for an empty arm64 one."""
    settings = {
        "APT::Architecture": "arm64",
        "APT::Architectures::": "arm64",
        "APT::Install-Recommends": "false",
        "APT::Sandbox::User": "root",
        "Dir::State": str(apt / "state"),
        "Dir::State::status": str(apt / "status"),
        "Dir::Cache": str(apt / "cache"),
    }
    words = [w for name, value in settings.items() for w in ("-o", f"{name}={value}")]
    prepare(["apt-get", *words, "update"])
    prepare(["apt-get", *words, "--yes", "--download-only", "install", *DEBS])
    return sorted((apt / "cache" / "archives").glob("*.deb"))


def _fetch_emulator(host: Path) -> None:
    """Unpack the emulator, which is one static program."""
    host.mkdir(parents=True, exist_ok=True)
    try:
        subprocess.run(
            ["apt-get", "download", "qemu-user-static"],
            cwd=host,
            capture_output=True,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError) as e:
        raise UnreadyError("apt-get cannot download qemu-user-static") from e
    for deb in host.glob("*.deb"):
        prepare(["dpkg-deb", "-x", str(deb), str(host)])
        deb.unlink()
