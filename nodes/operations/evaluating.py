"""The verbs `evaluation_add` and `evaluation_list`: who scored what, on which data.

Owns what can be scored, and that several scores are said together or not at all. Does not
own which evaluations count (`crdtmerge.policy.scoring`), nor what a strategy makes of them
(`crdtmerge.strategies.evidential.figures`), whose medians are listed here.
"""

from collections.abc import Iterable, Mapping, Sequence
from decimal import Context as Precision
from decimal import Decimal
from fractions import Fraction
from typing import Final

from crdtmerge.bodies import Evaluation, SpaceId
from crdtmerge.bodies.evaluations import SCORE_LABEL_FORM, is_score_label
from crdtmerge.codec import format_decimal
from crdtmerge.digest import ContentId
from crdtmerge.errors import BadInputError
from crdtmerge.identity import AuthorId
from crdtmerge.policy import Evaluated, Rank, View
from crdtmerge.record import Record

from ..store.attested import AttestedFiles
from . import arguments as given
from .live import Answer, Arguments, Context, Tell
from .publishing import publish_all, replica
from .saying import says
from .selection import (
    SHORT,
    Named,
    choose_space,
    find_contribution,
    find_scored,
    scorable,
)
from .states import IN_EFFECT, States

TOGETHER_MAX: Final = 1000
"""Evaluations of one command: each is a record, signed and checked by everybody."""
SAID_ALREADY: Final = "you said the same before"
_FIELDS: Final = ("subject", "metric", "data", "result", "note")
_EXACT: Final = Precision(prec=60)
Place = tuple[str, bytes, str, str]


def evaluation_add(context: Context, asked: Arguments, _tell: Tell) -> Answer:
    """Say how well contributions or models did; all of it or nothing.

    What this author said last already is not said again.

    Raises:
        BadInputError: a word, a result or a note cannot be used, or one thing is scored
            twice.
        NotFoundError: there is no such contribution, nor such a model.
        NotAllowedError: this author is no member, or its grant has no records left.
    """
    space, wanted = _wanted(context, asked)
    replica(context, space).authority(Rank.READER)
    context.home.anchor.require_sure(space)
    context.key.ready()
    with context.spaces.lock:
        before = context.spaces.view(space)
        known = _said_by(before, context.key.public)
        fresh = [s for s in wanted if known.get(_place(s)) != s]
        makes = [lambda r, said=said: r.evaluate(said) for said in fresh]
        records = publish_all(context, space, makes) if makes else []
        after = context.spaces.view(space)
    signed = dict(zip(map(_place, fresh), records, strict=True))
    return {
        "space": space.hex(),
        "evaluations": [
            {
                **_body_facts(said),
                "record": key.hex() if (key := signed.get(_place(said))) else None,
                "new": key is not None,
            }
            for said in wanted
        ],
        "new": len(fresh),
        "merge_id": _merge_id(after),
        "another_merge": _merge_id(before) != _merge_id(after),
        "notes": [] if fresh else [SAID_ALREADY],
    }


def _wanted(context: Context, asked: Arguments) -> tuple[SpaceId, list[Evaluation]]:
    """Return what is to be said, and the one space of all its subjects."""
    items, space = _items(asked), given.optional_text(asked, "space")
    found = scorable(context.spaces, space, lambda place: _models(context, place))
    named = [_subject(context, found, item, space) for item in items]
    places = {one.space for one in named}
    if len(places) > 1:
        ids = ", ".join(sorted(place.hex()[:SHORT] for place in places))
        message = f"these are of {len(places)} spaces: score those of one at a time"
        raise BadInputError(message, hint=f"spaces: {ids}")
    wanted = [_evaluation(n, item) for n, item in zip(named, items, strict=True)]
    twice = {_place(said) for said in wanted}
    if len(twice) < len(wanted):
        message = "one subject has two results by one metric on the same data"
        raise BadInputError(message, hint="your last word counts: say one of them")
    return places.pop(), wanted


def _items(asked: Arguments) -> list[dict[str, str]]:
    """Return what is asked, with texts for values."""
    items = asked.get("items")
    if not isinstance(items, list) or not items:
        raise BadInputError("no evaluation is given", hint="name a subject, or a file")
    if len(items) > TOGETHER_MAX:
        message = f"{len(items)} evaluations are above the limit of {TOGETHER_MAX}"
        raise BadInputError(message, hint="say them in several commands")
    return [_item(item, number) for number, item in enumerate(items, start=1)]


def _item(item: object, number: int) -> dict[str, str]:
    where = f"evaluation {number}"
    if not isinstance(item, dict):
        raise BadInputError(f"{where} is no object", hint=f"{', '.join(_FIELDS)}")
    if unknown := sorted(str(name) for name in item if name not in _FIELDS):
        hint = f"there are {', '.join(_FIELDS)}"
        raise BadInputError(f"{where} has a field {unknown[0]!r}", hint=hint)
    for name in _FIELDS:
        if name != "note" and name not in item:
            raise BadInputError(f"{where} has no {name}")
        if not isinstance(item.get(name, ""), str):
            raise BadInputError(f"the {name} of {where} is no text")
    return item


def _subject(
    context: Context, found: Iterable[Named], item: Mapping[str, str], space: str | None
) -> Named:
    """Return what an item scores: a whole merge id after `model:` may be of any model."""
    text = item["subject"].strip().lower()
    named = find_scored(found, text)
    if named is not None:
        return named
    model = bytes.fromhex(text.removeprefix("model:"))
    return Named(choose_space(context.spaces, space), "model", model)


