"""Promise C10 through a rehearsal: no credential of its client is in anything that a run prints or leaves behind."""

import json
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

import pytest

from hawk.cli.app import run
from hawk.errors import ConfigInvalid
from hawk.scenario.header import header_of
from hawk.scenario.reading import read_scenario
from hawk.scenario.writing import scenario_yaml

SECRET = "correct-horse"

SCENARIO = """\
hawk: 1
name: {name}
about: Refused, lost, refused again, and killed.
duration: 60s
client: {{{client}, initial_retry_delay: 1s, max_retry_delay: 4s, max_retries: null}}
traffic:
  - {{pub: "a/{{i}}", clients: 1, rate: 1/s, size: 64B}}
  - {{sub: "a/#", qos: 1}}
timeline:
  - {{at: 5s, fault: mqtt.connack(bad-user-name-or-password), for: 5s}}
  - {{at: 15s, fault: mqtt.disconnect(not-authorized)}}
  - {{at: 25s, fault: broker.down, for: 5s}}
  - {{at: 32s, fault: client.crash, for: 2s}}
  - {{at: 40s, fault: link.reset}}
expect:
  - {expectation}
"""
PASSWORD = f"username: sailor, password: {SECRET}"
URL = f"mqtt://sailor:{SECRET}@broker.example"


class Ran(NamedTuple):
    """One command: what it printed, both streams."""

    code: int
    told: str


@pytest.fixture
def shell(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> "Shell":
    monkeypatch.chdir(tmp_path)
    return Shell(tmp_path, capsys)


class Shell:
    """Types `hawk scenario ...` in a folder of its own."""

    def __init__(self, folder: Path, output: pytest.CaptureFixture[str]) -> None:
        self.folder = folder
        self._output = output

    def write(self, name: str, **filled: str) -> None:
        text = SCENARIO.format(**{"name": name, "expectation": "state == CONNECTED at end"} | filled)
        (self.folder / f"{name}.yaml").write_text(text)

    def scenario(self, *arguments: str) -> Ran:
        code = run(["scenario", *arguments])
        return Ran(code, "".join(self._output.readouterr()))

    def left_behind(self) -> dict[str, bytes]:
        """Every file of the runs, by its path."""
        files = (path for path in (self.folder / "out").rglob("*") if path.is_file())
        return {str(path.relative_to(self.folder)): path.read_bytes() for path in files}


@pytest.mark.skipif(
    any(find_spec(name) is None for name in ("altair", "vl_convert")),
    reason="the report is drawn by the extra [report]",
)
@pytest.mark.parametrize("client", [PASSWORD, f"{PASSWORD}, outbox: durable"], ids=["memory", "durable"])
def test_a_run_its_report_and_its_judges_tell_no_password(shell: Shell, client: str) -> None:
    shell.write("stormy", client=client)
    told = [
        shell.scenario("run", "stormy.yaml", "--report", "out", "--json", "--junit", "out/junit.xml"),
        shell.scenario("run", "stormy.yaml", "--backend", "asyncio"),
        shell.scenario("replay", "out/stormy-trio-0"),
        shell.scenario("replay", "out/stormy-trio-0", "--json"),
        shell.scenario("diff", "out/stormy-trio-0", "out/stormy-asyncio-0"),
        shell.scenario("show", "stormy.yaml"),
        shell.scenario("check", "stormy.yaml"),
        shell.scenario("list", "stormy.yaml"),
    ]
    assert json.loads(told[0].told.splitlines()[0])["passed"], "the run got through"
    left = shell.left_behind()
    assert {Path(name).name for name in left} >= {"journal.jsonl", "report.html", "junit.xml"}
    journal = next(data for name, data in left.items() if name.endswith("journal.jsonl"))
    assert b"sailor" in journal, "the settings are in it"
    assert journal.count(b'"refused') + journal.count(b"0x86") > 0, "and so is the refusal"
    assert [name for name, data in left.items() if SECRET.encode() in data] == []
    assert [each for each in told if SECRET in each.told] == []


def test_what_is_shrunk_tells_no_password(shell: Shell) -> None:
    shell.write("wrong", client=PASSWORD, expectation="{check: connects == 1, abort: true}")
    ran = shell.scenario("run", "wrong.yaml", "--seeds", "1..2", "--backend", "trio")
    assert ran.code == 1
    left = shell.left_behind()
    assert any(name.endswith(".yaml") for name in left), "nothing was shrunk"
    assert [name for name, data in left.items() if SECRET.encode() in data] == []
    assert SECRET not in ran.told


@pytest.mark.parametrize(
    "settings",
    [
        f"client: {{username: sailor, password: {SECRET}}}",
        f'client: {{username: sailor, password_command: "vault --token {SECRET}"}}',
        f'broker: {{url: "{URL}"}}',
    ],
)
def test_neither_the_first_line_of_a_journal_nor_a_written_scenario_has_it(tmp_path: Path, settings: str) -> None:
    path = tmp_path / "night.yaml"
    path.write_text(
        f"hawk: 1\nname: night\nduration: 5s\n{settings}\ntraffic: [{{pub: a, rate: 1/s}}]\nexpect: [lost == 0]\n"
    )
    scenario = read_scenario(path)
    told = f"{scenario.settings}{scenario.broker.url}"
    assert SECRET in told, "otherwise this test proves nothing"
    assert SECRET not in repr(scenario)
    assert SECRET not in repr(header_of(scenario))
    written = scenario_yaml(scenario)
    assert SECRET not in written
    (tmp_path / "again.yaml").write_text(written)
    assert read_scenario(tmp_path / "again.yaml").broker.url == (scenario.broker.url and "mqtt://broker.example")


def test_a_problem_with_the_broker_does_not_repeat_its_url(tmp_path: Path) -> None:
    path = tmp_path / "night.yaml"
    path.write_text(
        f'hawk: 1\nname: night\nduration: 5s\nbroker: {{url: "{URL}"}}\ntraffic: [{{pub: a, rate: 1/s}}]\n'
        "timeline: [{at: 1s, fault: mqtt.no_ack, for: 1s}]\nexpect: [lost == 0]\n"
    )
    with pytest.raises(ConfigInvalid) as invalid:
        read_scenario(path)
    assert "mqtt.no_ack" in str(invalid.value)
    assert SECRET not in str(invalid.value)


def test_a_credential_is_no_axis_for_axes_name_their_runs(tmp_path: Path) -> None:
    path = tmp_path / "night.yaml"
    path.write_text(
        f"hawk: 1\nname: night\nduration: 5s\nmatrix: {{client.password: [{SECRET}, other]}}\n"
        "traffic: [{pub: a, rate: 1/s}]\nexpect: [lost == 0]\n"
    )
    with pytest.raises(ConfigInvalid, match="a credential must not be told") as invalid:
        read_scenario(path)
    assert SECRET not in str(invalid.value)
