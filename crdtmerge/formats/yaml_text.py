"""YAML as plain values: the safe part of the language, with limits, and no surprises.

Owns parsing; sole importer of yaml. Does not own what any value means. Numbers keep the
text in which they were written, so that nothing is rounded on the way; a key given twice
is refused, where YAML's own loaders let the last one win.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeAlias

import yaml

from crdtmerge.errors import BadInputError

FILE_BYTES_MAX: Final = 256 << 10
DEPTH_MAX: Final = 32
NODES_MAX: Final = 100_000
"""Values that may be met, each alias counted as what it stands for."""


@dataclass(frozen=True, slots=True)
class Number:
    """A number, as it was written."""

    text: str


Plain: TypeAlias = "str | bool | Number | list[Plain] | dict[str, Plain] | None"
"""What a file says."""

_TAG: Final = "tag:yaml.org,2002:"
_TRUE: Final = frozenset({"true", "yes", "on"})


def read_yaml(path: Path) -> Plain:
    """Return what a YAML file says.

    Raises:
        BadInputError: it cannot be read, is above a limit, or is not plain YAML.
    """
    return parse_yaml(text_of(path), path.name)


def text_of(path: Path) -> str:
    """Return the text of a file that a person wrote.

    Raises:
        BadInputError: it cannot be read, is above the limit, or is not UTF-8.
    """
    try:
        if path.stat().st_size > FILE_BYTES_MAX:
            message = f"{path.name} is above the limit of {FILE_BYTES_MAX} bytes"
            raise BadInputError(message)
        return path.read_text("utf-8")
    except OSError as e:
        message = f"cannot read {path}: {e.strerror}"
        raise BadInputError(message) from e
    except UnicodeDecodeError as e:
        message = f"{path.name} is not UTF-8 text"
        raise BadInputError(message) from e


def parse_yaml(text: str, name: str = "the text") -> Plain:
    """Return what YAML text says.

    Raises:
        BadInputError: it breaks the syntax, a limit, or holds what is no plain value.
    """
    try:
        # Composing expands no alias and builds no object: it only reads the grammar.
        node = yaml.compose(text, Loader=yaml.SafeLoader)
        return None if node is None else _Reader(name).plain(node, 0)
    except yaml.YAMLError as e:
        if isinstance(e, yaml.MarkedYAMLError) and "another document" in str(e.problem):
            message = f"{name} holds several documents, with `---` between"
            hint = "write each to a file of its own, and run them one after another"
            raise BadInputError(message, hint=hint) from e
        raise BadInputError(f"{name} is not YAML: {_told(e)}") from e
    except (RecursionError, ValueError) as e:
        raise BadInputError(f"{name} is not YAML: it nests too deep") from e
    except OverflowError as e:
        message = f"{name} is not YAML: it names a character that does not exist"
        raise BadInputError(message) from e


def _told(error: yaml.YAMLError) -> str:
    """Return what is wrong and where, on one line."""
    if isinstance(error, yaml.MarkedYAMLError) and error.problem_mark is not None:
        mark = error.problem_mark
        return f"line {mark.line + 1}, column {mark.column + 1}: {error.problem}"
    return " ".join(str(error).split())


class _Reader:
    """Turns nodes into values, counting them."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._met = 0

    def plain(self, node: yaml.Node, depth: int) -> Plain:
        self._met += 1
        if self._met > NODES_MAX or depth > DEPTH_MAX:
            limits = f"more than {NODES_MAX} values, or deeper than {DEPTH_MAX}"
            raise BadInputError(f"{self._name} holds {limits}")
        if isinstance(node, yaml.ScalarNode):
            return self._scalar(node)
        if isinstance(node, yaml.SequenceNode) and node.tag == _TAG + "seq":
            return [self.plain(item, depth + 1) for item in node.value]
        if isinstance(node, yaml.MappingNode) and node.tag == _TAG + "map":
            return self._mapping(node, depth)
        raise self._refusal(node, f"a value of type {node.tag!r} is not plain")

    def _mapping(self, node: yaml.MappingNode, depth: int) -> Plain:
        found: dict[str, Plain] = {}
        for key, value in node.value:
            if not isinstance(key, yaml.ScalarNode) or key.tag != _TAG + "str":
                raise self._refusal(key, "a key is not a plain name")
            self._require_text(key)
            if key.value in found:
                raise self._refusal(key, f"the key {key.value!r} is given twice")
            found[key.value] = self.plain(value, depth + 1)
        return found

    def _require_text(self, node: yaml.ScalarNode) -> None:
        """Refuse halves of characters, which escapes can name and nobody can write."""
        try:
            str(node.value).encode()
        except UnicodeEncodeError:
            raise self._refusal(node, "an escape is no whole character") from None

    def _scalar(self, node: yaml.ScalarNode) -> Plain:
        self._require_text(node)
        kind = node.tag.removeprefix(_TAG)
        if kind in {"str", "timestamp"}:
            return str(node.value)
        if kind in {"int", "float"}:
            return Number(str(node.value))
        if kind == "bool":
            return str(node.value).lower() in _TRUE
        if kind == "null":
            return None
        raise self._refusal(node, f"a value of type {node.tag!r} is not plain")

    def _refusal(self, node: yaml.Node, message: str) -> BadInputError:
        line = f"line {node.start_mark.line + 1}: " if node.start_mark else ""
        return BadInputError(f"{self._name}: {line}{message}")