def _evaluation(named: Named, item: Mapping[str, str]) -> Evaluation:
    from crdtmerge.strategies.texts import parse_result

    for name in ("metric", "data"):
        if not is_score_label(item[name]):
            message = f"{name} {item[name]!r} is not a word of {SCORE_LABEL_FORM}"
            raise BadInputError(message, hint="it is what recipes can name it by")
    note = given.checked_note(item.get("note", ""))
    result = parse_result(item["result"])
    return Evaluation(named.kind, named.id, item["metric"], item["data"], result, note)


def _models(context: Context, space: SpaceId) -> set[bytes]:
    """Return the merge ids that a prefix may name: what is known of the space here."""
    view = context.spaces.view(space)
    known = {e.said.target for e in view.evaluations if e.said.subject == "model"}
    if view.recipe is not None:
        known.add(view.merge_id(view.recipe))
    made = AttestedFiles(context.home.path).load(space)
    return known | ({made.merge_id} if made else set())


def _place(said: Evaluation) -> Place:
    return said.subject, said.target, said.metric, said.data


def _said_by(view: View, author: AuthorId) -> dict[Place, Evaluation]:
    """Return what an author says of what, by any of its keys."""
    keys = view.identity(author)
    return {_place(e.said): e.said for e in view.evaluations if e.author in keys}


def _merge_id(view: View) -> str | None:
    return view.merge_id(view.recipe).hex() if view.recipe else None


def _body_facts(said: Evaluation) -> Answer:
    return {
        "subject": said.subject,
        "target": said.target.hex(),
        "metric": said.metric,
        "data": said.data,
        "result": format_decimal(said.result),
        "note": said.note,
    }


def evaluation_list(context: Context, asked: Arguments, _tell: Tell) -> Answer:
    """Return the evaluations of a space, whether each counts, and what they come to.

    Raises:
        NotFoundError: no visible contribution has such an id.
    """
    space, content = _listed_of(context, asked)
    view, opset = context.spaces.view(space), context.spaces.opset(space)
    states = States(opset)
    read = {e.record for e in view.read_by(view.recipe)} if view.recipe else set()
    metric, data = (given.optional_text(asked, name) for name in ("metric", "data"))

    def fits(said: Evaluation) -> bool:
        of_it = content is None or (said.subject, said.target) == ("content", content)
        return of_it and metric in {None, said.metric} and data in {None, said.data}

    found = [
        _record_facts(record, context.key.public, states, read=record.id in read)
        for signed in opset.signed.of_kinds(frozenset({Evaluation.KIND}))
        if isinstance((record := signed.record).body, Evaluation) and fits(record.body)
    ]
    counting = [e for e in view.evaluations if fits(e.said)]
    return {
        "space": space.hex(),
        "name": context.spaces.name(space),
        "evaluations": sorted(found, key=_order),
        "medians": _medians(view, counting),
    }


def _listed_of(context: Context, asked: Arguments) -> tuple[SpaceId, ContentId | None]:
    """Return the space, and the one contribution if that is asked for."""
    space = given.optional_text(asked, "space")
    content = given.optional_text(asked, "contribution")
    if content is None:
        return choose_space(context.spaces, space), None
    named = find_contribution(context.spaces, content, space)
    return named.space, ContentId(named.id)


def _record_facts(
    record: Record, me: AuthorId, states: States, *, read: bool
) -> Answer:
    view, state = states.view, states.of(record)
    rank = view.ranks.get(record.author)
    return {
        "record": record.id.hex(),
        "author": record.author.hex(),
        "you": me in view.identity(record.author),
        "rank": rank.name.lower() if rank is not None else None,
        **says(record),
        "effect": state == IN_EFFECT,
        "state": state or "in effect",
        "read": read,
    }


def _order(facts: Answer) -> tuple[str, ...]:
    names = ("subject", "target", "metric", "data", "author", "record")
    return tuple(str(facts[name]) for name in names)


def _medians(view: View, counting: Sequence[Evaluated]) -> list[Answer]:
    """Return what strategies would read, by contribution, metric and data.

    Where a metric is said on several data, also what a recipe reads that names none.
    """
    shown = {v.content for v in view.visible}
    read = [e for e in counting if e.said.subject == "content"]
    read = [e for e in read if e.said.target in shown]
    places = {(e.said.target, e.said.metric): set[str]() for e in read}
    for one in read:
        places[one.said.target, one.said.metric].add(one.said.data)
    return [
        _median(ContentId(target), metric, data, read)
        for (target, metric), on in sorted(places.items())
        for data in (*([""] if len(on) > 1 else []), *sorted(on))
    ]


def _median(
    content: ContentId, metric: str, data: str, counting: Sequence[Evaluated]
) -> Answer:
    """Return the median over authors, by the function that strategies read it with."""
    from crdtmerge.strategies.base import Values, Whole
    from crdtmerge.strategies.evidential.figures import DATA, evaluated

    scores = tuple(e.score for e in counting)
    values = Values(((DATA.name, data),))
    (found,) = evaluated(Whole((content,), (), values, (), scores=scores), metric)
    assert found is not None
    read = (s for s in scores if (s.content, s.metric) == (content, metric))
    authors = {s.author for s in read if data in {"", s.data}}
    return {
        "content": content.hex(),
        "metric": metric,
        "data": data or None,
        "authors": len(authors),
        "median": _text(found),
    }


def _text(number: Fraction) -> str:
    """Return a median as the decimal that it is: halves of units, and halves of those."""
    exact = _EXACT.divide(Decimal(number.numerator), Decimal(number.denominator))
    return f"{exact.normalize(_EXACT):f}"
