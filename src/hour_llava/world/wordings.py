"""How the questions are worded: many ways for training, three others a family for the exam.

Slots: {shape}, {a_shape} (with "a" or "an"), {a} and {b} (two shapes), {scene}; the families of the
story have their own file. The unseen wordings
use only words of the training ones (of any family), so that a word-level tokenizer knows them all.
"""

from __future__ import annotations

import re
from types import MappingProxyType

from hour_llava.world.story_wordings import STORY_TRAINING, STORY_UNSEEN

TRAINING: MappingProxyType[str, tuple[str, ...]] = MappingProxyType(
    {
        "object": (
            "Which shape appears inside the white ring?",
            "What is the object inside the white ring?",
            "A white ring is drawn around one thing. What is it?",
            "Name the shape that the white circle surrounds.",
            "What does the ring enclose?",
            "One object in this video wears a white ring around it. Which one?",
            "Tell me what sort of thing is circled in white.",
            "Which item was marked with a ring?",
            "Identify the figure that stands within the ring.",
            "At some point a round frame highlights an object. Which object is highlighted?",
        ),
        "colour": (
            "What colour is the {shape}?",
            "What color is the {shape}?",
            "Which colour does the {shape} have?",
            "Tell me the colour of the {shape}.",
            "In what color was the {shape} painted?",
            "The {shape} is seen only once. What is its colour?",
            "How is the {shape} coloured?",
            "Describe the {shape}: which colour is it?",
            "When the {shape} shows up, what color does it carry?",
            "I missed the {shape}. Could you say what colour it had?",
            "What hue fills the {shape}?",
        ),
        "digit": (
            "Which digit appears in the video?",
            "What number is shown?",
            "A single digit flashes up during the video. Which digit is it?",
            "Which digit was shown?",
            "Tell me the number that can be read on the screen.",
            "What numeral from zero to nine is displayed?",
            "Read out the digit that is written in one of the frames.",
            "Please give the only number visible in this clip.",
            "There is exactly one numeral in the recording. What is it?",
            "What do you read when the number comes up?",
        ),
        "scene": (
            "In which scene does the {shape} appear?",
            "What is the background behind the {shape}?",
            "Which place serves as backdrop for the {shape}?",
            "What landscape surrounds the {shape}?",
            "During which scene is the {shape} visible?",
            "Name the setting in which the {shape} can be seen.",
            "What scenery lies behind the {shape}?",
            "The {shape} turns up somewhere. In what kind of place?",
            "Which environment do you see when the {shape} comes into view?",
            "What are the surroundings of the {shape} called?",
        ),
        "action": (
            "What does the {shape} do?",
            "What is the {shape} doing?",
            "How does the {shape} change while it is visible?",
            "Describe the motion of the {shape}.",
            "Which action does the {shape} perform?",
            "What happens to the {shape}?",
            "Watch the {shape} closely: how does it behave?",
            "In what way does the {shape} move or change?",
            "What kind of activity is the {shape} engaged in?",
            "Say what the {shape} does after it has appeared.",
        ),
        "position": (
            "In which corner does the {shape} appear?",
            "Where in the picture is the {shape}?",
            "Which part of the frame holds the {shape}?",
            "What is the position of the {shape}?",
            "Top or bottom, left or right: where do you find the {shape}?",
            "In which quarter of the screen is the {shape} located?",
            "Where on the image can I spot the {shape}?",
            "Point me to the {shape}. Which quadrant is it in?",
            "Tell me the region of the picture in which the {shape} was drawn.",
            "Whereabouts does the {shape} stand?",
        ),
        "existence": (
            "Does {a_shape} appear in the video?",
            "Is there any {shape} in this video?",
            "Can {a_shape} be seen at any time?",
            "Did {a_shape} ever show up?",
            "Was {a_shape} visible at some moment?",
            "Do you notice {a_shape} anywhere?",
            "Have we seen {a_shape}?",
            "Is it true that the video contains {a_shape}?",
            "Yes or no: is {a_shape} shown?",
            "I am looking for {a_shape}. Is one present?",
            "At some point of the video, is there {a_shape}?",
            "Is {a_shape} present anywhere in this video?",
            "Does {a_shape} turn up at some point?",
        ),
        "order": (
            "Which appears first, the {a} or the {b}?",
            "What comes earlier in the video: the {a} or the {b}?",
            "Of the {a} and the {b}, which is seen before the other?",
            "Does the {a} or the {b} show up sooner?",
            "Between the {a} and the {b}, which one leads?",
            "Who wins the race to the screen, the {a} or the {b}?",
            "Put the {a} and the {b} in order. Which is first?",
            "Compare the {a} with the {b}: which one occurs at the earlier time?",
            "You meet both the {a} and the {b}. Which do you meet first?",
            "Which precedes the other, the {a} or the {b}?",
            "Is it the {a} or the {b} that is seen first?",
            "Which one comes into view earlier: the {a} or the {b}?",
        ),
        "when": (
            "In which eighth of the video does the {shape} first appear?",
            "When does the {shape} first appear? Answer with an eighth of the video.",
            "Divide the video into eight equal parts. In which of them does the {shape} start?",
            "Cut the recording in eight pieces: which one brings the first view of the {shape}?",
            "During which eighth is the {shape} first visible?",
            "At what stage, counted in eighths, does the {shape} enter?",
            "Out of eight equal segments, which one shows the beginning of the {shape}?",
            "Suppose the clip is split into eighths. Which of these introduces the {shape}?",
            "Locate the {shape} on the timeline: name the eighth where it begins.",
            "How far into the video, in eighths, does the {shape} arrive?",
        ),
        "next_scene": (
            "Which scene comes right after the {scene}?",
            "What follows the {scene}?",
            "Where do we go next after the {scene}?",
            "The {scene} ends. Which scene takes its place?",
            "What is the next place once the {scene} is over?",
            "Name the scene that immediately succeeds the {scene}.",
            "After leaving the {scene}, where does the video continue?",
            "Into what does the {scene} turn?",
            "When the {scene} has passed, which landscape replaces it?",
            "We travel on from the {scene}. What do we reach?",
            "After the {scene}, which place do we see next?",
            "The {scene} has passed. Where are we right after it?",
        ),
        "duration": (
            "How long is the {shape} visible?",
            "For how many seconds does the {shape} appear?",
            "How many seconds does the {shape} stay on screen?",
            "What is the duration of the {shape}?",
            "Tell me how long the {shape} lasts.",
            "Count the seconds during which the {shape} can be seen.",
            "How much time passes until the {shape} vanishes again?",
            "Measure the length of the appearance of the {shape} in seconds.",
            "The {shape} comes and goes. How long does it remain?",
            "For what period is the {shape} displayed?",
        ),
    }
    | STORY_TRAINING
)

