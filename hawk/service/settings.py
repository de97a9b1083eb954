"""Settings from a file, the environment and flags, as one `Config`, with where each came from.

File < environment < flags, setting by setting. `schema` judges types in every source, the frozen dataclasses judge the
bounds of what is left on top; all that is wrong is told at once, each problem with its place.
"""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any, cast

from hawk.config import Config
from hawk.connecting import Will
from hawk.errors import ConfigInvalid, Problem
from hawk.service.environment import read_environment
from hawk.service.files import read_file
from hawk.service.located import Entry, Layer
from hawk.service.password_file import PasswordFile, read_password
from hawk.service.schema import FILE_ONLY, LISTS, MESSAGES, PATHS, SETTINGS, Wrong, check, split
from hawk.values import Message

_OF_CONFIG = tuple(name for name in SETTINGS if name not in FILE_ONLY)
_IN_FILE = re.compile(r":([0-9]+):([0-9]+)(?::|\Z)")
_SHORTEST, _LONGEST = "initial_retry_delay", "max_retry_delay"
"""The two settings whose bounds depend on one another."""


@dataclass(frozen=True, slots=True)
class LoadedSettings:
    """A configuration and its history.

    `origins` has one entry for each setting by its flat name: `default`, `hawk.yaml:7`, `environment HAWK_PORT`, or
    `flag`. `warnings` are sentences for the operator. None of the three repeats a password, `repr` included.
    """

    config: Config
    origins: dict[str, str]
    warnings: tuple[str, ...] = ()


def load_settings(path: Path | None, *, environ: Mapping[str, str], flags: Mapping[str, object]) -> LoadedSettings:
    """Make a `Config` of the file at `path`, if one is given, of every `HAWK_*` variable and of flags.

    `flags` has typed values by setting names, a Path for a file; None is a flag that was not given. A source may give
    `url` for `broker` and `port` (and `username` and `password` if it names them), and `password_file` for `password`.

    Raises `ConfigInvalid`: each problem's key begins with its place, `hawk.yaml:7:16: max_retries` (line and column),
    `HAWK_MAX_RETRIES` or `flag max_retries`.
    """
    problems: list[Problem] = []
    layers = []
    if path is not None:
        of_file, problems = read_file(path, frozenset(SETTINGS))
        layers.append(of_file)
    layers += [read_environment(environ), _flag_layer(flags)]

    chosen: dict[str, Entry] = {}
    failed: set[str] = set()
    for layer in layers:
        given = _judged(layer, problems, failed)
        for replaced in _replaced_by(given):
            chosen.pop(replaced, None)
        chosen |= given
    warnings = _look_at_password_file(chosen, problems)
    for message in MESSAGES:
        _put_together(message, chosen, problems)
    config = _made(chosen, failed, problems)
    if config is None or problems:
        raise ConfigInvalid(sorted(problems, key=_line_and_column))
    if config.tls_insecure:
        warnings += (f"{chosen['tls_insecure'].at}: no certificate is verified, so anybody may pose as the broker",)
    origins = {name: chosen[name].origin if name in chosen else "default" for name in _OF_CONFIG}
    return LoadedSettings(config, origins, warnings)


def settings_of(config: Config) -> dict[str, object]:
    """A configuration flat, by the names of files: the opposite of `Config.from_mapping`. The password is in it."""
    return {name: getattr(config if hasattr(config, name) else config.reconnection, name) for name in _OF_CONFIG}


_EXCLUDING = (
    ({"endpoints"}, {"broker", "port", "tls"}),
    ({"broker", "port", "tls"}, {"endpoints"}),
    ({"password"}, {"password_command"}),
    ({"password_command"}, {"password"}),
)
"""Settings of which a higher source replaces those of a lower one, under whatever name."""


def _replaced_by(given: Mapping[str, Entry]) -> set[str]:
    names = {name for name, entry in given.items() if entry.value is not None}
    return set().union(*(others for these, others in _EXCLUDING if names & these)) - names


def _line_and_column(problem: Problem) -> tuple[float, float]:
    """Where in its file a problem is, so that they are told in the order of reading; the others come last."""
    found = _IN_FILE.search(problem.key)
    return (int(found[1]), int(found[2])) if found else (math.inf, 0)


def _flag_layer(flags: Mapping[str, object]) -> Layer:
    texts = {name: str(value) if isinstance(value, Path) else value for name, value in flags.items()}
    given = {name: value for name, value in texts.items() if value is not None}
    entries = [Entry(name, value, f"flag {name}", f"flag {name}", "flag") for name, value in given.items()]
    return Layer(entries, Path())


