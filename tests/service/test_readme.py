"""The configuration that README shows loads through the very loader that the commands use."""

import re
from pathlib import Path

from hawk import Config
from hawk.service.settings import load_settings

README = Path(__file__).parents[2] / "README.md"


def test_every_yaml_block_of_the_readme_loads(tmp_path: Path) -> None:
    blocks = re.findall(r"^```yaml\n(.*?)^```", README.read_text(), flags=re.MULTILINE | re.DOTALL)
    assert blocks
    for block in blocks:
        path = tmp_path / "hawk.yaml"
        path.write_text(block)
        assert load_settings(path, environ={}, flags={}).config == Config()