UNSEEN: MappingProxyType[str, tuple[str, ...]] = MappingProxyType(
    {
        "object": (
            "Which thing does the white ring enclose?",
            "Name the object that stands within a ring.",
            "What shape can be seen within the white circle?",
        ),
        "colour": (
            "Say which colour the {shape} is.",
            "Which hue does the {shape} have?",
            "The {shape} was painted in which color?",
        ),
        "digit": (
            "Name the digit that is visible in the video.",
            "Which numeral can you read on the screen?",
            "What is the only digit of this recording?",
        ),
        "scene": (
            "What place is behind the {shape}?",
            "Tell me in which setting the {shape} shows up.",
            "Which scenery surrounds the {shape}?",
        ),
        "action": (
            "Which motion does the {shape} perform?",
            "Tell me what the {shape} is doing.",
            "How does the {shape} behave while it can be seen?",
        ),
        "position": (
            "Where does the {shape} stand in the frame?",
            "Which corner of the picture holds the {shape}?",
            "Tell me the position of the {shape} on the screen.",
        ),
        "existence": (
            "Is {a_shape} present at some point of the video?",
            "Did you notice any {shape}?",
            "Does the video show {a_shape} at any moment?",
        ),
        "order": (
            "Which one is seen first, the {a} or the {b}?",
            "Which is seen earlier, the {a} or the {b}?",
            "Of the {a} and the {b}, which one appears sooner?",
        ),
        "when": (
            "Name the eighth of the video in which the {shape} begins.",
            "The video is cut into eight parts. Which of them introduces the {shape}?",
            "Tell me during which eighth the {shape} first comes into view.",
        ),
        "next_scene": (
            "Which place follows the {scene}?",
            "What scene do we see right after the {scene}?",
            "Once the {scene} has passed, where do we go?",
        ),
        "duration": (
            "How many seconds is the {shape} seen?",
            "Tell me for how many seconds the {shape} is visible.",
            "How long does the {shape} appear on screen?",
        ),
    }
    | STORY_UNSEEN
)


def words_of(text: str) -> list[str]:
    """Split a text into lower-case words and single punctuation marks."""
    return re.findall(r"[a-z0-9]+|[^\sa-z0-9]", text.lower())


def wordings_of(family: str, split: str) -> tuple[str, ...]:
    """List a family's wordings of "train", "unseen" or "all"."""
    choices = {
        "train": TRAINING[family],
        "unseen": UNSEEN[family],
        "all": TRAINING[family] + UNSEEN[family],
    }
    return choices[split]


def is_unseen(family: str, question: str) -> bool:
    """Say whether a question's text is one of the wordings kept for the exam."""
    return any(_pattern_of(wording).fullmatch(question) for wording in UNSEEN[family])


def _pattern_of(wording: str) -> re.Pattern[str]:
    parts = [re.escape(part) for part in re.split(r"\{\w+\}", wording)]
    return re.compile(r"[a-z ]+".join(parts))
