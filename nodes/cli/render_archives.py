"""Spaces as one file, as people read of them.

Owns the words. Does not own the facts (`operations`), nor what all renderers share
(`render`).
"""

from .output import plain, short
from .render import Facts, counted, size


def exported(facts: Facts) -> list[str]:
    """Return the lines of `space export`."""
    blobs = f"{counted(facts['blobs'], 'blob')} ({size(facts['blob_bytes'])})"
    base = ", with the base" if facts["with_base"] else ""
    name = f"{plain(facts['name'])} ({short(facts['space'])})"
    return [
        f"exported space {name} to {plain(facts['file'])}, {size(facts['file_bytes'])}",
        f"  {counted(facts['records'], 'record')}, {blobs}{base}",
    ]


def imported(facts: Facts) -> list[str]:
    """Return the lines of `space import`."""
    new = f"{counted(facts['new_records'], 'new record')}"
    blobs = f"{counted(facts['new_blobs'], 'new blob')} ({size(facts['new_bytes'])})"
    verb = "imported" if facts["new"] else "completed"
    if not facts["new_records"] and not facts["new_blobs"]:
        verb = "nothing new for"
    whole = f"{facts['complete']} of {counted(facts['contributions'], 'contribution')}"
    return [
        f"{verb} space {plain(facts['name'])} ({short(facts['id'])}): {new}, {blobs}",
        f"  {whole} whole here",
    ]
