"""Sweeps over a story: the power goes, or the disk refuses, at every operation of it.

Each point begins from the same disk. What is left is opened by the store's own code, held
against the ledger, and the story is told once more to its end: it must come out as if
nothing had happened.
"""

import errno
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

from crdtmerge.errors import MachineError, NoRoomError
from simulations.disks.disk import Fault, SimulatedDisk
from simulations.disks.power_loss import Loss, PowerLossError
from tests.crash_points import Kept, Ledger, Store, Story, check, read_all


def tell(disk: SimulatedDisk, story: Story, ledger: Ledger) -> None:
    """Open the store on `disk`, tell it the story, and close it."""
    store = Store(disk, ledger)
    try:
        story(store)
    finally:
        store.close()


@dataclass
class Sweep:
    """A story, cut at every operation and with every loss."""

    story: Story
    before: SimulatedDisk
    known: Ledger
    losses: Sequence[Loss] = ()
    points: int = 0

    def run(self, every: int = 1) -> int:
        """Cut it everywhere, or at one in `every`; return how many crashes that were."""
        whole = self._copy()
        tell(whole, self.story, _copied(self.known))
        end = self._found(whole.after(Loss("all")), Ledger(), [])
        for cut in range(0, len(whole.operations), every):
            self._cut(cut, end)
        return self.points

    def _copy(self) -> SimulatedDisk:
        return self.before.after(Loss("none"))

    def _cut(self, cut: int, end: Kept) -> None:
        disk, ledger = self._copy(), _copied(self.known)
        disk.cut = cut
        with suppress(PowerLossError):
            tell(disk, self.story, ledger)
        for loss in self.losses:
            self.points += 1
            trace = [f"{loss}, cut at {cut}", *map(str, disk.operations[-12:])]
            found = self._crash_again(disk.after(loss), loss, trace)
            assert self._found(found, _copied(ledger), trace, self.story) == end, trace

    def _crash_again(
        self, disk: SimulatedDisk, loss: Loss, trace: list[str]
    ) -> SimulatedDisk:
        """For chosen losses, cut the recovery too."""
        if loss.losing != "some" or not loss.seed % 2:
            return disk
        again = disk.after(Loss("none"))
        again.cut = loss.seed * 7 % 23
        try:
            tell(again, _resume, Ledger())
        except PowerLossError:
            trace.append("cut again")
            trace.extend(map(str, again.operations))
        return again.after(loss)

    def _found(
        self,
        disk: SimulatedDisk,
        ledger: Ledger,
        trace: list[str],
        story: Story | None = None,
    ) -> Kept:
        """Open what is left, check it, and let the work come to its end."""
        try:
            store = Store(disk, ledger)
            try:
                if story is None:
                    return read_all(store)
                check(store)
                story(store)
                ledger.uncertain.clear()
                return check(store)
            finally:
                store.close()
        except BaseException as e:
            for line in trace:
                e.add_note(line)
            raise


def _resume(store: Store) -> None:
    store.begin()


def _copied(ledger: Ledger) -> Ledger:
    return Ledger(
        set(ledger.blobs),
        set(ledger.uncertain),
        list(ledger.batches),
        ledger.batch,
        dict(ledger.values),
        ledger.value,
        ledger.group,
        set(ledger.dropped),
        set(ledger.held),
    )


@dataclass
class FaultSweep(Sweep):
    """A story whose every operation fails once, or fails from there on."""

    error: int = errno.EIO

    def run(self, every: int = 1) -> int:
        """Fail at every operation; return how many failures that were."""
        whole = self._copy()
        tell(whole, self.story, _copied(self.known))
        end = self._found(whole.after(Loss("all")), Ledger(), [])
        for at in range(0, len(whole.operations), every):
            once = Fault(at, self.error)
            self._fail(once, Loss("all"), end, killed=False)
            self._fail(once, Loss("none"), end, killed=True)
            self._fail(once, Loss("all"), end, killed=True)
            lasting = Fault(at, self.error, lasting=True)
            self._fail(lasting, Loss("all"), end, killed=False)
        return self.points

    def _fail(self, fault: Fault, loss: Loss, end: Kept, *, killed: bool) -> None:
        self.points += 1
        disk, ledger = self._copy(), _copied(self.known)
        disk.fault = fault
        said = self._tell_until_refused(disk, ledger, killed=killed)
        assert said is None or any(word in str(said) for word in REASONS), str(said)
        assert said is None or said.hint, str(said)
        trace = [str(fault), str(loss), *map(str, disk.operations[-20:])]
        disk.fault = None
        found = self._found(disk.after(loss), ledger, trace, self.story)
        assert found == end, trace

    def _tell_until_refused(
        self, disk: SimulatedDisk, ledger: Ledger, *, killed: bool
    ) -> MachineError | None:
        """Return how it was refused; with `killed` the process ends, unclosed.

        Where only room was lacking, the same process goes on once there is some. After
        all else it may try, and is refused or told the truth.
        """
        try:
            store = Store(disk, ledger)
        except MachineError as e:
            return e
        said = None
        try:
            try:
                self.story(store)
            except NoRoomError:
                disk.fault = None
                check(store)
                self._go_on(store)
            except MachineError as e:
                disk.dead = killed
                said = e
            if said is not None and not killed:
                with suppress(MachineError):
                    self.story(store)
        finally:
            disk.dead = killed
            with suppress(PowerLossError, MachineError):
                store.close()
        return said

    def _go_on(self, store: Store) -> None:
        """Tell the story again, which ends well unless a sync failed on the way."""
        try:
            self.story(store)
        except MachineError as e:
            if "nothing more is tried" not in str(e):
                raise


REASONS = (
    "the disk is full",
    "database or disk is full",
    "input/output error",
    "disk I/O error",
    "unable to open database file",
)
"""What says to the user what the machine refused."""
