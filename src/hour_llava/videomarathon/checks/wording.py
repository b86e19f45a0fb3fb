"""Do the words give it away: the answer inside the question, or the pipeline showing through."""

from __future__ import annotations

import re

from hour_llava.videomarathon.checks.rule import Finding, Rule, failed, passed, skipped
from hour_llava.videomarathon.checks.tables import Tables
from hour_llava.videomarathon.checks.words import content_words, fold, words_of
from hour_llava.videomarathon.records import QAPair

MAX_QUESTION_WORDS = 120

_HOUSE_WORDS = r"(?:description|caption|text|transcript|narrative|narration|summary|metadata|table)"
_ARTEFACTS = re.compile(
    r"\b(?:video[\s-]?)?(?:sub)?clips?\b(?!\s+(?:art|board|on\b|in hand))|"
    r"\bcaption(?:s|ed|ing)?\b|"
    r"\bframes?\s*#?\d+|\b(?:first|second|third|last|next|previous|each|this|these|given|provided|"
    r"sampled|key)\s+(?:video\s+)?frames?\b|"
    rf"\b(?:the|this|given|provided)\s+{_HOUSE_WORDS}s?\s+(?:says?|states?|mentions?|describes?|"
    r"indicates?|notes?|suggests?|specify|specifies|reads?|is|are|does|do|provided|given)\b|"
    rf"\b(?:according to|based on|(?:described|stated|mentioned|noted|from) in|from|"
    rf"in)\s+(?:the|this)\s+(?:\w+\s+)?{_HOUSE_WORDS}s?\b|"
    r"\bas (?:described|mentioned|stated|noted)\b|\bevent[\s-](?:level|table|list|caption)\b|"
    r"\bglobal[\s-]level\b|\bthe evidence\b|\bfacts?\s+f\d+\b|\bf\d{1,3}\b|\bjson\b|"
    r"\bevent\s*#\s*\d+|"
    r"\bas an ai\b|\bsub-?task\b|\btimestamps?\b|\bthe (?:prompt|dataset|annotation)s?\b",
    re.IGNORECASE,
)
_HARMLESS = re.compile(
    r"\b(?:hair|paper|money|tie|binder|bulldog|nail|bread|mic|alligator|metal|plastic)[\s-]?clips?\b|"
    r"\b(?:he|she|they|who|to|and|scissors|barber|gardener)\s+clips?\b|\bclips?\s+(?:the|a|an|his|her|"
    r"their|its)\b|\b(?:window|door|picture|photo|bike|bicycle|bed|metal|wooden|climbing)\s+frames?\b|"
    r"\bclips?\s+(?:on|onto|into|together)\b",
    re.IGNORECASE,
)

_COMPARES = re.compile(
    r"\b(?:compar\w+|between|of the|which (?:of|one)|in order|both|\w+er than|longer|shorter|"
    r"earlier|later|sooner|first|last|before|more|less|larger|smaller|closer|nearer|faster|slower)\b"
)


def artefact_in(text: str) -> str | None:
    """Return the first words that speak of clips, captions or tables instead of the video."""
    harmless = [match.span() for match in _HARMLESS.finditer(text)]
    for match in _ARTEFACTS.finditer(text):
        inside = any(start <= match.start() and match.end() <= end for start, end in harmless)
        if not inside:
            return match.group()
    return None


def _speaks_of_the_video(row: QAPair, _: Tables) -> Finding:
    for place, text in (
        ("the question", row.question),
        ("the answer", row.answer),
        *(("an option", option) for option in row.options or ()),
    ):
        found = artefact_in(text)
        if found is not None:
            return failed(f'{place} says "{found}"')
    return passed()


def _hides_the_answer(row: QAPair, _: Tables) -> Finding:
    if row.task == "overall_summarization" or words_of(row.answer)[:1] in (["yes"], ["no"]):
        return skipped("a yes, a no, or a summary")
    question = content_words(row.question)
    if _offers_choices(row):
        return skipped("the question offers the choices")
    answer = content_words(row.answer) or words_of(row.answer)
    if not answer:
        return failed("an answer without words")
    if _stands_in(answer, question) and _num_options_in(row, question) <= 1:
        return failed(f'the question says "{row.answer}"')
    return passed()


def _stands_in(part: list[str], whole: list[str]) -> bool:
    return any(whole[i : i + len(part)] == part for i in range(len(whole) - len(part) + 1))


def _num_options_in(row: QAPair, question: list[str]) -> int:
    options = [content_words(option) or words_of(option) for option in row.options or ()]
    return sum(_stands_in(option, question) for option in options)


def _offers_choices(row: QAPair) -> bool:
    """Say whether the question names what can be answered: "the heart or the star?"."""
    labels = [fold(item.label) for item in row.claim.items] if row.claim is not None else []
    question = fold(row.question)
    if len(labels) >= 2 and all(label in question for label in labels):
        return True
    listed = re.search(r"[:,](?P<choices>[^:]*,?\sor\s[^?]*)", question)
    if listed and set(content_words(row.answer)) <= set(content_words(listed["choices"])):
        return True
    for match in re.finditer(r"[\s,]or\s", question):
        around = (question[: match.start()], question[match.end() :])
        answer = fold(row.answer).strip(" .")
        bare = re.sub(r"^(?:the|a|an)\s+", "", answer)
        if bare and any(bare in side for side in around):
            return True
    return _is_one_of_two(question, row.answer)


def _is_one_of_two(question: str, answer: str) -> bool:
    """Say whether a question compares the answer with another: "Compare the sea with the snow"."""
    bare = re.escape(re.sub(r"^(?:the|a|an)\s+", "", fold(answer).strip(" .")))
    pair = rf"(?:\b(?:and|with|or)\s+(?:the|a|an)?\s*{bare}\b|\b{bare}\s+(?:and|with|or)\b)"
    return bool(_COMPARES.search(question)) and bool(re.search(pair, question))


def _is_a_question(row: QAPair, _: Tables) -> Finding:
    num_words = len(words_of(row.question))
    if num_words < 2:
        return failed(f"a question of {num_words} words")
    if num_words > MAX_QUESTION_WORDS:
        return failed(f"a question of {num_words} words; {MAX_QUESTION_WORDS} are the most")
    if not words_of(row.answer):
        return failed("an empty answer")
    return passed()


WORDING_RULES: tuple[Rule, ...] = (
    Rule(
        name="well_formed",
        looks_at="question, answer",
        asks=f"a question of 2 to {MAX_QUESTION_WORDS} words and an answer with words",
        check=_is_a_question,
    ),
    Rule(
        name="no_artefacts",
        looks_at="question, answer, options",
        asks='speaks of the video, never of "the clip", "the caption", "frame 3", "the text says"',
        check=_speaks_of_the_video,
    ),
    Rule(
        name="no_leak",
        looks_at="question, answer",
        asks="the question does not hold the answer, unless it offers it among others",
        check=_hides_the_answer,
    ),
)
