"""The cases of kernels on arrays: all of them run, and backends agree on them."""

from types import ModuleType

from crdtmerge.numerics.cases_elements import element_cases
from crdtmerge.numerics.cpu import assignment as fast_assignment
from crdtmerge.numerics.cpu import philox as fast_philox
from crdtmerge.numerics.cpu import polynomials as fast_polynomials
from crdtmerge.numerics.cpu import reductions as fast_reductions
from crdtmerge.numerics.cpu import selection as fast_selection
from crdtmerge.numerics.reference import (
    assignment,
    philox,
    polynomials,
    reductions,
    selection,
)

FAST = (fast_assignment, fast_philox, fast_polynomials, fast_reductions, fast_selection)
REFERENCE = (assignment, philox, polynomials, reductions, selection)


def owner(modules: tuple[ModuleType, ...], name: str) -> ModuleType | None:
    """Return the module that defines a function, not one that imports it."""
    for module in modules:
        found = getattr(module, name, None)
        if found is not None and found.__module__ == module.__name__:
            return module
    return None


def test_every_case_has_the_bytes_of_the_reference_in_its_compiled_form() -> None:
    """Titles are unique; what has no compiled form is what NumPy is as fast at."""
    titles, slow = set(), set()
    for name, title, run in element_cases():
        titles.add(title)
        reference, fast = owner(REFERENCE, name), owner(FAST, name)
        assert reference is not None, name
        if fast is None:
            slow.add(name)
            assert run(reference)
        else:
            assert run(fast) == run(reference), title
    assert len(titles) == sum(1 for _ in element_cases())
    assert slow == {"largest", "largest_magnitude"}


def test_a_run_leaves_its_inputs_as_they_were() -> None:
    """The same case gives the same bytes again, compiled or not."""
    for name, title, run in element_cases():
        if title.startswith(("sin", "assign 20", "2 of 4, 64", "median of 65 ")):
            for modules in (REFERENCE, FAST):
                module = owner(modules, name)
                assert run(module) == run(module), title
