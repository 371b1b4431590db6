"""Where the members of a real world are: on loopback, or each in a network of its own.

Owns which of these it is and says so; small disks; and how a storm is made here: by netem,
by a switch of ours, or by proxies. Does not own any of the three.
"""

import os
import subprocess
from pathlib import Path
from typing import Final, Literal

from .isolation import has_netem
from .proxy import Proxies, Trouble
from .switch import CALM, Weather
from .wires import JOIN_PORT, PORT, Wires

Means = Literal["netem", "switch", "proxy"]

STORM: Final = Weather(
    loss=0.1,
    duplicate=0.05,
    reorder=0.1,
    corrupt=0.02,
    disguise=0.0005,
    delay=0.04,
    jitter=0.03,
)
ROOM_MIB: Final = 256
"""Of a small disk: more than a home takes, and less than fills a memory."""


class Places:
    """Loopback: nobody can be parted from anybody."""

    means: Means | None = None
    """By what a storm is made, where there is to be one."""
    roomy: bool = True
    """Whether models may be large."""

    @property
    def words(self) -> str:
        """Say where members are."""
        return "loopback of this machine"

    @property
    def wired(self) -> Wires:
        """The cables between them.

        Raises:
            NotImplementedError: there are none.
        """
        raise NotImplementedError("members on loopback have no cables")

    def enter(self, name: str) -> tuple[str, ...]:  # noqa: ARG002
        """Return the command that runs another one where a member is."""
        return ()

    def listen(self, name: str) -> tuple[str, ...]:  # noqa: ARG002
        """Return the options by which the node of a member listens."""
        return ()

    def carried(self) -> tuple[int, int] | None:
        """Return the bytes and packets that members sent; None if nobody counts."""
        return None

    @property
    def storm_words(self) -> str:
        """Say what a storm is here."""
        return ""

    def storm(self) -> None:
        """Begin bad weather.

        Raises:
            NotImplementedError: nothing here can make it.
        """
        raise NotImplementedError("loopback has no weather")

    def calm(self) -> None:
        """End bad weather."""

    def own_disk(self, home: Path) -> None:
        """Lay a small disk under a home that is to be.

        Raises:
            NotImplementedError: only a world of our own has mounts.
        """
        raise NotImplementedError(f"no disk can be mounted at {home}")

    def fill_disk(self, home: Path) -> None:
        """Leave no room on such a disk."""

    def free_disk(self, home: Path) -> None:
        """Give it room again."""

    def close(self) -> None:
        """End what was started."""


class WiredPlaces(Places):
    """A network namespace for each member, inside a world of our own (`isolation`)."""

    def __init__(self, names: tuple[str, ...], means: Means | None = None) -> None:
        """Lay the cables; `means` is by what a storm is made, if there is to be one."""
        if means == "netem" and not has_netem():
            raise NotImplementedError("the kernel has no netem")
        self.means = means
        self.roomy = means is None
        self._wires = Wires(names, "switch" if means == "switch" else "bridge")
        self._disks: list[Path] = []

    @property
    def words(self) -> str:
        """Say where members are."""
        between = {
            "bridge": "the kernel's bridge",
            "switch": "a switch of ours (TAP)",
        }[self._wires.between]
        return f"a network namespace each, {between} between them"

    @property
    def wired(self) -> Wires:
        """The cables between them."""
        return self._wires

    def enter(self, name: str) -> tuple[str, ...]:
        """Return the command that runs another one where a member is."""
        return self._wires.enter(name)

    def listen(self, name: str) -> tuple[str, ...]:
        """Return the options by which the node of a member listens."""
        return self._wires.listen(name)

    def carried(self) -> tuple[int, int] | None:
        """Return the bytes and packets that members sent, with all headers."""
        return self._wires.carried()

    @property
    def storm_words(self) -> str:
        """Say what a storm is here."""
        if self._wires.switch is None:
            return STORM.netem()
        fates = sorted(self._wires.switch.fates.items())
        return ", ".join(f"{count} frames {fate}" for fate, count in fates)

    def storm(self) -> None:
        """Begin bad weather."""
        if self._wires.switch is not None:
            self._wires.switch.weather = STORM
        else:
            self._wires.netem(STORM.netem())

    def calm(self) -> None:
        """End bad weather."""
        if self._wires.switch is not None:
            self._wires.switch.weather = CALM
        else:
            self._wires.clear()

    def own_disk(self, home: Path) -> None:
        """Lay a small disk under a home that is to be."""
        home.mkdir()
        size = f"size={ROOM_MIB}m,mode=0700"
        command = ["mount", "-t", "tmpfs", "-o", size, "none", str(home)]
        subprocess.run(command, check=True)
        self._disks.append(home)

    def fill_disk(self, home: Path) -> None:
        """Leave no room on it: a file takes what there is."""
        with (home / FILLER).open("wb", buffering=0) as file:
            try:
                while file.write(bytes(1 << 16)):
                    pass
            except OSError:
                pass  # it is full now

    def free_disk(self, home: Path) -> None:
        """Give it room again."""
        (home / FILLER).unlink()

    def close(self) -> None:
        """End the switch and the disks; the rest goes with the world that it is in."""
        self._wires.close()
        for home in self._disks:
            subprocess.run(["umount", str(home)], check=True)


FILLER: Final = "what-another-program-keeps"


TROUBLE: Final = Trouble(cut=0.002, stall=0.01, stall_s=2.0, bytes_per_s=200_000)


class ProxiedPlaces(Places):
    """Loopback, with a proxy before each node: connections are cut, stalled and thin.

    A node listens at an address of its own and advertises that of its proxy. Proxies know
    whom a connection goes to and not whom it comes from, so they cannot part two members.
    """

    means = "proxy"
    roomy = False

    def __init__(self, names: tuple[str, ...], seed: int) -> None:
        """Start the proxies; they have nobody behind them yet."""
        self._names = names
        # Another network of 127/8 for each process: several of us may run at once.
        self._net = f"127.{64 + os.getpid() % 128}.{os.getpid() // 128 % 256}"
        self._proxies = Proxies(seed)
        self._proxies.start()
        for name in names:
            for port in (PORT, JOIN_PORT):
                self._proxies.add((self._front(name), port), (self._behind(name), port))

    def _behind(self, name: str) -> str:
        return f"{self._net}.{self._names.index(name) + 1}"

    def _front(self, name: str) -> str:
        return f"{self._net}.{self._names.index(name) + 101}"

    @property
    def words(self) -> str:
        """Say where members are."""
        return "loopback of this machine, a proxy before each"

    @property
    def storm_words(self) -> str:
        """Say what a storm is here."""
        fates = sorted(self._proxies.fates.items())
        return ", ".join(f"{fate} {count} times" for fate, count in fates)

    def listen(self, name: str) -> tuple[str, ...]:
        """Return the options by which the node of a member listens."""
        at = self._behind(name)
        there = ("--listen", f"{at}:{PORT}", "--join-listen", f"{at}:{JOIN_PORT}")
        return (*there, "--advertise", self._front(name))

    def storm(self) -> None:
        """Begin bad weather."""
        self._proxies.trouble = TROUBLE

    def calm(self) -> None:
        """End bad weather."""
        self._proxies.trouble = None

    def close(self) -> None:
        """End the proxies."""
        self._proxies.stop()
