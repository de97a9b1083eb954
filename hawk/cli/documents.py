"""What the commands about files share: texts and JSON on standard output, a file's problems on stderr, one line each."""

import sys
from collections.abc import Iterable

from hawk.cli.exit_codes import ExitCode
from hawk.errors import ConfigInvalid


def refuse(invalid: ConfigInvalid) -> int:
    """Tell every problem and how many there are; the exit code of wrong usage."""
    count = len(invalid.problems)
    complain_of([*map(str, invalid.problems), f"{count} problem{'s' if count != 1 else ''}"])
    return ExitCode.USAGE


def problems_of(invalid: ConfigInvalid) -> list[dict[str, str]]:
    """The same problems for `--json`."""
    return [{"at": problem.key, "problem": problem.what} for problem in invalid.problems]


def complain_of(lines: Iterable[str]) -> None:
    """Lines on stderr, if there is one."""
    if sys.stderr is not None:
        sys.stderr.write("".join(f"{line}\n" for line in lines))


def write(text: str) -> None:
    """Text on standard output, if there is one."""
    if sys.stdout is not None:
        sys.stdout.write(text)


def document(value: object) -> str:
    """A document for people and programs."""
    import json

    return json.dumps(value, indent=2, ensure_ascii=False) + "\n"


def line_of(value: object) -> str:
    """One of several documents: one line for each."""
    import json

    return json.dumps(value, ensure_ascii=False) + "\n"
