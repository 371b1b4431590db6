"""The assignment of rows to columns of least total cost, exact on integers.

Owns `assign`. Does not own how costs become integers (whoever weighs them).

Tie rule: of all assignments of least cost the first in lexicographic order, so row 0 gets
the lowest column that any of them gives it, then row 1, and so on. It does not depend on
the algorithm, of which there are two parts:

1. Shortest augmenting paths, one for each row, with prices of rows and columns that keep
   every reduced cost (cost - price of the row - price of the column) at or above 0
   (Jonker and Volgenant, "A shortest augmenting path algorithm for dense and sparse linear
   assignment problems", 1987; in the form of Crouse, 2016). O(n m^2) steps.
2. An assignment is one of least cost if and only if all its reduced costs are 0. So each
   row in turn takes its lowest column of reduced cost 0 for which the later rows can be
   moved along such columns: one search back from the column that it gives up.

Fewer rows than columns are filled up with rows of equal costs, whose columns are the ones
that are left.
"""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from crdtmerge.errors import ContractError

Costs = NDArray[np.int64]

PRICE_BITS: Final = 62
"""Prices and distances stay below 2 to this; `FAR` is above them."""

FAR: Final = (1 << 63) - 1


def assign(costs: Costs) -> NDArray[np.int64]:
    """Return the column of each row, none twice, such that the costs' sum is least.

    Of several such assignments it is the first in lexicographic order.

    Raises:
        ContractError: there are more rows than columns, or costs are so far apart that
            sums of them might leave int64.
    """
    square = squared(costs)
    columns, owners, reduced = _least(square)
    for row in range(len(costs)):
        _lower(row, columns, owners, reduced == 0)
    return columns[: len(costs)]


def squared(costs: Costs) -> Costs:
    """Return the costs from 0 on, filled up to a square with rows of 0.

    Raises:
        ContractError: as for `assign`.
    """
    rows, columns = costs.shape
    if rows > columns:
        message = f"{rows} rows cannot have a column each of {columns}"
        raise ContractError(message, hint="transpose the costs")
    found = np.zeros((columns, columns), dtype=np.int64)
    if not costs.size:
        return found
    least, spread = int(costs.min()), int(costs.max()) - int(costs.min())
    if spread * (2 * columns + 2) >= 1 << PRICE_BITS:
        message = f"costs that are {spread} apart are too far for {columns} columns"
        raise ContractError(message, hint="scale them down: only differences count")
    found[:rows] = costs - least
    return found


def _least(
    costs: Costs,
) -> tuple[NDArray[np.int64], NDArray[np.int64], Costs]:
    """Return the column of each row, the row of each column, and the reduced costs."""
    size = len(costs)
    columns, owners = np.full(size, -1), np.full(size, -1)
    row_prices, prices = np.zeros(size, np.int64), np.zeros(size, np.int64)
    for start in range(size):
        distances, before = np.full(size, FAR), np.full(size, -1)
        is_done = np.zeros(size, dtype=np.bool_)
        row, walked, rows = start, 0, []
        while row >= 0:
            rows.append(row)
            lengths = walked + costs[row] - row_prices[row] - prices
            shorter = ~is_done & (lengths < distances)
            distances[shorter], before[shorter] = lengths[shorter], row
            nearest = int(np.where(is_done, FAR, distances).argmin())
            walked = int(distances[nearest])
            is_done[nearest] = True
            row = int(owners[nearest])
        row_prices[start] += walked
        others = np.array(rows[1:], dtype=np.int64)
        row_prices[others] += walked - distances[columns[others]]
        prices[is_done] -= walked - distances[is_done]
        column = nearest
        while row != start:
            row = int(before[column])
            owners[column] = row
            column, columns[row] = int(columns[row]), column
    return columns, owners, costs - row_prices[:, np.newaxis] - prices


def _lower(
    row: int,
    columns: NDArray[np.int64],
    owners: NDArray[np.int64],
    is_tight: NDArray[np.bool_],
) -> None:
    """Move a row to its lowest column that leaves an assignment of the later rows."""
    given_up = int(columns[row])
    onward = {given_up: given_up}
    queue = [given_up]
    for column in queue:  # it grows
        takers = np.flatnonzero(is_tight[row + 1 :, column]) + row + 1
        for held in columns[takers].tolist():
            if held not in onward:
                onward[held] = column
                queue.append(held)
    lowest = next(c for c in np.flatnonzero(is_tight[row]).tolist() if c in onward)
    mover, column = row, lowest
    while True:
        displaced = int(owners[column])
        columns[mover], owners[column] = column, mover
        if column == given_up:
            return
        mover, column = displaced, onward[column]
