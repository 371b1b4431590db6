"""Forgetting single blobs at once, while others work: only what nobody has come to need.

Owns that no other command, fetch or resolve loses what it relies on. Does not own what is
needed (`needs`), nor collection, which waits (`collecting`).
"""

from collections.abc import Iterable

from crdtmerge.digest import BlobId

from ..home import Home
from ..spaces import Spaces
from .needs import find_needs


def forget_unneeded(
    home: Home, spaces: Spaces, blobs: Iterable[BlobId]
) -> list[BlobId]:
    """Forget those of `blobs` that nothing needs or holds now; return them.

    SUBTLE: nobody can sign for a blob, nor begin to use one, while the block runs; and a
    blob that others are packed against takes these with it.

    Raises:
        MachineError: the store cannot be read, or the disk refused.
    """
    store = home.blobs
    with spaces.lock, store.leases.closed() as closed:
        needs = find_needs(home, spaces)
        gone = [
            blob
            for blob in blobs
            if not (blob in needs or blob in closed.held or store.rows.is_base(blob))
        ]
        for blob in gone:
            store.forget(blob)
        spaces.look_again()
    return gone
