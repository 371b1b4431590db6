"""What decoders let through, found by fuzzing or while targets for it were written.

One test a bug, named for what did it.

Most ended in an error of Python's, with a traceback, where a refusal was due.
"""

import base64
import io
import json
import time
import zipfile
from pathlib import Path
from unittest import mock

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from crdtmerge.codec import decode, encode
from crdtmerge.errors import (
    BadInputError,
    DamagedStateError,
    MachineError,
    NotMemberError,
)
from crdtmerge.formats.adapter_config import read_config
from crdtmerge.formats.chat_template import with_template
from crdtmerge.formats.model_config import ModelConfig
from crdtmerge.formats.tokenizer import read_vocabulary
from crdtmerge.formats.tokenizer_output import union_document
from crdtmerge.formats.vocabulary import Member, merged
from crdtmerge.formats.yaml_text import parse_yaml
from crdtmerge.formats.zipped import read_records
from crdtmerge.resolve import kept
from crdtmerge.rules import parse_pattern
from nodes.agent import find
from nodes.commands import asked_for
from nodes.home import create_home, open_home
from nodes.operations.contents import kept_exponents
from nodes.sealing import Cost
from nodes.tls import peer_of
from tests.fuzz.reading_homes import PLANES, VECTORS, Replies
from tests.fuzz.seeds import LEAVES, certificates
from tests.fuzz.seeds_homes import string
from tests.fuzz.sums import sums_of


def test_yaml_cannot_name_a_character_beyond_all() -> None:
    """Above the largest number that a character can have there is no text."""
    with pytest.raises(BadInputError, match="character that does not exist"):
        parse_yaml('a: "\\UFFFFFFFF"')


@pytest.mark.parametrize("text", ['a: "\\ud800"', '"\\udfff": 1', '["x\\uD83D"]'])
def test_yaml_cannot_name_half_a_character(text: str) -> None:
    """What has no UTF-8 would fail far away, where it is hashed or written."""
    with pytest.raises(BadInputError, match="line 1: an escape is no whole character"):
        parse_yaml(text)


def test_json_with_half_a_character_is_written_in_escapes() -> None:
    """What stands beside the weights goes along, whatever it says."""
    text = b'{"note": "\\ud800 \\u00e9", "torch_dtype": "float32"}'
    written = ModelConfig.parse(text).for_output("BF16")
    assert json.loads(written) == {"note": "\ud800 é", "torch_dtype": "bfloat16"}
    assert b"\\ud800" in written
    plain = ModelConfig.parse(text.replace(b"\\ud800", b"x")).for_output("BF16")
    assert "x é".encode() in plain


def test_a_chat_template_with_half_a_character_is_refused(tmp_path: Path) -> None:
    """It goes to a file of its own, which is UTF-8."""
    path = tmp_path / "tokenizer_config.json"
    path.write_text('{"chat_template": "{{ x }}\\ud800"}')
    with pytest.raises(BadInputError, match="not Unicode text"):
        with_template({path.name: path}, "auto", [{path.name: path}])


@pytest.mark.parametrize(
    "document",
    [
        {"model": {"vocab": {"a": 0}}, "added_tokens": 7},
        {"model": {"vocab": {"a": 0}}, "added_tokens": True},
        {"model": {"vocab": [[["a"], -1]]}},
        {"model": {"vocab": [[{}, -1]]}},
        {"model": {"vocab": [[3, -1]]}},
    ],
)
def test_a_tokenizer_of_another_form_is_refused(
    tmp_path: Path, document: dict[str, object]
) -> None:
    """Added tokens are a list, and a piece begins with its text."""
    (tmp_path / "tokenizer.json").write_text(json.dumps(document))
    with pytest.raises(BadInputError, match=r"tokenizer\.json has"):
        read_vocabulary(tmp_path)


@pytest.mark.parametrize("merges", [True, [True], [[["a"], "b"]], ["abc"], {"a": 1}, 7])
def test_merges_of_another_form_make_no_union(tmp_path: Path, merges: object) -> None:
    """Of either tokenizer: none is taken over in part, or as something else."""
    members = []
    for name, token, found in (("a", "x", ["a b"]), ("b", "y", merges)):
        (tmp_path / name).mkdir()
        model = {"type": "BPE", "vocab": {token: 0, "a": 1}, "merges": found}
        (tmp_path / name / "tokenizer.json").write_text(json.dumps({"model": model}))
        vocabulary = read_vocabulary(tmp_path / name)
        assert vocabulary is not None
        members.append(Member(name, vocabulary, 2))
    for owner in (0, 1):
        with pytest.raises(BadInputError, match="not pairs"):
            union_document(members, merged(members, owner, union=True))