def _judged(layer: Layer, problems: list[Problem], failed: set[str]) -> dict[str, Entry]:
    """The entries of one source by Config's names, each of the right type. `failed` gathers the names of the others."""
    given: dict[str, Entry] = {}
    for entry in layer.entries:
        if entry.name not in SETTINGS:
            problems.append(Problem(entry.name_at, _unknown(entry.name, layer)))
            continue
        value = check(entry.name, entry.value, quotes=layer.has_quotes)
        if isinstance(value, Wrong):
            failed.add(entry.name)
            problems.append(Problem(entry.at, value.what))
        elif value is not None or entry.name not in FILE_ONLY | {"password_file"}:
            path = value is not None and entry.name in PATHS
            given[entry.name] = entry._replace(value=str(layer.folder / str(value)) if path else value)
    file = given.pop("password_file", None)
    url = given.pop("url", None)
    if file is not None:
        what = PasswordFile(Path(str(file.value)))
        replacement = file._replace(name="password", value=what, origin=f"{file.origin} (password_file)")
        _put_in(given, [replacement], "password_file", problems)
    if url is not None:
        _put_in(given, _of_url(url, problems), "url", problems)
    return given


def _unknown(name: str, layer: Layer) -> str:
    stem = name.removeprefix(layer.prefix).lower()
    if stem == "reconnection":
        return "unknown setting; what belongs to it stands flat, beside the others"
    close = get_close_matches(stem, SETTINGS, n=1)
    return "unknown setting" + (f"; did you mean {layer.spelling(close[0])!r}?" if close else "")


def _put_in(given: dict[str, Entry], replacements: list[Entry], known_as: str, problems: list[Problem]) -> None:
    """Put in what `url` or `password_file` stands for, unless the same source has it already."""
    for entry in replacements:
        beside = given.get(entry.name)
        if beside is None or beside.value is None:
            given[entry.name] = entry
        else:
            problems.append(
                Problem(beside.name_at, f"stands beside `{known_as}`, which sets it too; give one of the two")
            )


def _of_url(url: Entry, problems: list[Problem]) -> list[Entry]:
    """What a URL sets: broker, port and TLS, or the endpoint of a socket; name and password if it has them."""
    try:
        config = Config.from_url(str(url.value))
    except ConfigInvalid as invalid:
        problems += [Problem(url.at, what if key == "url" else f"its {key} {what}") for key, what in invalid.problems]
        return []
    named: dict[str, object] = {"username": config.username, "password": config.password}
    if config.endpoints is None:
        named |= {"broker": config.broker, "port": config.port, "tls": config.tls}
    else:
        named |= {"endpoints": " ".join(cast(tuple[str, ...], config.endpoints))}
    return [url._replace(name=name, value=value) for name, value in named.items() if value is not None]


def _look_at_password_file(chosen: dict[str, Entry], problems: list[Problem]) -> tuple[str, ...]:
    """Open the password file if its password is the one that counts, so that what is wrong with it is told now.

    What is in it is read again at each dial. Returns the warnings.
    """
    entry = chosen.get("password")
    if entry is None or not isinstance(entry.value, PasswordFile):
        return ()
    del chosen["password"]
    secret = read_password(entry.value)
    if isinstance(secret, str):
        problems.append(Problem(entry.at, secret))
        return ()
    chosen["password_file"] = entry._replace(name="password_file", value=str(entry.value.path))
    if not secret.readable_by_all:
        return ()
    return (f"{entry.at}: every user of this machine can read the file; `chmod 600` keeps it to its owner",)


def _put_together(message: str, chosen: dict[str, Entry], problems: list[Problem]) -> None:
    """Make the will or the birth of its parts; the topic says that there is one."""
    parts = {part: chosen.pop(f"{message}_{part}", None) for part in MESSAGES[message]}
    topic = parts["topic"]
    if topic is None:
        idle = [entry for part, entry in parts.items() if entry and entry.value != MESSAGES[message][part][1]]
        problems.extend(Problem(entry.at, f"needs `{message}_topic` beside it") for entry in idle)
        return
    defaults = {part: default for part, (_, default) in MESSAGES[message].items()}
    values: dict[str, Any] = defaults | {part: entry.value for part, entry in parts.items() if entry is not None}
    values["payload"] = values["payload"].encode()
    chosen[message] = topic._replace(name=message, value=Will(**values) if message == "will" else Message(**values))


def _made(chosen: Mapping[str, Entry], failed: set[str], problems: list[Problem]) -> Config | None:
    """The configuration, if every value is within its bounds. Settings that failed have been told already."""
    values = {name: split(str(entry.value)) if name in LISTS else entry.value for name, entry in chosen.items()}
    for name, other in ((_SHORTEST, _LONGEST), (_LONGEST, _SHORTEST)):
        if name in failed:
            # Else the one that is right would be measured against the default of the one that is wrong.
            values[name] = values.get(other, SETTINGS[name].default)
    try:
        return Config.from_mapping(values)
    except ConfigInvalid as invalid:
        problems += [_located(problem, chosen) for problem in invalid.problems]
        return None


def _located(problem: Problem, chosen: Mapping[str, Entry]) -> Problem:
    """The problem with its place, or with the place of the setting that makes a default wrong."""
    if problem.key in chosen:
        return problem._replace(key=chosen[problem.key].at)
    if problem.key == _LONGEST and _SHORTEST in chosen:
        return Problem(chosen[_SHORTEST].at, f"the default of {problem.key} {problem.what}")
    return problem
