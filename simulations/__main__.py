"""`python -m simulations --seed N --nodes N`: run scenarios, print what they came to.

Owns the command line of the simulator. Does not own the scenarios.
"""

import argparse
import sys

from .checkers import NotConvergedError
from .scenarios import NODES_MIN, SCENARIOS, run_scenario


def main() -> int:
    """Run the scenarios asked for; return 1 if a promise does not hold."""
    parser = argparse.ArgumentParser(prog="python -m simulations", description=__doc__)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--nodes", type=int, default=6)
    parser.add_argument("--scenario", choices=sorted(SCENARIOS), action="append")
    asked = parser.parse_args()
    if asked.nodes < NODES_MIN:
        parser.error(f"--nodes must be {NODES_MIN} at least")
    for name in asked.scenario or SCENARIOS:
        try:
            outcome = run_scenario(name, asked.seed, asked.nodes)
        except NotConvergedError as e:
            command = f"--seed {asked.seed} --nodes {asked.nodes} --scenario {name}"
            _say(f"{name}: FAILED: {e}\n  python -m simulations {command}")
            return 1
        _say(
            f"{name}: seed {outcome.seed}, {outcome.nodes} nodes,"
            f" {outcome.records} records, rounds {outcome.settled.record_rounds:.2f}"
            f" (records) {outcome.settled.rounds:.2f} (contents),"
            f" {outcome.messages} messages, {outcome.message_bytes} bytes,"
            f" {outcome.blob_bytes} blob bytes, log {outcome.log_digest[:16]}"
        )
    return 0


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")


if __name__ == "__main__":
    sys.exit(main())
