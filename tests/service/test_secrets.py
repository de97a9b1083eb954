"""Passwords: taken from files of their own, and never repeated anywhere."""

from collections.abc import Callable
from pathlib import Path

import anyio
import pytest

from hawk import ConfigInvalid
from hawk.asking import ask_for_credentials
from hawk.service.settings import LoadedSettings, load_settings
from hawk.service.writing import settings_yaml, shown_settings

Write = Callable[..., Path]
SECRET = "hunter2xyz"


def load(path: Path | None, **environ: str) -> LoadedSettings:
    return load_settings(path, environ=environ, flags={})


def password_of(loaded: LoadedSettings) -> str | None:
    """The password that the next dial sends, file and all."""
    password = anyio.run(ask_for_credentials, loaded.config).password
    return password.decode() if isinstance(password, bytes) else password


def test_the_path_of_a_password_file_starts_from_the_configuration_file(write: Write) -> None:
    path = write("mqtt:\n  password_file: secret.txt\n", "etc/hawk.yaml")
    write(f"{SECRET}\n", "etc/secret.txt")
    loaded = load(path)
    assert password_of(loaded) == SECRET
    assert loaded.origins["password_file"] == "etc/hawk.yaml:2 (password_file)"
    assert loaded.warnings == ()


def test_the_path_of_a_password_file_in_a_variable_starts_from_the_working_directory(write: Write) -> None:
    path = write("mqtt:\n  password: other\n", "etc/hawk.yaml")
    write(SECRET, "secret.txt")
    loaded = load(path, HAWK_PASSWORD_FILE="secret.txt")
    assert password_of(loaded) == SECRET
    assert loaded.origins["password_file"] == "environment HAWK_PASSWORD_FILE (password_file)"
    of_flag = load_settings(path, environ={}, flags={"password_file": Path("secret.txt")})
    assert (password_of(of_flag), of_flag.origins["password_file"]) == (SECRET, "flag (password_file)")


@pytest.mark.parametrize(
    ("content", "password"),
    [("a\n", "a"), ("a\r\n", "a"), ("a\n\n", "a\n"), ("a", "a"), (" a ", " a "), ("a\r", "a\r"), ("", ""), ("\n", "")],
)
def test_one_newline_at_the_end_is_cut_and_nothing_else(content: str, password: str, write: Write) -> None:
    write(content, "secret.txt")
    assert password_of(load(write("mqtt:\n  password_file: secret.txt\n"))) == password


def test_a_password_file_is_opened_only_if_its_password_counts(write: Write) -> None:
    path = write("mqtt:\n  password_file: absent.txt\n")
    assert password_of(load(path, HAWK_PASSWORD=SECRET)) == SECRET


@pytest.mark.parametrize("mode", [0o600, 0o640, 0o604, 0o644])
def test_a_password_file_that_everybody_can_read_is_warned_of(mode: int, write: Write) -> None:
    write(SECRET, "secret.txt").chmod(mode)
    warnings = load(write("mqtt:\n  password_file: secret.txt\n")).warnings
    told = (
        "hawk.yaml:2:18: password_file: every user of this machine can read the file; `chmod 600` keeps it to its owner"
    )
    assert list(warnings) == ([told] if mode & 0o004 else [])


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (None, "cannot be read: No such file or directory"),
        (b"\xff", "does not hold UTF-8 text"),
        (b"x" * 70_000, "is larger than a password can be"),
        (b"a\0b", "must be UTF-8 text of at most 65,535 bytes, without NUL"),
    ],
)
def test_a_password_file_that_cannot_serve_is_told_where_it_is_named(
    content: bytes | None, why: str, write: Write
) -> None:
    if content is not None:
        write(content, "secret.txt")
    with pytest.raises(ConfigInvalid) as caught:
        load(write("mqtt:\n  password_file: secret.txt\n"))
    assert [str(problem) for problem in caught.value.problems] == [f"hawk.yaml:2:18: password_file: {why}"]


@pytest.mark.parametrize("text", ["password: a\n  password_file: b", "password_file: b\n  password: a"])
def test_a_password_beside_a_password_file_is_refused(text: str, write: Write) -> None:
    write("b", "b")
    with pytest.raises(ConfigInvalid, match="password: stands beside `password_file`"):
        load(write(f"mqtt:\n  {text}\n"))
    with pytest.raises(ConfigInvalid, match="HAWK_PASSWORD: stands beside `password_file`"):
        load(None, HAWK_PASSWORD="a", HAWK_PASSWORD_FILE="b")


