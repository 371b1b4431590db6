"""The kind `evaluation`: who scored what, by which metric, on which named data.

Owns its form. Does not own which evaluations count (`policy.scoring`), nor what a strategy
makes of them (`strategies.scores`). A result is a claim of its author: nobody can check it
without the data, and nothing here tries.
"""

import re
from dataclasses import dataclass
from typing import ClassVar, Final

from crdtmerge.bodies.contents import NOTE_CHARACTERS_MAX
from crdtmerge.bodies.forms import not_a, require
from crdtmerge.codec import Value, format_decimal, parse_decimal
from crdtmerge.digest import DIGEST_BYTES

SUBJECTS: Final = ("content", "model")
"""What is scored: a contribution by its content id, or a merged model by its merge id."""
SCORE_LABEL_FORM: Final = "1 to 64 of a-z 0-9 . _ -"
_LABEL: Final = re.compile(r"[a-z0-9._-]{1,64}")


def is_score_label(text: str) -> bool:
    """Tell whether `text` can name a metric or data: a word that a recipe can say too."""
    return _LABEL.fullmatch(text) is not None


@dataclass(frozen=True, slots=True)
class Evaluation:
    """Scores one contribution or merged model; `result` is in units of 1e-9.

    Of one author the last on one subject, metric and data counts.
    """

    KIND: ClassVar[str] = "evaluation"
    subject: str
    target: bytes
    metric: str
    data: str
    result: int
    note: str = ""

    def to_value(self) -> Value:
        """Return the body's plain value."""
        result = format_decimal(self.result)
        return [self.subject, self.target, self.metric, self.data, result, self.note]

    @classmethod
    def from_value(cls, value: Value) -> "Evaluation":
        """Return the body that `value` is."""
        match value:
            case [
                str(subject),
                bytes(target),
                str(metric),
                str(data),
                str(result),
                str(note),
            ]:
                require(subject in SUBJECTS, "neither a content nor a model is scored")
                require(len(target) == DIGEST_BYTES, "no id of what is scored")
                require(is_score_label(metric), "the metric is no word")
                require(is_score_label(data), "the name of the data is no word")
                require(len(note) <= NOTE_CHARACTERS_MAX, "the note is too long")
                return cls(subject, target, metric, data, parse_decimal(result), note)
            case _:
                raise not_a("evaluation [subject, id, metric, data, result, note]")
