"""Who may do what: the second and third of the three steps.

`ranks` owns what a rank allows, `admissible` who had the right to make a record, `dead`
which records are as if they were not there, `standing` whose records take effect, `forked`
who used a number twice, `elements` what the effective records show, `scoring` which
evaluations count, `view` the words that it is told in. Does not own the set itself
(`orset`), nor the bytes of contributions.
"""

from crdtmerge.policy.admissible import (
    SUCCESSORS_MAX,
    Lookup,
    authority_of,
    check_admissible,
    given_by,
    handed_on,
)
from crdtmerge.policy.changes import Changes
from crdtmerge.policy.council import COUNCIL, COUNCIL_LEAST, council_of_owners
from crdtmerge.policy.dead import (
    DECIDING,
    MORTAL,
    NOTHING_LISTED,
    Listing,
    counting,
    is_dead,
    link_of,
    listing_of,
    living,
    signers_of,
)
from crdtmerge.policy.elements import NODES_PER_AUTHOR_MAX, evaluate
from crdtmerge.policy.meaning import Meaning
from crdtmerge.policy.ranks import (
    BYTES_MAX_DEFAULT,
    NEEDED,
    OPEN,
    OWNER,
    RECORDS_MAX_DEFAULT,
    WEIGHT_CAP_DEFAULT,
    Authority,
    Rank,
)
from crdtmerge.policy.scoring import Evaluated
from crdtmerge.policy.view import (
    Pending,
    Shown,
    ShownFork,
    View,
    Visible,
    manifest_sizes,
)

__all__ = [
    "BYTES_MAX_DEFAULT",
    "COUNCIL",
    "COUNCIL_LEAST",
    "DECIDING",
    "MORTAL",
    "NEEDED",
    "NODES_PER_AUTHOR_MAX",
    "NOTHING_LISTED",
    "OPEN",
    "OWNER",
    "RECORDS_MAX_DEFAULT",
    "SUCCESSORS_MAX",
    "WEIGHT_CAP_DEFAULT",
    "Authority",
    "Changes",
    "Evaluated",
    "Listing",
    "Lookup",
    "Meaning",
    "Pending",
    "Rank",
    "Shown",
    "ShownFork",
    "View",
    "Visible",
    "authority_of",
    "check_admissible",
    "council_of_owners",
    "counting",
    "evaluate",
    "given_by",
    "handed_on",
    "is_dead",
    "link_of",
    "listing_of",
    "living",
    "manifest_sizes",
    "signers_of",
]
