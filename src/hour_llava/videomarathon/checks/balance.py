"""What only a whole build can show: where answers stand, how long they are, how often they are yes.

Positions are put right by reshuffling options. A surplus of "yes", or of answers that are the
longest option, is rejected, the third row of a task before the first. Nothing here draws random
numbers: the order comes from digests of the rows' ids. A bias is only called one where there are
rows enough to tell it from chance. Topics are thinned towards the target only when that is asked.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from types import MappingProxyType

from hour_llava.tasks import task_named
from hour_llava.videomarathon.checks.computed import yes_or_no
from hour_llava.videomarathon.records import Outcome, QAPair, Verdict, digest

PAPER_TOPIC_MIX: Mapping[str, float] = MappingProxyType(
    {
        "Temporality": 0.253,
        "Spatiality": 0.101,
        "Object": 0.302,
        "Action": 0.201,
        "Scene": 0.067,
        "Event": 0.076,
    }
)
"""Share of the rows by topic. Source: arXiv 2506.05332, VideoMarathon's panel of topics."""

MIN_YES_NO, MIN_LENGTHS, MIN_POSITIONS = 40, 100, 8
MAX_YES_OFF, MAX_LONGEST_OFF = 0.05, 0.05
MAX_SALTS = 200

_CRITICAL = MappingProxyType({2: 6.635, 3: 9.210, 4: 11.345, 5: 13.277, 6: 15.086})
"""Chi-square at p = 0.01, by number of options."""


def balance(
    rows: Sequence[QAPair], *, topic_mix: Mapping[str, float] | None = None, seed: int = 0
) -> list[QAPair]:
    """Look at all accepted rows together, put positions right, reject what is too much.

    Args:
        rows: All rows of the build; only accepted ones are looked at, the others stay as they are.
        topic_mix: Topic -> share; None leaves the topics as they are.
        seed: Another seed, another choice among equals.
    """
    turns = _turns(rows, seed)
    balanced = _balance_yes(list(rows), turns)
    if topic_mix is not None:
        balanced = _thin_topics(balanced, topic_mix, turns)
    balanced = _balance_longest(balanced, turns)
    return _balance_positions(balanced, seed)


def _accepted(rows: Iterable[QAPair]) -> list[QAPair]:
    return [row for row in rows if row.status == "accepted"]


def _turns(rows: Iterable[QAPair], seed: int) -> dict[str, tuple[int, str]]:
    """Return row id -> how late it is given up: later ones of a task go first."""
    num_before: Counter[tuple[str, str, str]] = Counter()
    turns: dict[str, tuple[int, str]] = {}
    for row in rows:
        place = (row.video_id, row.task, row.format)
        turns[row.id] = (-num_before[place], digest("balance", str(seed), row.id))
        num_before[place] += row.status == "accepted"
    return turns


def _given_up(
    rows: Iterable[QAPair], number: int, turns: Mapping[str, tuple[int, str]]
) -> set[str]:
    return {row.id for row in sorted(rows, key=lambda row: turns[row.id])[:number]}


def _stamped(
    rows: Sequence[QAPair], rule: str, looked_at: Mapping[str, Outcome], detail: str
) -> list[QAPair]:
    """Add a verdict to the rows that were looked at; a failing one is rejected."""
    stamped: list[QAPair] = []
    for row in rows:
        outcome = looked_at.get(row.id)
        if outcome is not None:
            verdict = Verdict(rule=rule, outcome=outcome, detail=detail)
            update: dict[str, object] = {"verdicts": (*row.verdicts, verdict)}
            if outcome == "fail":
                update |= {"status": "rejected", "reasons": (*row.reasons, rule)}
            row = row.model_copy(update=update)
        stamped.append(row)
    return stamped


def _outcomes(
    looked_at: Iterable[QAPair], out: set[str], *, otherwise: Outcome = "pass"
) -> dict[str, Outcome]:
    return {row.id: "fail" if row.id in out else otherwise for row in looked_at}


def yes_rate(rows: Iterable[QAPair]) -> tuple[float | None, int]:
    """Return the share of "yes" among accepted yes/no rows, and their number."""
    said = [yes_or_no(row.answer) for row in _accepted(rows)]
    num_yes, num_no = said.count("yes"), said.count("no")
    total = num_yes + num_no
    return (num_yes / total if total else None), total


def _balance_yes(rows: list[QAPair], turns: Mapping[str, tuple[int, str]]) -> list[QAPair]:
    asked = [row for row in _accepted(rows) if yes_or_no(row.answer)]
    rate, total = yes_rate(asked)
    if rate is None:
        return rows
    detail = f"yes {rate:.1%} of {total}"
    if total < MIN_YES_NO:
        outcomes = _outcomes(asked, set(), otherwise="skip")
        return _stamped(rows, "yes_rate", outcomes, f"{detail}: {MIN_YES_NO} rows can tell")
    more = "yes" if rate > 0.5 else "no"
    surplus = [row for row in asked if yes_or_no(row.answer) == more]
    most = int((total - len(surplus)) * (0.5 + MAX_YES_OFF) / (0.5 - MAX_YES_OFF) + 1e-9)
    out = _given_up(surplus, max(0, len(surplus) - most), turns)
    return _stamped(rows, "yes_rate", _outcomes(asked, out), detail)


def topic_counts(rows: Iterable[QAPair]) -> Counter[str]:
    """Count accepted rows by topic."""
    return Counter(task_named(row.task).topic for row in _accepted(rows))