def test_a_tokenizer_without_merges_adds_its_words(tmp_path: Path) -> None:
    """Words that no merge makes are words all the same."""
    members = []
    for name, model in (
        ("a", {"type": "BPE", "vocab": {"x": 0}, "merges": ["p q"]}),
        ("b", {"type": "BPE", "vocab": {"y": 0}}),
    ):
        (tmp_path / name).mkdir()
        (tmp_path / name / "tokenizer.json").write_text(json.dumps({"model": model}))
        vocabulary = read_vocabulary(tmp_path / name)
        assert vocabulary is not None
        members.append(Member(name, vocabulary, 1))
    document = union_document(members, merged(members, 0, union=True))
    assert document["model"]["vocab"] == {"x": 0, "y": 1}
    assert document["model"]["merges"] == [["p", "q"]]


def adapter_config(folder: Path, pattern: str) -> Path:
    """Return the path of a config with one pattern of ranks."""
    path = folder / "adapter_config.json"
    path.write_text(
        json.dumps({"peft_type": "LORA", "r": 4, "rank_pattern": {pattern: 2}})
    )
    return path


@pytest.mark.parametrize("pattern", ["x{1001}", "(", "a)(b", r"(x)\1", "(?=x)"])
def test_a_pattern_of_an_adapter_that_is_none_is_refused(
    tmp_path: Path, pattern: str
) -> None:
    """What is none alone is none in an expression around it, and says so at once."""
    with pytest.raises(BadInputError, match="pattern"):
        read_config(adapter_config(tmp_path, pattern))


def test_a_repetition_without_end_in_a_pattern_of_an_adapter_is_text(
    tmp_path: Path,
) -> None:
    """To Python it was an OverflowError."""
    config = read_config(adapter_config(tmp_path, "x{4294967296}"))
    assert [config.rank(name) for name in ("x", "m.x{4294967296}")] == [4, 2]


def test_flags_in_a_pattern_of_an_adapter_count_in_it(tmp_path: Path) -> None:
    """Python takes them at the start of a whole expression alone, and found it too late."""
    config = read_config(adapter_config(tmp_path, "(?i)Q"))
    assert [config.rank(name) for name in ("layers.0.q", "q", "k")] == [2, 2, 4]


def test_a_pattern_of_an_adapter_takes_no_endless_time(tmp_path: Path) -> None:
    """An adapter may be anybody's; Python's own matching takes 2**40 steps for this one."""
    config = read_config(adapter_config(tmp_path, "(a+)+b"))
    start = time.process_time()
    assert config.rank("a" * 40) == 4
    assert time.process_time() - start < 5


