"""Faults of links, machines and members, drawn round by round.

Owns when they happen: `Weather` asks the dice once a round for each of their subjects, and
lets all pass at the end. What each does is in `links`, `processes`, `disks` and `members`.
Faults of single messages, dials and streams are drawn where they strike: in `network`,
`world` and `downloads`.
"""

from .drawn import Weather

__all__ = ["Weather"]
