"""Assignments of least cost in compiled loops.

Owns the fast form of `reference.assignment`. Does not own its tie rule, which makes the
result one, whatever the algorithm does.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from crdtmerge.numerics.cpu.compiling import compiled
from crdtmerge.numerics.reference.assignment import FAR, Costs, squared


@compiled
def _least(costs: Any, columns: Any, owners: Any, row_prices: Any, prices: Any) -> None:
    """Fill in an assignment of least cost and its prices, given as -1 and 0."""
    size = len(costs)
    walk, rows = np.empty((3, size), np.int64), np.empty(size, np.int64)
    distances, before, is_done = walk[0], walk[1], walk[2]
    for start in range(size):
        distances[:] = FAR
        is_done[:] = 0
        row, walked, nearest, count = start, 0, 0, 0
        while row >= 0:
            rows[count] = row
            count += 1
            nearest = _scan(costs[row], walked - row_prices[row], prices, walk, row)
            walked = distances[nearest]
            is_done[nearest] = 1
            row = owners[nearest]
        row_prices[start] += walked
        for place in range(1, count):
            row = rows[place]
            row_prices[row] += walked - distances[columns[row]]
        for column in range(size):
            if is_done[column]:
                prices[column] -= walked - distances[column]
        column, row = nearest, -1
        while row != start:
            row = before[column]
            owners[column] = row
            left = columns[row]
            columns[row] = column
            column = left


@compiled
def _scan(costs: Any, walked: int, prices: Any, walk: Any, row: int) -> int:
    """Walk on from a row to all columns; return the nearest that was not done."""
    distances, before, is_done = walk[0], walk[1], walk[2]
    nearest, least = -1, FAR
    for column in range(costs.size):
        if is_done[column]:
            continue
        length = walked + costs[column] - prices[column]
        if length < distances[column]:
            distances[column] = length
            before[column] = row
        if distances[column] < least:
            least = distances[column]
            nearest = column
    return nearest


@compiled
def _lower_all(
    is_tight: Any, takers: Any, columns: Any, owners: Any, rows: int
) -> None:
    """Give each row in turn its lowest column of an assignment of least cost.

    `is_tight` tells by row and column where the reduced cost is 0, `takers` is the same
    by column and row.
    """
    size = len(takers)
    onward, queue = np.empty(size, np.int64), np.empty(size, np.int64)
    for row in range(rows):
        given_up = columns[row]
        hoped = 0  # no later row's column that the row could have is lower
        while not is_tight[row, hoped] or owners[hoped] < row:
            hoped += 1
        onward[:] = -1
        onward[given_up] = given_up
        queue[0] = given_up
        taken, count = 0, 1
        while taken < count and onward[hoped] < 0:
            column = queue[taken]
            taken += 1
            taking = takers[column]
            for other in range(row + 1, size):
                if taking[other] and onward[columns[other]] < 0:
                    onward[columns[other]] = column
                    queue[count] = columns[other]
                    count += 1
        column = hoped
        while onward[column] < 0 or not is_tight[row, column]:
            column += 1
        _move(row, column, columns, owners, onward)


@compiled
def _move(row: int, column: int, columns: Any, owners: Any, onward: Any) -> None:
    """Give a row a column, and each row that this displaces the one that comes next."""
    given_up = columns[row]
    mover = row
    while True:
        displaced = owners[column]
        columns[mover] = column
        owners[column] = mover
        if column == given_up:
            return
        mover, column = displaced, onward[column]


def assign(costs: Costs) -> NDArray[np.int64]:
    """Return the column of each row, none twice, such that the costs' sum is least."""
    square = squared(costs)
    size = len(square)
    columns, owners = np.full(size, -1), np.full(size, -1)
    row_prices, prices = np.zeros(size, np.int64), np.zeros(size, np.int64)
    _least(square, columns, owners, row_prices, prices)
    is_tight = square - row_prices[:, np.newaxis] == prices
    takers = np.ascontiguousarray(is_tight.T)
    _lower_all(is_tight, takers, columns, owners, len(costs))
    return columns[: len(costs)]
