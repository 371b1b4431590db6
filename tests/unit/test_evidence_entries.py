"""What a manifest may say of evidence: each refusal names form, tensor and what belongs."""

from collections.abc import Iterable

import pytest

from crdtmerge.digest import BlobId
from crdtmerge.errors import ContractError
from crdtmerge.evidence.entries import FORMS, LINEAR_FORMS, check_all, index_of
from crdtmerge.evidence.kinds import KINDS, SCALAR
from crdtmerge.manifest import EvidenceEntry, TensorEntry

BLOB = BlobId(bytes(32))
TENSORS = {
    name: TensorEntry(name, "BF16", shape, BLOB)
    for name, shape in {
        "conv": (4, 2, 3),
        "linear": (3, 5),
        "norm": (7,),
        "scale": (),
    }.items()
}
FITS = {
    ("fisher", "linear"): (3, 5),
    ("fisher", "conv"): (4, 2, 3),
    ("fisher", "scale"): (),
    ("energy", "norm"): (7,),
    ("gram", "linear"): (5, 5),
    ("gram", "conv"): (6, 6),
    ("gram_sketch", "linear"): (2, 5),
    ("gram_merged", "linear"): (5, 5),
    ("gram_merged_sketch", "conv"): (3, 6),
    ("inputs", "linear"): (5,),
    ("magnitude", "conv"): (6,),
    ("outputs", "linear"): (3,),
    ("outputs", "norm"): (7,),
    ("outputs", "scale"): (1,),
    ("adam", "norm"): (7,),
    ("adam_rows", "linear"): (3,),
    ("adam_columns", "linear"): (5,),
}


def entry(
    form: str, name: str, shape: tuple[int, ...], dtype: str = "F32"
) -> EvidenceEntry:
    """Return what a manifest lists; no byte is looked at."""
    return EvidenceEntry(form, TensorEntry(name, dtype, shape, BLOB))


def check(*entries: EvidenceEntry) -> None:
    """Check what an author would sign."""
    check_all(entries, TENSORS)


def refused(entries: Iterable[EvidenceEntry], *words: str) -> None:
    """Expect a refusal that says all these words."""
    with pytest.raises(ContractError) as caught:
        check(*entries)
    told = f"{caught.value} {caught.value.hint}"
    for word in words:
        assert word in told


def test_every_kind_is_made_of_known_forms() -> None:
    """And every form is of exactly one kind."""
    forms = [form for kind in KINDS.values() for form in kind.forms]
    assert sorted(forms) == sorted(FORMS)


def test_each_form_has_its_shape() -> None:
    """Of matrices, convolutions, vectors and single items."""
    sums = [(f, n) for f, n in FITS if f in {"adam_rows", "adam_columns"}]
    check(*(entry(*place, FITS[place]) for place in sums))
    for (form, name), shape in FITS.items():
        if (form, name) not in sums:
            check(entry(form, name, shape))


@pytest.mark.parametrize(("form", "name"), FITS)
def test_another_layers_shape_is_refused(form: str, name: str) -> None:
    """One item more in any dimension, or a dimension more."""
    shape = FITS[form, name]
    others = [(*shape, 2)]
    others += [
        tuple(n + 4 * (at == place) for at, n in enumerate(shape))
        for place in range(len(shape))
    ]
    for other in others:
        refused(
            [entry(form, name, other)],
            repr(form),
            repr(name),
            str(list(other)),
            "belongs",
        )


@pytest.mark.parametrize("rows", [0, 6])
def test_a_sketch_is_no_larger_than_what_it_stands_for(rows: int) -> None:
    """Nor is it empty: it is the one form whose size its author chooses."""
    refused([entry("gram_sketch", "linear", (rows, 5))], "[1 to 5, 5]")


@pytest.mark.parametrize("form", sorted(LINEAR_FORMS))
@pytest.mark.parametrize("name", ["norm", "scale"])
def test_what_is_no_matrix_has_no_inputs(form: str, name: str) -> None:
    """A norm has no Gram matrix."""
    refused([entry(form, name, (1, 1))], repr(form), repr(name), "no inputs")


def test_an_unknown_kind_is_refused_to_its_author() -> None:
    """With those that there are; one that this version does not know means nothing."""
    refused([entry("hessian", "linear", (3, 5))], "'hessian'", "gram_sketch", SCALAR)


def test_an_unknown_tensor_is_refused() -> None:
    """Another model's names."""
    refused([entry("fisher", "layers.9", (3, 5))], "'fisher'", "'layers.9'", "base")


@pytest.mark.parametrize("dtype", ["I32", "F8_E4M3", "BOOL"])
def test_dtypes_that_cannot_hold_it_are_refused(dtype: str) -> None:
    """Integers and eight bits."""
    refused([entry("fisher", "linear", (3, 5), dtype)], dtype, "F64, F32, BF16, F16")


@pytest.mark.parametrize("dtype", ["BF16", "F16"])
def test_a_gram_matrix_needs_bits(dtype: str) -> None:
    """A sketch in as few is one still."""
    refused([entry("gram", "linear", (5, 5), dtype)], dtype, "gram_sketch")
    check(entry("gram_sketch", "linear", (5, 5), dtype))


@pytest.mark.parametrize("form", ["adam_columns", "adam_rows"])
def test_sums_go_together(form: str) -> None:
    """Of rows alone nothing can be made."""
    refused([entry(form, "linear", FITS[form, "linear"])], "go together", "'linear'")


@pytest.mark.parametrize("name", ["loss", "samples", "step", "score:a.b_c-1"])
def test_numbers_with_a_meaning(name: str) -> None:
    """One item of F64 each, of no dimension."""
    check(entry(SCALAR, name, (), "F64"))
    refused([entry(SCALAR, name, (), "F32")], repr(name), "F32")
    refused([entry(SCALAR, name, (1,), "F64")], repr(name), "[1]")


@pytest.mark.parametrize(
    "name", ["lost", "score:", "score:A", "score:" + "a" * 65, "score:a b", "score"]
)
def test_numbers_without_a_meaning(name: str) -> None:
    """Are refused, with those that have one."""
    refused([entry(SCALAR, name, (), "F64")], repr(name), "loss, samples, step")


def test_an_index_finds_the_forms_of_a_kind() -> None:
    """And passes over kinds that this version does not know."""
    found = index_of(
        [
            entry("adam_columns", "linear", (5,)),
            entry("adam_rows", "linear", (3,)),
            entry("fisher", "linear", (3, 5)),
            entry("from_the_future", "linear", (1,)),
            entry(SCALAR, "loss", (), "F64"),
        ]
    )
    assert found.forms("linear", "adam").keys() == {"adam_columns", "adam_rows"}
    assert found.forms("linear", "fisher").keys() == {"fisher"}
    assert not found.forms("linear", "gram")
    assert not found.forms("norm", "fisher")
    assert found.scalars.keys() == {"loss"}