def test_null_stands_for_no_password_file_and_no_password(write: Write) -> None:
    assert password_of(load(write("mqtt:\n  password: x\n  password_file: null\n  url: null\n"))) == "x"
    write("y", "y")
    assert password_of(load(write("mqtt:\n  password: null\n  password_file: y\n"))) == "y"


WRONG = [
    f"password: *{SECRET}",
    f"password: !{SECRET}",
    f"password: !{SECRET}! x",
    f"password: %{SECRET}",
    f"password: @{SECRET}",
    f"password: '{SECRET}",
    f"password: [{SECRET}]",
    f"password: {{{SECRET}: {SECRET}}}",
    f"password: {SECRET}: x",
    f'password: "{SECRET}\\0"',
    f'password: "{SECRET}\\ud800"',
    f"password: x\n  password: {SECRET}",
    f"passwort: {SECRET}",
    f"password: {SECRET}\n  password_file: x",
    f"url: mqtt://joe:{SECRET}/x@h",
    f"url: mqtt://joe:{SECRET}@",
    f"url: mqtt://joe:{SECRET}@h:0",
    f"url: mqtt://joe:{SECRET}@[h",
    f"url: mqtt://joe:{SECRET}\u2100@h",
    f"url: {SECRET}://h",
    f"url: [mqtt://joe:{SECRET}@h]",
    f"url: mqtt://joe:{SECRET}@h\n  password: {SECRET}",
    f"url: mqtt://joe:{SECRET}@h\n  port: x",
    f"password: {SECRET}\n  port: 0",
]


@pytest.mark.parametrize("section", WRONG)
def test_no_problem_repeats_a_password_of_a_file(section: str, write: Write) -> None:
    with pytest.raises(ConfigInvalid) as caught:
        load(write(f"mqtt:\n  {section}\n"))
    assert SECRET not in f"{caught.value}{caught.value!r}{caught.value.__context__}{caught.value.__cause__}"


@pytest.mark.parametrize("number", ["12345678", "1234.5678", "-87654321"])
@pytest.mark.parametrize("name", ["hawk.yaml", "hawk.toml"])
def test_no_problem_repeats_a_password_that_looks_like_a_number(number: str, name: str, write: Write) -> None:
    text = f"[mqtt]\npassword = {number}" if name.endswith("toml") else f"mqtt:\n  password: {number}\n"
    with pytest.raises(ConfigInvalid, match="must be text or null, not a bare value; write it in quotes") as caught:
        load(write(text, name))
    assert number not in str(caught.value)


@pytest.mark.parametrize(
    "environ",
    [
        {"HAWK_PASSWORD": f"{SECRET}\0"},
        {"HAWK_PASSWRD": SECRET},
        {"HAWK_URL": f"mqtt://joe:{SECRET}/@h"},
        {"HAWK_URL": f"mqtt://joe:{SECRET}@h", "HAWK_PASSWORD": SECRET},
        {"HAWK_PASSWORD": SECRET, "HAWK_PORT": "x"},
    ],
)
def test_no_problem_repeats_a_password_of_a_variable(environ: dict[str, str]) -> None:
    with pytest.raises(ConfigInvalid) as caught:
        load(None, **environ)
    assert SECRET not in f"{caught.value}{caught.value!r}{caught.value.__context__}{caught.value.__cause__}"


@pytest.mark.parametrize("section", [f"password: {SECRET}", f"url: mqtt://joe:{SECRET}@h", "password_file: secret.txt"])
def test_what_was_loaded_shows_no_password(section: str, write: Write) -> None:
    write(f"{SECRET}\n", "secret.txt").chmod(0o644)
    loaded = load(write(f"mqtt:\n  {section}\n"))
    assert password_of(loaded) == SECRET
    shown = shown_settings(loaded.config)
    assert shown["password"] == (None if section.startswith("password_file") else "***")
    assert SECRET not in f"{loaded!r}{loaded}{shown}{settings_yaml(shown, loaded.origins)}"
