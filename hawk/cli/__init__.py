"""The command line: `hawk pub`, `hawk sub`, `hawk broker` and their siblings. This module only starts it.

Nothing is imported at the top, so that an error or a Ctrl-C in any later import is still told in one line.
"""

MISSING = "hawk's command line needs: pip install 'hawk-mqtt[cli]'\n"

_EXTRA = ("attrs", "cyclopts", "pydantic", "rich", "yaml")


def main() -> int:
    """Run the command that the process was started with, and return its exit code (`hawk.cli.exit_codes`)."""
    try:
        try:
            from hawk.cli.app import run
        except ModuleNotFoundError as missing:
            return _explain(missing)
        _write_what_can_be_written()
        return run()
    except KeyboardInterrupt:
        return 130
    except BaseExceptionGroup as group:
        # A Ctrl-C that comes up in a nursery comes in its group.
        if group.subgroup(KeyboardInterrupt) is None:
            raise
        return 130


def _explain(missing: ModuleNotFoundError) -> int:
    if missing.name is None or missing.name.partition(".")[0] not in _EXTRA:
        raise missing
    import sys

    if sys.stderr is not None:
        sys.stderr.write(MISSING)
    return 2


def _write_what_can_be_written() -> None:
    """A character that the output's encoding lacks comes out as a question mark, instead of up as an error."""
    import io
    import sys

    if isinstance(sys.stdout, io.TextIOWrapper) and sys.stdout.errors == "strict":
        sys.stdout.reconfigure(errors="replace")
