"""The exit codes of every command, and the words that `--help` has for them."""

from enum import IntEnum


class ExitCode(IntEnum):
    """How a command ended, for the shell that started it."""

    OK = 0
    FAILED = 1
    USAGE = 2
    UNREACHABLE = 3
    REFUSED = 4
    TIMED_OUT = 5
    INTERRUPTED = 130


EPILOGUE = """\
Exit codes
  0    done; SIGTERM stopped it gracefully; nobody reads its output any more
  1    the operation failed; SIGTERM left no time to deliver what was read, or to finish the runs
  2    wrong usage or configuration
  3    no broker was reached within -W, by default 30 seconds, or hawk gave up
  4    the broker refused; --json has the reason
  5    timed out: the broker was reached, but -W seconds were not enough
  130  Ctrl-C
"""