@pytest.mark.parametrize("method", [zipfile.ZIP_LZMA, zipfile.ZIP_BZIP2])
def test_a_compressed_pickle_is_refused_before_it_is_unpacked(
    tmp_path: Path, method: int
) -> None:
    """Damage in it raised what only its decompressor knows, and it could unpack to much."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("archive/data.pkl", b"\x80\x02}." * 9, method)
    data = bytearray(out.getvalue())
    data[data.index(b"data.pkl") + 12] ^= 0xFF
    path = tmp_path / "x.pt"
    path.write_bytes(bytes(data))
    with pytest.raises(BadInputError, match="compressed or encrypted"):
        read_records(path)


def test_a_record_of_an_endless_name_is_refused(tmp_path: Path) -> None:
    """In the archive that torch is given, its name would be longer than a zip can have."""
    path = tmp_path / "x.pt"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a/data.pkl", b"\x80\x02}.")
        archive.writestr("a/data/" + "0" * 65_500, b"")
    with pytest.raises(BadInputError, match="endless name"):
        read_records(path)


def test_layers_within_layers_do_not_exhaust_the_stack() -> None:
    """A recipe file may hold a pattern of any length."""
    with pytest.raises(BadInputError, match="gives layers twice"):
        parse_pattern("layers:0:" * 20_000)


@pytest.mark.parametrize("step", [2000, 2**40, -(2**40), 2**63 - 1])
def test_kept_sums_of_an_impossible_step_are_damaged(step: int) -> None:
    """A step is a power of two that a float64 has, or nothing can be counted in it."""
    header = bytes.fromhex(VECTORS["kept sums 2"])
    value = decode(header[16:-32], len(header))
    assert isinstance(value, list)
    assert isinstance(value[3], list)
    assert kept.from_bytes(sums_of(encode(value)), PLANES).size == len(PLANES)
    value[3][0] = step
    with pytest.raises(DamagedStateError):
        kept.from_bytes(sums_of(encode(value)), PLANES)


@pytest.mark.parametrize("text", [b"9" * 20, b"9" * 60, str(2**63).encode()])
def test_an_anchor_of_an_impossible_number_is_another_home(
    tmp_path: Path, text: bytes
) -> None:
    """What no home counts to is no number of ours: the spaces are doubted, no more."""
    home = make_home(tmp_path)
    (home / "anchor").write_bytes(text + b"\n")
    with open_home(home, write=True) as opened:
        assert opened.anchor.doubted() == []
    assert int((home / "anchor").read_text()) < 100


def test_a_store_that_remembers_an_impossible_number_is_damaged(tmp_path: Path) -> None:
    """The next one could not be written down."""
    home = make_home(tmp_path)
    with open_home(home, write=True) as opened:
        opened.local.set_value("anchor", encode([2**64 - 1, "stamp", 2**64 - 1]))
    with pytest.raises(MachineError, match="its anchor"):
        open_home(home, write=True)


def make_home(folder: Path) -> Path:
    """Return the path of a new home, closed."""
    path = folder / "home"
    create_home(
        path, author_seed=bytes(32), node_seed=bytes([1]) * 32, generation=bytes(16)
    ).close()
    return path


def test_a_key_whose_numbers_scrypt_refuses_is_damaged() -> None:
    """It is told so, and not that the memory is used up."""
    with pytest.raises(BadInputError, match="no such numbers"):
        Cost(17, 1, 1).check()
    Cost(15, 1, 1).check()


@pytest.mark.parametrize(
    "request_json",
    [
        b"",
        b"7",
        b"[]",
        b"{}",
        b'{"verb": 7, "arguments": {}}',
        b'{"verb": "log"}',
        b"[" * 9999,
    ],
)
def test_a_request_of_another_form_is_answered(request_json: bytes) -> None:
    """Whoever reaches the control socket gets an error, and the node logs no bug."""
    with pytest.raises(BadInputError, match="control socket"):
        asked_for(request_json)


def test_a_certificate_of_another_version_is_nobodys() -> None:
    """It was an error of the library that is no ValueError: a bug of ours, by a peer."""
    pem = next(certificates()).removeprefix(b"m")
    der = bytearray(x509.load_pem_x509_certificate(pem).public_bytes(Encoding.DER))
    version = bytes.fromhex("a003020102")  # [0] INTEGER 2, which is version 3
    der[der.index(version) + 4] = 14
    body = base64.encodebytes(bytes(der))
    other = b"-----BEGIN CERTIFICATE-----\n" + body + b"-----END CERTIFICATE-----\n"
    assert peer_of(pem, LEAVES) in LEAVES
    with pytest.raises(NotMemberError, match="cannot be read"):
        peer_of(other, LEAVES)


@pytest.mark.parametrize(
    "answer",
    [
        b"\x0c\0\0\0\x01\0\0\0\0\0\0\0\x01\xff",  # a comment that is no UTF-8
        b"\x0c\0\0\0\x01\0\0\0\x12\0\0\0\x0bssh-ed25519\0\0\0\0\0\0",  # no key
    ],
)
def test_an_agent_that_answers_nonsense_is_told_so(answer: bytes) -> None:
    """Each was another error of the library that speaks to it."""
    replies = Replies(string(answer))
    with (
        mock.patch("paramiko.agent.get_agent_connection", return_value=replies),
        pytest.raises(MachineError, match="the agent answers nonsense"),
    ):
        find("any")


@pytest.mark.parametrize(
    "kept_text", [b"", b"[]", b"\xff", b'{"a": "3"}', b'{"a": true}']
)
def test_what_was_kept_of_a_base_and_damaged_is_found_out_again(
    kept_text: bytes,
) -> None:
    """It is derived from the base, so nobody has to repair anything."""
    assert kept_exponents(kept_text) is None
    assert kept_exponents(b'{"a": 3}') == {"a": 3}
