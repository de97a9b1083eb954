"""`hawk proxy`: a TCP proxy with bad weather, before any broker. Faults by flags, by a script, and line by line."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Group, Parameter

from hawk.cli.connection_options import DEFAULT_OUTPUT, OutputOptions, UsageError

if TYPE_CHECKING:
    from anyio.abc import TaskGroup

    from hawk.cli.outcome import Outcome
    from hawk.testing.proxy_timeline import Spell, Weather

FAULTS = Group("Faults", sort_key=2)


async def proxy(
    *,
    upstream: Annotated[str, Parameter(name=["--upstream", "-u"])],
    listen: Annotated[str, Parameter(name=["--listen", "-l"])] = "127.0.0.1:1884",
    latency: Annotated[str | None, Parameter(group=FAULTS)] = None,
    jitter: Annotated[str | None, Parameter(group=FAULTS)] = None,
    bandwidth: Annotated[str | None, Parameter(group=FAULTS)] = None,
    slice_: Annotated[str | None, Parameter(name="--slice", group=FAULTS)] = None,
    coalesce: Annotated[str | None, Parameter(group=FAULTS)] = None,
    blackhole: Annotated[str | None, Parameter(group=FAULTS)] = None,
    script: Annotated[Path | None, Parameter(name=["--script", "-s"])] = None,
    seed: int = 0,
    output: OutputOptions = DEFAULT_OUTPUT,
) -> int:
    """Carry TCP connections to a broker through bad weather. Ctrl-C or SIGTERM stops it.

    Parameters
    ----------
    upstream:
        The broker: host:port.
    listen:
        The address to listen on: host:port, or :port; port 0 takes a free one.
    latency:
        Delay every byte, both ways: 400ms.
    jitter:
        Delay it by up to so much more: 300ms.
    bandwidth:
        Carry so many bytes a second, each way: 4KB/s.
    slice_:
        Deliver pieces of from one to so many bytes: 5B.
    coalesce:
        Deliver together what is sent within so long: 40ms.
    blackhole:
        Let all bytes vanish: up (towards the broker), down or both.
    script:
        A file of spells, one a line, each with its time: "at 20s blackhole up for 15s". Without one, lines of standard
        input do the same, at once if they have no time, and its end changes nothing.
    seed:
        Feeds what is drawn: jitter and slices.
    """
    from hawk.cli.exit_codes import ExitCode
    from hawk.cli.outcome import Outcome, conclude
    from hawk.cli.stderr_lines import log_to_stderr
    from hawk.testing.proxy_timeline import TimelineInvalid, read_timeline

    log_to_stderr(quiet=output.quiet, debug=output.debug)
    measured = {"latency": latency, "jitter": jitter, "bandwidth": bandwidth, "slice": slice_, "coalesce": coalesce}
    given = measured | {"blackhole": blackhole}
    try:
        where, to = _address(listen, "--listen"), _address(upstream, "--upstream")
        weather = [_flag(fault, value) for fault, value in given.items() if value is not None]
        if script is not None:
            weather += read_timeline(script.read_text(encoding="utf-8"), name=str(script))
    except (TimelineInvalid, UsageError) as invalid:
        return conclude(Outcome(ExitCode.USAGE, str(invalid)), output)
    except (OSError, UnicodeDecodeError) as error:
        return conclude(Outcome(ExitCode.USAGE, f"cannot read {script}: {error}"), output)
    return conclude(await _run(where, to, weather, seed=seed, reads=script is None, output=output), output)


async def _run(
    where: tuple[str, int],
    to: tuple[str, int],
    weather: "list[Spell]",
    *,
    seed: int,
    reads: bool,
    output: OutputOptions,
) -> "Outcome":
    import signal
    from random import Random

    import anyio

    from hawk.cli.exit_codes import ExitCode
    from hawk.cli.outcome import Outcome, say
    from hawk.testing.proxy import FaultProxy
    from hawk.testing.proxy_timeline import Weather

    with anyio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        async with FaultProxy(*to, random=Random(seed)) as served, anyio.create_task_group() as tasks:
            try:
                bound = await served.listen(host=where[0], port=where[1])
            except (OSError, UnicodeError) as error:
                why = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
                return Outcome(ExitCode.FAILED, f"cannot listen on {where[0]}:{where[1]}: {why}")
            facts = {"host": where[0], "port": bound, "upstream": f"{to[0]}:{to[1]}"}
            line = f"a proxy to {to[0]}:{to[1]} listens on {where[0]}:{bound}; Ctrl-C stops it"
            say({"event": "listening"} | facts if output.json else line)
            played = _Told(Weather(served.network), json=output.json)
            tasks.start_soon(played.play, weather)
            if reads:
                tasks.start_soon(played.read, tasks)
            code = ExitCode.INTERRUPTED
            async for number in signals:
                code = ExitCode.INTERRUPTED if number is signal.SIGINT else ExitCode.OK
                break
            tasks.cancel_scope.cancel()
    bites = {fault: count for fault, count in served.network.bites.items() if count}
    felt = ", ".join(f"{fault} {count}" for fault, count in bites.items()) or "no fault touched anything"
    say({"event": "stopped", "bites": bites} if output.json else f"stopped; felt: {felt}")
    return Outcome(code)


class _Told:
    """Plays spells, and tells each as it comes and as it goes."""

    def __init__(self, weather: "Weather", *, json: bool) -> None:
        import anyio

        self._weather = weather
        self._json = json
        self._began_at = anyio.current_time()

    async def play(self, spells: "list[Spell]") -> None:
        """Play a script; its times count from when this was made."""
        import anyio

        async with anyio.create_task_group() as tasks:
            for spell in spells:
                tasks.start_soon(self._perform, spell)

    async def read(self, tasks: "TaskGroup") -> None:
        """Play the lines of standard input, each from when it comes; a bad one is told, and the rest goes on."""
        from hawk.cli.standard_streams import InputLines, StandardInput
        from hawk.cli.stderr_lines import complain
        from hawk.testing.proxy_timeline import Ended, TimelineInvalid, read_line

        lines = InputLines(StandardInput())
        while told := await lines.read():
            for line in told:
                try:
                    spell = read_line(line.decode(errors="replace"))
                except TimelineInvalid as invalid:
                    complain(str(invalid))
                    continue
                if isinstance(spell, Ended):
                    with _telling():
                        self._weather.end_all(spell.fault)
                    self._say("ends", spell.fault)
                elif spell is not None and spell.at_s is None:
                    # In this task, so that what comes in one piece takes effect in its order.
                    self._begin(spell)
                    if spell.for_s is not None:
                        tasks.start_soon(self._finish, spell)
                elif spell is not None:
                    tasks.start_soon(self._perform, spell)

    async def _perform(self, spell: "Spell") -> None:
        import anyio

        await anyio.sleep_until(self._began_at + (spell.at_s or 0.0))
        self._begin(spell)
        await self._finish(spell)

    async def _finish(self, spell: "Spell") -> None:
        import anyio

        if spell.for_s is not None:
            await anyio.sleep(spell.for_s)
            with _telling():
                self._weather.end(spell)
            self._say("ends", spell.fault)

    def _begin(self, spell: "Spell") -> None:
        with _telling():
            self._weather.begin(spell)
        self._say("begins", str(spell._replace(at_s=None)))

    def _say(self, what: str, spell: str) -> None:
        from hawk.cli.outcome import say

        say({"event": what, "spell": spell} if self._json else f"{what}: {spell}")


@contextmanager
def _telling() -> Iterator[None]:
    """A port that another process has taken during a refusal is told, and the proxy stays closed."""
    from hawk.cli.stderr_lines import complain

    try:
        yield
    except OSError as error:
        complain(f"cannot listen again: {error.strerror or error}")


def _address(text: str, flag: str) -> tuple[str, int]:
    """host:port, [address]:port or :port. Raises `UsageError`."""
    host, _, port = text.rpartition(":")
    if not port.isascii() or not port.isdigit() or int(port) > 65_535:
        raise UsageError(f"{flag}: {text!r} is no host:port, as localhost:1883")
    return host.removeprefix("[").removesuffix("]") or "127.0.0.1", int(port)


def _flag(fault: str, value: str) -> "Spell":
    """The spell that a flag asks for, from the start on. Raises `TimelineInvalid`."""
    from hawk.testing.proxy_timeline import Spell, TimelineInvalid, read_line

    try:
        spell = read_line(f"{fault} {value}")
    except TimelineInvalid as invalid:
        raise TimelineInvalid(f"--{fault}: {invalid}") from None
    if not isinstance(spell, Spell) or spell.for_s is not None:
        raise TimelineInvalid(f"--{fault}: {value!r}: give one value; what ends again goes into a script")
    return spell
