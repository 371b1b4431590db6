"""A network between namespaces: one for each member, an Ethernet between them, and cuts.

Owns the cables (`ip`), who hears whom, and what went over them. Does not own the switch
between them where that is ours (`switch`), nor the world it is in (`isolation`).

A cut is silent, and goes one way: the sender's table of neighbours names an address that
no machine has, so that what it sends is lost on the way and nobody is told, as behind a
broken cable or a firewall that drops. `ip route add blackhole` would tell the sender.
"""

import subprocess
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Final, Literal

from . import isolation
from .switch import Switch, open_tap

Between = Literal["bridge", "switch"]

NOBODY: Final = "02:00:00:00:00:ff"
PORT: Final = 7420
JOIN_PORT: Final = 7421
_RUN: Final = Path("/run")


class Wires:
    """The network of these members; made once, inside a world of our own."""

    def __init__(self, names: Sequence[str], between: Between) -> None:
        """Lay the cables; everybody hears everybody.

        Raises:
            NotImplementedError: we are in no world of our own, but on somebody's machine.
        """
        if not isolation.inside():
            raise NotImplementedError("cables are laid in namespaces of our own only")
        self.names = tuple(names)
        self.between = between
        self._unplugged: set[str] = set()
        self.switch: Switch | None = None
        _do("mount", "-t", "tmpfs", "none", str(_RUN))
        (_RUN / "netns").mkdir()
        for name in names:
            _do("ip", "netns", "add", name)
        if between == "bridge":
            self._bridge()
        else:
            self._tap()
        for name in names:
            self._configure(name)

    def _bridge(self) -> None:
        _ip("link add br0 type bridge", "link set br0 up")
        for number, name in enumerate(self.names):
            port = f"p{number}"
            _ip(
                f"link add {port} type veth peer name eth0 netns {name}",
                f"link set {port} master br0",
                f"link set {port} up",
            )

    def _tap(self) -> None:
        taps = {}
        for number, name in enumerate(self.names):
            port = f"p{number}"
            taps[self.address_of_link(name)] = open_tap(port)
            _ip(f"link set {port} netns {name} name eth0")
        self.switch = Switch(taps)
        self.switch.start()

    def _configure(self, name: str) -> None:
        _ip(
            f"-n {name} link set lo up",
            f"-n {name} link set eth0 address {self.address_of_link(name)}",
            f"-n {name} address add {self.address(name)}/24 dev eth0",
            f"-n {name} link set eth0 up",
            *(self._hears(name, other, reached=True) for other in self._others(name)),
        )

    def _others(self, name: str) -> list[str]:
        return [other for other in self.names if other != name]

    # --- where members are --------------------------------------------------------------

    def address(self, name: str) -> str:
        """Return the IP address of a member."""
        return f"10.77.0.{self.names.index(name) + 1}"

    def address_of_link(self, name: str) -> str:
        """Return the Ethernet address of a member."""
        return f"02:00:00:00:00:{self.names.index(name) + 1:02x}"

    def enter(self, name: str) -> tuple[str, ...]:
        """Return the command that runs another one where a member is."""
        return ("nsenter", f"--net={_RUN}/netns/{name}", "--")

    def listen(self, name: str) -> tuple[str, ...]:
        """Return the options by which a node listens there."""
        address = self.address(name)
        places = (f"{address}:{PORT}", f"{address}:{JOIN_PORT}")
        return ("--listen", places[0], "--join-listen", places[1])

    # --- cuts ---------------------------------------------------------------------------

    def cut(self, senders: Collection[str], receivers: Collection[str]) -> None:
        """Lose all that `senders` send to `receivers`; the other way stays."""
        self._set(senders, receivers, reached=False)

    def mend(self, senders: Collection[str], receivers: Collection[str]) -> None:
        """Let what `senders` send reach `receivers` again."""
        self._set(senders, receivers, reached=True)

    def part(self, island: Collection[str]) -> None:
        """Let nothing pass between these and the others."""
        mainland = [name for name in self.names if name not in island]
        self.cut(island, mainland)
        self.cut(mainland, island)

    def heal(self) -> None:
        """Put every cable in, and let everybody reach everybody."""
        for name in sorted(self._unplugged):
            _ip(f"-n {name} link set eth0 up")
        self._unplugged.clear()
        self.mend(self.names, self.names)

    def unplug(self, name: str) -> None:
        """Pull the cable of a member out: its card notices."""
        _ip(f"-n {name} link set eth0 down")
        self._unplugged.add(name)

    def _set(
        self, senders: Collection[str], receivers: Collection[str], *, reached: bool
    ) -> None:
        pairs = [(s, r) for s in senders for r in receivers if s != r]
        _ip(*(self._hears(s, r, reached=reached) for s, r in pairs))

    def _hears(self, sender: str, receiver: str, *, reached: bool) -> str:
        link = self.address_of_link(receiver) if reached else NOBODY
        return (
            f"-n {sender} neigh replace {self.address(receiver)} lladdr {link}"
            " dev eth0 nud permanent"
        )

    # --- bad weather and thin cables ----------------------------------------------------

    def netem(self, words: str) -> None:
        """Let the kernel lose, delay, reorder, double and corrupt what all send."""
        for name in self.names:
            _do("tc", "-n", name, *f"qdisc add dev eth0 root netem {words}".split())

    def throttle(self, rate: str) -> None:
        """Let nobody send faster than `rate`, such as `1mbit`."""
        words = f"qdisc add dev eth0 root tbf rate {rate} burst 32kbit latency 400ms"
        for name in self.names:
            _do("tc", "-n", name, *words.split())

    def clear(self) -> None:
        """End what `netem` or `throttle` began."""
        for name in self.names:
            _do("tc", "-n", name, "qdisc", "del", "dev", "eth0", "root")

    # --- what went over them ------------------------------------------------------------

    def carried(self) -> tuple[int, int]:
        """Return the bytes and packets that members sent, with all headers."""
        counts = [self._sent(name) for name in self.names]
        return sum(c[0] for c in counts), sum(c[1] for c in counts)

    def _sent(self, name: str) -> tuple[int, int]:
        table = _do(*self.enter(name), "cat", "/proc/net/dev")
        for line in table.splitlines():
            card, _, counts = line.partition(":")
            if card.strip() == "eth0":
                return int(counts.split()[8]), int(counts.split()[9])
        return 0, 0

    def close(self) -> None:
        """Stop the switch, if it is ours; the rest goes with this world."""
        if self.switch is not None:
            self.switch.stop()


def _ip(*commands: str) -> None:
    """Run several commands of `ip`; those with `-n` one by one, for batches know it not."""
    for command in commands:
        _do("ip", *command.split())


def _do(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise OSError(f"{' '.join(command)}: {done.stderr.strip()}")
    return done.stdout
