"""What goes wrong in a simulated world: forty kinds, how often, and when.

`catalogue` numbers the kinds and says what each is. `mix` says how often each happens in a
run. `dice` draws, from the seed, when one does, and counts; `only` says which strikes of a
run are left. Who suffers is in `network`, `downloads`, `world` and `weather`.
"""

from .catalogue import FAULTS, Fault
from .dice import Dice, Strike, Subject
from .mix import CALM, ROUGH, STORM, Faults
from .only import Only, only_options, told_only

__all__ = [
    "CALM",
    "FAULTS",
    "ROUGH",
    "STORM",
    "Dice",
    "Fault",
    "Faults",
    "Only",
    "Strike",
    "Subject",
    "only_options",
    "told_only",
]
