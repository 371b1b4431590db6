"""What strategies may do with arrays, read off their source: one list of what is allowed.

Owns the lists and the reading of a source text. Does not own which files are read.

Allowed are single IEEE operations item by item, exact choices (sort, compare, largest),
and layout. All that adds up items in an order of its own, or rounds as some library or
processor likes, is not: sums, products of matrices, powers, exponentials.
"""

import ast
import sys
from typing import Final


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


SINGLE: Final = _words(
    "add subtract multiply divide negative sqrt square abs fabs absolute sign copysign"
    " minimum maximum clip floor ceil rint trunc where"
)
"""One IEEE operation an item."""

EXACT: Final = _words(
    "sort argsort argmax argmin max min amax amin any all count_nonzero nonzero"
    " flatnonzero isfinite isnan isinf signbit equal not_equal less less_equal greater"
    " greater_equal logical_and logical_or logical_not logical_xor bitwise_and"
    " bitwise_or bitwise_xor invert searchsorted unique array_equal"
)
"""Choices and comparisons: no item is rounded."""

LAYOUT: Final = _words(
    "stack concatenate vstack hstack zeros zeros_like ones ones_like full full_like empty"
    " empty_like eye identity ascontiguousarray asarray array frombuffer arange newaxis"
    " take take_along_axis put_along_axis broadcast_to broadcast_arrays repeat tile"
    " reshape ravel transpose moveaxis swapaxes expand_dims squeeze flip roll split"
    " array_split diagonal diag fill_diagonal ix_ triu_indices tril_indices copyto"
    " errstate ndarray dtype generic float16 float32 float64 int8 int16 int32 int64 intp"
    " pi nan uint8 uint16 uint32 uint64 bool_ inf integer floating"
)
NUMPY: Final = SINGLE | EXACT | LAYOUT

REDUCED: Final = frozenset({"minimum", "maximum", "logical_and", "logical_or"})
"""Operations whose reduction over an axis is exact, in any order."""

MATH: Final = _words(
    "sqrt fsum isqrt inf ceil floor trunc isfinite isnan isinf fabs copysign frexp ldexp"
    " comb gcd lcm prod pi nan"
)
"""Of `math`: exact, one IEEE operation after another, or correctly rounded by promise."""

METHODS: Final = _words(
    "sum mean dot prod std var trace cumsum cumprod matmul average nansum nanmean"
    " argsort argpartition ptp"
)
"""Methods of arrays that round in an order of their own, or hide how ties go."""

IMPORTS_BANNED: Final = frozenset({"random", "statistics", "cmath", "operator"})


def violations(source: str) -> list[str]:
    """Say what in a source text strategies may not do, with its line."""
    tree = ast.parse(source)
    reader = _Reader()
    reader.visit(tree)
    return [f"{line}: {text}" for line, text in sorted(reader.found)]


class _Reader(ast.NodeVisitor):
    def __init__(self) -> None:
        self.found: list[tuple[int, str]] = []

    def _refuse(self, node: ast.stmt | ast.expr, text: str) -> None:
        self.found.append((node.lineno, text))

    def visit_Import(self, node: ast.Import) -> None:
        for name in node.names:
            if name.name == "numpy" and name.asname != "np":
                self._refuse(node, "numpy is imported as np")
            elif name.name == "math" and name.asname:
                self._refuse(node, "math keeps its name")
            elif name.name != "numpy" and not _may_import(name.name):
                self._refuse(node, f"imports {name.name}")

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        module = node.module or ""
        names = {name.name for name in node.names}
        if module == "math":
            for name in sorted(names - MATH):
                self._refuse(node, f"math.{name}")
        elif module != "numpy.typing" and not _may_import(module):
            self._refuse(node, f"imports from {module}")

    def visit_Name(self, node: ast.Name) -> None:
        if node.id in {"np", "math"}:
            self._refuse(node, f"{node.id} is used as a value")
        if node.id in {"pow", "getattr", "__import__", "eval", "exec"}:
            self._refuse(node, f"{node.id}()")

    def visit_Attribute(self, node: ast.Attribute) -> None:
        chain = _chain(node)
        if chain[:1] == ["np"]:
            self._numpy(node, chain[1:])
        elif chain[:1] == ["math"]:
            if chain[1] not in MATH:
                self._refuse(node, f"math.{chain[1]}")
        else:
            if node.attr in METHODS and chain != ["numerics", node.attr]:
                self._refuse(node, f".{node.attr}")
            if node.attr in {"__pow__", "__matmul__"}:
                self._refuse(node, f".{node.attr}")
            self.visit(node.value)

    def _numpy(self, node: ast.Attribute, names: list[str]) -> None:
        first, *rest = names
        if first not in NUMPY:
            self._refuse(node, f"np.{first}")
        elif rest and not (rest == ["reduce"] and first in REDUCED):
            self._refuse(node, f"np.{'.'.join(names)}")

    def visit_Call(self, node: ast.Call) -> None:
        kinds = [k.value for k in node.keywords if k.arg == "kind"]
        stable = any(isinstance(k, ast.Constant) and k.value == "stable" for k in kinds)
        if _chain(node.func) == ["np", "argsort"] and not stable:
            self._refuse(node, 'np.argsort without kind="stable"')
        self.generic_visit(node)

    def visit_BinOp(self, node: ast.BinOp) -> None:
        literal = all(_is_literal(side) for side in (node.left, node.right))
        literal = literal or _is_rational(node.left)
        self._operator(node, node.op, literal=literal)
        self.generic_visit(node)

    def visit_AugAssign(self, node: ast.AugAssign) -> None:
        self._operator(node, node.op, literal=False)
        self.generic_visit(node)

    def _operator(
        self, node: ast.stmt | ast.expr, operator: ast.operator, *, literal: bool
    ) -> None:
        if isinstance(operator, ast.MatMult):
            self._refuse(node, "@")
        if isinstance(operator, ast.Pow) and not literal:
            self._refuse(node, "** of what is no literal")


def _may_import(module: str) -> bool:
    top = module.partition(".")[0]
    ours = top == "crdtmerge"
    return ours or (top in sys.stdlib_module_names and top not in IMPORTS_BANNED)


def _chain(node: ast.expr) -> list[str]:
    """Return the names of `a.b.c`; nothing if it does not begin with a name."""
    names: list[str] = []
    while isinstance(node, ast.Attribute):
        names.append(node.attr)
        node = node.value
    return [*reversed([*names, node.id])] if isinstance(node, ast.Name) else []


def _is_rational(node: ast.expr) -> bool:
    """Tell whether it is `Fraction(...)`, whose whole powers are exact."""
    return isinstance(node, ast.Call) and _chain(node.func) == ["Fraction"]


def _is_literal(node: ast.expr) -> bool:
    if isinstance(node, ast.UnaryOp):
        node = node.operand
    return isinstance(node, ast.Constant) and isinstance(node.value, int | float)
