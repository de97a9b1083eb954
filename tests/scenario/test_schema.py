"""The JSON Schema that is shipped is the one that is generated, and knows what reading knows."""

import json
import re
from pathlib import Path

import pytest

from hawk.scenario.expectations import METRICS
from hawk.scenario.fault_kinds import FAULT_KINDS
from hawk.scenario.reading import read_text
from hawk.scenario.schema import json_schema
from hawk.scenario.template import TEMPLATE

ROOT = Path(__file__).parents[2]
DOCUMENTS = [ROOT / "README.md", ROOT / "scenarios" / "README.md", *sorted((ROOT / "docs").glob("**/*.md"))]
_BLOCK = re.compile(r"^```ya?ml\n(.*?)^```", re.MULTILINE | re.DOTALL)


def test_the_shipped_schema_is_the_generated_one() -> None:
    shipped = json.loads((ROOT / "scenarios" / "schema.v1.json").read_text())
    assert shipped == json_schema(), "write it again: hawk scenario schema > scenarios/schema.v1.json"


def test_the_schema_knows_every_fault_and_every_metric() -> None:
    text = json.dumps(json_schema())
    assert [kind for kind in FAULT_KINDS if kind not in text] == []
    assert [metric for metric in METRICS if metric not in text] == []


def test_every_shipped_file_names_the_schema() -> None:
    files = sorted((ROOT / "scenarios").glob("*.yaml"))
    assert len(files) >= 12
    first = {path.read_text().partition("\n")[0] for path in files}
    assert first == {"# yaml-language-server: $schema=schema.v1.json"}


def test_the_template_is_a_scenario() -> None:
    assert read_text(TEMPLATE, "template").name == "my_outage"


@pytest.mark.parametrize("document", [path for path in DOCUMENTS if path.exists()], ids=lambda path: path.name)
def test_every_scenario_in_the_documents_can_be_read(document: Path) -> None:
    scenarios = [
        block for block in _BLOCK.findall(document.read_text()) if block.lstrip().startswith(("hawk:", "# yaml-l"))
    ]
    for block in scenarios:
        read_text(block, str(document.name))
    assert scenarios or document.parent == ROOT or document.parent.name == "docs"
