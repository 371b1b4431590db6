"""What an output holds beside its weights, and what is asked of one.

Owns the order in which its folder is filled. Does not own the computation (`model`,
`adapter`), nor how files are written (`formats`).
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from crdtmerge.formats.companions import CARD_FILE, Companions
from crdtmerge.formats.folder import RESOLUTION_FILE
from crdtmerge.formats.journal import Journal
from crdtmerge.formats.output import OutputFolder
from crdtmerge.formats.shards import ModelLayout
from crdtmerge.formats.writer import ModelWriter, create_files, write_file
from crdtmerge.resolve.card import Origins, card_text
from crdtmerge.resolve.resolution import Resolution


@dataclass(frozen=True, slots=True)
class Output:
    """What is asked of an output: its place, and what goes there beside the tensors.

    The model card, which is written at last, tells of people and folders too.
    """

    out: Path
    companions: Companions = field(default_factory=Companions)
    overwrite: bool = False
    fsync: bool = False

    def folder(self, layout: ModelLayout) -> OutputFolder:
        """Return the folder to be, with room for weights of this layout and the rest."""
        return OutputFolder(
            self.out,
            size=layout.size + self.companions.size,
            stamp=layout.stamp,
            overwrite=self.overwrite,
            fsync=self.fsync,
        )

    @contextmanager
    def filled(
        self, layout: ModelLayout, texts: Iterable[tuple[str, bytes]] = ()
    ) -> Iterator[tuple[ModelWriter, Callable[[Resolution, Origins], None], Journal]]:
        """Lend what writes the tensors, and what writes the record of the whole at last.

        The journal notes finished tensors, for a run that goes on with what this one left;
        what an earlier one noted is there to be looked at.

        `texts` are (name, bytes) of small files that go with the weights.
        If the block fails, what was at the place is as it was.

        Raises:
            ConflictError: something is in the way.
            BadInputError: a file of the base cannot be read any more.
            MachineError: the disk is full or refuses.
        """
        place = self.folder(layout)
        with place as folder:
            for path in folder.iterdir():  # of a run that is gone on with
                if path.name not in layout.files:
                    path.unlink()
            self.companions.write(folder)
            for name, text in texts:
                write_file(folder / name, text)
            create_files(folder, layout)

            def finish(resolution: Resolution, origins: Origins) -> None:
                card = card_text(resolution, origins, self.companions.config)
                write_file(folder / CARD_FILE, card)
                record = resolution.to_json().encode()
                write_file(folder / RESOLUTION_FILE, record)

            with (
                closing(Journal(place.journal, layout.stamp)) as journal,
                ModelWriter(folder, layout) as writer,
            ):
                yield writer, finish, journal
