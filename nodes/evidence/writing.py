"""Files of evidence, one a stored form, in a folder that is there whole or not at all.

Owns names of files and that nothing half-written stays. Does not own their contents.
"""

import json
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import save_file

from crdtmerge.errors import ConflictError, MachineError
from crdtmerge.evidence.kinds import SCALARS_FILE


def write(
    out: Path,
    tensors: Mapping[str, Mapping[str, torch.Tensor]],
    scalars: Mapping[str, float],
) -> dict[str, Path]:
    """Write the folder `out`; return its files by kind, `scalar` for the numbers.

    Raises:
        ConflictError: there is something of that name.
        MachineError: it cannot be written.
    """
    refuse_existing(out)
    files: dict[str, Path] = {}
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        made = Path(tempfile.mkdtemp(prefix=f".{out.name}.partial-", dir=out.parent))
        try:
            for kind, found in tensors.items():
                name = f"{kind}.safetensors"
                files[kind] = out / name
                ready = {n: v.contiguous() for n, v in sorted(found.items())}
                save_file(ready, made / name)
            if scalars:
                files["scalar"] = out / SCALARS_FILE
                text = json.dumps(dict(sorted(scalars.items())), indent=1)
                (made / SCALARS_FILE).write_text(text + "\n")
            made.chmod(0o755)
            made.rename(out)
        finally:
            shutil.rmtree(made, ignore_errors=True)
    except OSError as e:
        raise MachineError(f"{out}: {e.strerror or e}") from e
    return files


def refuse_existing(out: Path) -> None:
    """Refuse a folder that is there already, before any work.

    Raises:
        ConflictError: there is something of that name.
    """
    if out.exists():
        raise ConflictError(f"{out} exists", hint="name a new folder with --out")
