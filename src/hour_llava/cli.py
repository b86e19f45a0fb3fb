"""The command `hour-llava`: one table of verbs, each a function that is imported when it is called.

Results go to stdout, progress and logs to stderr. Exit 0 done; 1 a clear error in one line
(`--debug`, anywhere, shows the traceback); 2 wrong usage; 130 interrupted.
"""

from __future__ import annotations

import difflib
import gc
import importlib
import os
import sys
from collections.abc import Iterable, Sequence
from functools import partial
from types import MappingProxyType

from hour_llava.commands.lacks import is_lack_of_disk, is_lack_of_memory
from hour_llava.commands.ranks import LOST, is_lost, line_of_rank
from hour_llava.commands.terminal import PROGRAM, say
from hour_llava.commands.usage import UsageError, Verb, read_arguments
from hour_llava.errors import HourLlavaError

EXIT_DONE, EXIT_ERROR, EXIT_USAGE, EXIT_INTERRUPTED = 0, 1, 2, 130

# verb -> (module:function, what it does); `hour-llava --help` prints it, so it imports nothing
VERBS = MappingProxyType(
    {
        "ask": ("hour_llava.commands.ask:ask", "answer a question about a video, with evidence"),
        "remember": (
            "hour_llava.commands.remember:remember",
            "watch a video once, keep its memory",
        ),
        "info": ("hour_llava.commands.info:info", "say what a memory file holds, and verify it"),
        "probe": ("hour_llava.commands.probe:probe", "measure a video file without decoding it"),
        "world make": ("hour_llava.commands.world:make", "render a video with exact truth"),
        "synth doctor": ("hour_llava.commands.synth.doctor:doctor", "try a build's endpoints"),
        "synth mock-server": (
            "hour_llava.commands.synth.mock_server:mock_server",
            "play a model endpoint that costs nothing",
        ),
        "synth init": (
            "hour_llava.commands.synth.init:init",
            "make a folder for a dataset build",
        ),
        "synth plan": (
            "hour_llava.commands.synth.plan:plan",
            "units, calls, tokens, money, hours: before any is spent",
        ),
        "synth run": (
            "hour_llava.commands.synth.run:run",
            "build what is not built yet; resumes",
        ),
        "synth status": (
            "hour_llava.commands.synth.status:status",
            "what is done, what failed, what is to do",
        ),
        "synth retry": (
            "hour_llava.commands.synth.retry:retry",
            "give failed units another chance",
        ),
        "synth inspect": (
            "hour_llava.commands.synth.inspect:inspect",
            "from a row to its evidence, captions, call and pixels",
        ),
        "synth check": (
            "hour_llava.commands.synth.check:check",
            "check every row and file of a build",
        ),
        "synth stats": (
            "hour_llava.commands.synth.stats:stats",
            "yield, rules, topics, evidence gaps, cost",
        ),
        "synth review": (
            "hour_llava.commands.synth.review:review",
            "judge a sample by hand: precision with its interval",
        ),
        "synth export": (
            "hour_llava.commands.synth.export:export",
            "write the releases of a build",
        ),
        "synth card": (
            "hour_llava.commands.synth.card:card",
            "write a release's dataset card",
        ),
        "synth browse": (
            "hour_llava.commands.synth.browse:browse",
            "one HTML page to look at a build",
        ),
        "data group": (
            "hour_llava.commands.data:group",
            "make a training manifest of datasets",
        ),
        "data check": (
            "hour_llava.commands.data:check",
            "find what would spoil a training, before it starts",
        ),
        "extract": (
            "hour_llava.commands.extract:extract",
            "videos to features, before training",
        ),
        "train": (
            "hour_llava.commands.train:train",
            "train a model by a recipe; says before what it takes",
        ),
        "merge": ("hour_llava.commands.merge:merge", "make a plain model of a LoRA adapter"),
        "convert": ("hour_llava.commands.convert:convert", "turn released checkpoints into ours"),
        "doctor": ("hour_llava.commands.doctor:doctor", "say what works on this machine"),
        "bench": ("hour_llava.commands.bench:bench", "measure this machine: decode, encode, ask"),
    }
)

_LONGEST_ERROR = 1000  # of an unexpected one: a compiler's would fill the screen a hundred times


def main(argv: Sequence[str] | None = None) -> int:
    """Run one verb and return the exit code; raises only with `--debug`.

    Without `argv` this is the program itself, which ends behind it.
    """
    code = _run(list(sys.argv[1:] if argv is None else argv))
    if argv is None:
        # Python would search torch's modules for garbage once more: of a short question's 7.6 CPU
        # seconds 1.7, and half a minute on a crowded machine.
        gc.freeze()
    return code


def _run(arguments: list[str]) -> int:
    arguments, is_debug = _take_debug(arguments)
    try:
        code = _dispatch(arguments)
        if sys.stdout is not None:  # closed by `>&-`
            sys.stdout.flush()
        return code
    except BrokenPipeError:  # `hour-llava info x | head`: the reader has what it wanted
        if sys.stdout is not None:
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_DONE
    except KeyboardInterrupt:
        _tell("interrupted")
        return EXIT_INTERRUPTED
    except Exception as error:
        if is_debug:
            raise
        _tell(f"error: {describe_error(error)}")
        return EXIT_ERROR


def _tell(text: str) -> None:
    line = line_of_rank(text)
    if line is not None:
        say(line)