def _thin_topics(
    rows: list[QAPair], mix: Mapping[str, float], turns: Mapping[str, tuple[int, str]]
) -> list[QAPair]:
    counts = topic_counts(rows)
    # A topic without any row cannot be helped by giving up those of the others.
    there = {topic: share for topic, share in mix.items() if share > 0 and counts[topic]}
    whole = sum(there.values())
    mix = {topic: share / whole for topic, share in there.items()}
    total = min((counts[topic] / share for topic, share in mix.items()), default=0.0)
    by_topic: dict[str, list[QAPair]] = defaultdict(list)
    for row in _accepted(rows):
        by_topic[task_named(row.task).topic].append(row)
    out: set[str] = set()
    for topic, group in by_topic.items():
        most = round(total * mix.get(topic, 0.0))
        out |= _given_up(group, max(0, len(group) - most), turns)
    detail = f"{sum(counts.values()) - len(out)} rows fit the mix"
    return _stamped(rows, "topic_mix", _outcomes(_accepted(rows), out), detail)


def longest_credit(row: QAPair) -> float:
    """Return 1 where the answer alone is the longest option, 1/k where k are as long, else 0."""
    options = row.options or ()
    longest = max(map(len, options), default=0)
    if len(row.answer) < longest or not options:
        return 0.0
    return 1 / sum(len(option) == longest for option in options)


def longest_rate(rows: Iterable[QAPair]) -> tuple[float | None, float, int]:
    """Return how often the answer is the longest option, how often it would be by chance, of n."""
    asked = _with_lengths(rows)
    if not asked:
        return None, 0.0, 0
    chance = sum(1 / len(row.options or (1,)) for row in asked) / len(asked)
    return sum(map(longest_credit, asked)) / len(asked), chance, len(asked)


def _with_lengths(rows: Iterable[QAPair]) -> list[QAPair]:
    return [row for row in _accepted(rows) if row.format == "mc" and len(row.options or ()) > 2]


def _balance_longest(rows: list[QAPair], turns: Mapping[str, tuple[int, str]]) -> list[QAPair]:
    """Reject answers that are the longest until guessing so gains at most five points."""
    asked = _with_lengths(rows)
    rate, chance, total = longest_rate(rows)
    if rate is None:
        return rows
    detail = f"the answer is the longest in {rate:.1%} of {total}, by chance {chance:.1%}"
    if total < MIN_LENGTHS:
        outcomes = _outcomes(asked, set(), otherwise="skip")
        return _stamped(rows, "longest_option", outcomes, f"{detail}: {MIN_LENGTHS} rows can tell")
    longest = [row for row in asked if longest_credit(row) == 1]
    most_rate = chance + MAX_LONGEST_OFF
    # (rate n - k) / (n - k) <= most_rate
    number = max(0, -int(-(rate - most_rate) * total / (1 - most_rate) // 1))
    out = _given_up(longest, min(number, len(longest)), turns)
    return _stamped(rows, "longest_option", _outcomes(asked, out), detail)


def position_counts(rows: Iterable[QAPair]) -> dict[int, tuple[int, ...]]:
    """Return number of options -> how often the answer stands at each place."""
    counts: dict[int, list[int]] = {}
    for row in _accepted(rows):
        if row.format == "mc" and row.options and row.answer in row.options:
            places = counts.setdefault(len(row.options), [0] * len(row.options))
            places[row.options.index(row.answer)] += 1
    return {size: tuple(places) for size, places in sorted(counts.items())}


def chi_square(counts: Sequence[int]) -> float:
    """Return how far counts are from equal ones."""
    expected = sum(counts) / len(counts)
    return sum((count - expected) ** 2 for count in counts) / expected if expected else 0.0


def is_even(counts: Sequence[int]) -> bool:
    """Say whether counts may be equal chances' work, at p = 0.01."""
    return chi_square(counts) < _CRITICAL.get(len(counts), 2.5 * len(counts))


def _balance_positions(rows: list[QAPair], seed: int) -> list[QAPair]:
    for size, counts in position_counts(rows).items():
        group = [
            row for row in _accepted(rows) if row.format == "mc" and len(row.options or ()) == size
        ]
        ids = {row.id for row in group}
        before = f"{' '.join(map(str, counts))}, chi-square {chi_square(counts):.1f}"
        if sum(counts) < MIN_POSITIONS:
            few = f"{before}: {MIN_POSITIONS} rows can tell"
            rows = _stamped(rows, "option_position", dict.fromkeys(ids, "skip"), few)
        elif is_even(counts):
            rows = _stamped(rows, "option_position", dict.fromkeys(ids, "pass"), before)
        else:
            rows = _reshuffled(rows, group, seed, before)
    return rows


def _reshuffled(
    rows: list[QAPair], group: Sequence[QAPair], seed: int, before: str
) -> list[QAPair]:
    """Order the options of a group by digests, with the first salt that gives even places."""
    for salt in range(MAX_SALTS):
        orders = {row.id: _ordered(row, f"{seed}:{salt}") for row in group}
        moved = [row.model_copy(update={"options": orders[row.id]}) for row in group]
        (counts,) = position_counts(moved).values()
        if is_even(counts):
            break
    else:
        return _stamped(
            rows, "option_position", dict.fromkeys((r.id for r in group), "skip"), before
        )
    detail = f"{before}; reshuffled: {' '.join(map(str, counts))}"
    placed: list[QAPair] = []
    for row in rows:
        order = orders.get(row.id)
        if order is not None:
            is_moved = order != row.options
            reasons = (*row.reasons, "option_position") if is_moved else row.reasons
            row = row.model_copy(update={"options": order, "reasons": reasons})
        placed.append(row)
    return _stamped(placed, "option_position", dict.fromkeys(orders, "pass"), detail)


def _ordered(row: QAPair, salt: str) -> tuple[str, ...]:
    key: Callable[[str], str] = lambda option: digest("position", salt, row.id, option)  # noqa: E731
    return tuple(sorted(row.options or (), key=key))
