"""Models that are cut while they are merged: the system's signal becomes an error."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from crdtmerge.errors import BadInputError
from crdtmerge.formats.folder import open_tensor, read_folder
from tests.homes import write_model

CUTTING = """
import os, sys
from crdtmerge.formats import source
from nodes import cli

open_tensor = source.open_tensor

def cut(stored):
    data = open_tensor(stored)
    if stored.path.parent.name == "two":
        os.truncate(stored.path, 0)
    return data

source.open_tensor = cut
cli.main()
"""
"""The command line, in which a model is cut once its tensors are mapped."""


@pytest.mark.skipif(sys.platform == "win32", reason="there such a file cannot be cut")
@pytest.mark.parametrize("as_json", [False, True])
def test_a_model_cut_while_it_is_mapped_is_an_error_with_a_code(
    tmp_path: Path, as_json: bool
) -> None:
    for seed, name in enumerate(("one", "two")):
        write_model(tmp_path / name, seed)
    models = "".join(
        f"- {{model: {name}, parameters: {{weight: 1}}}}\n" for name in ("one", "two")
    )
    config = tmp_path / "merge.yml"
    config.write_text(f"merge_method: linear\nmodels:\n{models}")
    words = ["merge", config, tmp_path / "out", *(["--json"] if as_json else [])]
    ended = subprocess.run(
        [sys.executable, "-c", CUTTING, *map(str, words)],
        capture_output=True,
        text=True,
        check=False,
    )
    said = json.loads(ended.stderr)["error"]["message"] if as_json else ended.stderr
    assert ended.returncode == 3
    assert "was cut while it was read" in said
    assert not ended.stdout
    assert not (tmp_path / "out").exists()


def test_a_model_that_was_cut_before_it_is_mapped_is_named(tmp_path: Path) -> None:
    """By its path: all models have a file of the same name."""
    folder = read_folder(write_model(tmp_path / "two", 1))
    path = folder.tensors[0].path
    os.truncate(path, 8)
    with pytest.raises(BadInputError, match=re.escape(f"{path} changed while")):
        open_tensor(folder.tensors[0])