def describe_error(error: BaseException) -> str:
    """Return one line: what happened and what to do about it."""
    text = " ".join(str(error).split())
    if isinstance(error, HourLlavaError):
        return text
    if is_lost(error):
        return LOST
    if is_lack_of_memory(error):
        return (
            f"out of memory ({text or 'the system gave no more'}); lower --max-memory, close other "
            "programs, or take a smaller --model, --dtype bfloat16 or another --device"
        )
    if is_lack_of_disk(error):
        return (
            f"the disk is full ({text}); free some space, or set HOUR_LLAVA_CACHE to a folder on "
            "another disk; what was remembered so far is kept and resumed"
        )
    if isinstance(error, OSError):
        return text or type(error).__name__
    told = text if len(text) <= _LONGEST_ERROR else f"{text[:_LONGEST_ERROR]} .."
    return f"{type(error).__name__}: {told} (unexpected: please report it with --debug's output)"


def _dispatch(arguments: list[str]) -> int:
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        print(help_text())
        return EXIT_DONE if arguments else EXIT_USAGE
    if arguments[0] in ("-V", "--version"):
        print(f"{PROGRAM} {_version()}")
        return EXIT_DONE
    found = _find_verb(arguments)
    if found is None and arguments[0] in _groups():
        if len(arguments) == 1:
            print(group_help(arguments[0]), file=sys.stderr)
            return EXIT_USAGE
        if arguments[1] in ("-h", "--help", "help"):
            print(group_help(arguments[0]))
            return EXIT_DONE
    if found is None:
        _tell(f"error: {_unknown_verb(arguments)}")
        return EXIT_USAGE
    verb, rest = found
    return _run_verb(verb, rest)


def _find_verb(arguments: list[str]) -> tuple[str, list[str]] | None:
    for num_words in (2, 1):
        verb = " ".join(arguments[:num_words])
        if verb in VERBS:
            return verb, arguments[num_words:]
    return None


def _run_verb(verb: str, arguments: list[str]) -> int:
    module_name, _, function_name = VERBS[verb][0].partition(":")
    module = importlib.import_module(module_name)
    function: Verb = getattr(module, function_name)
    # `train` has other flags for each recipe: a module may read its verb's arguments itself.
    reader = vars(module).get(f"read_{function_name}")
    if reader is None or reader.__module__ != module_name:  # `status` imports a read_status
        reader = partial(read_arguments, function)
    try:
        call = reader(arguments, program=f"{PROGRAM} {verb}")
    except SystemExit:  # --help was printed
        return EXIT_DONE
    except UsageError as error:
        line = line_of_rank(str(error))
        if line is not None:
            print(line, file=sys.stderr, flush=True)
        return EXIT_USAGE
    return int(call() or 0)


def help_text() -> str:
    """Return the general help: the verbs, the exit codes, and where files are kept."""
    width = max(map(len, VERBS))
    lines = [
        f"usage: {PROGRAM} VERB [ARGUMENTS]     ({PROGRAM} VERB --help says more)",
        "",
        "Ask questions of hour-long videos: remember a video once, then ask as often as you like.",
        "",
        *_summaries(VERBS, width),
        "",
        "  --version  print the version        --debug  show the traceback of an error",
        "",
        f'example: {PROGRAM} ask video.mp4 "which digit was shown" --evidence evidence.png',
        "",
        "The built-in model `nano` knows generated MarathonWorld videos only (`world make`).",
        "Memories are kept in the user cache folder, or in HOUR_LLAVA_CACHE.",
        "Exit codes: 0 done, 1 error, 2 wrong usage, 130 interrupted.",
    ]
    return "\n".join(lines)


def group_help(group: str) -> str:
    """Return the verbs that begin with one word, such as those of `synth`."""
    verbs = _verbs_of(group)
    lines = [
        f"usage: {PROGRAM} {group} VERB [ARGUMENTS]     ({PROGRAM} {group} VERB --help says more)",
        "",
        *_summaries(verbs, max(map(len, verbs))),
    ]
    return "\n".join(lines)


def _summaries(verbs: Iterable[str], width: int) -> list[str]:
    return [f"  {verb:<{width}}  {VERBS[verb][1]}" for verb in verbs]


def _groups() -> set[str]:
    return {verb.split()[0] for verb in VERBS if " " in verb}


def _verbs_of(group: str) -> list[str]:
    return [verb for verb in VERBS if verb.startswith(f"{group} ")]


def _unknown_verb(arguments: list[str]) -> str:
    groups = _groups()
    if arguments[0] in groups:
        choices = _verbs_of(arguments[0])
        meant = difflib.get_close_matches(" ".join(arguments[:2]), choices, n=1, cutoff=0.7)
        if len(arguments) > 1 and meant:
            return f"`{' '.join(arguments[:2])}` is no verb; did you mean `{meant[0]}`?"
        return f"`{arguments[0]}` needs a second word: {', '.join(choices)}"
    close = difflib.get_close_matches(arguments[0], [*VERBS, *groups], n=1, cutoff=0.5)
    hint = f"did you mean `{close[0]}`?" if close else f"verbs are {', '.join(VERBS)}"
    return f"`{arguments[0]}` is no verb of {PROGRAM}; {hint}"


def _take_debug(arguments: list[str]) -> tuple[list[str], bool]:
    """Remove `--debug` wherever it stands before a bare `--`."""
    end = arguments.index("--") if "--" in arguments else len(arguments)
    head = [word for word in arguments[:end] if word != "--debug"]
    return head + arguments[end:], len(head) < end


def _version() -> str:
    from importlib.metadata import version

    return version("hour-llava")


if __name__ == "__main__":
    sys.exit(main())
