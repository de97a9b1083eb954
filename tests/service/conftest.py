"""Files to load, and what is wrong with them."""

from collections.abc import Callable
from pathlib import Path

import pytest

from hawk import ConfigInvalid
from hawk.service.settings import load_settings

Write = Callable[..., Path]
Problems = Callable[..., list[str]]


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Write:
    """Write a file into the working directory, which is empty, and return its relative path."""
    monkeypatch.chdir(tmp_path)

    def write_file(content: str | bytes, name: str = "hawk.yaml") -> Path:
        path = Path(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        path.chmod(0o600)
        return path

    return write_file


@pytest.fixture
def problems(write: Write) -> Problems:
    """Load a file of this content, which must be refused, and return every problem as a line."""

    def refused(content: str | bytes, name: str = "hawk.yaml") -> list[str]:
        path = write(content, name)
        with pytest.raises(ConfigInvalid) as caught:
            load_settings(path, environ={}, flags={})
        assert caught.value.__cause__ is None, "a cause would bring the values into a traceback"
        assert caught.value.__context__ is None, "so would a context"
        return [str(problem) for problem in caught.value.problems]

    return refused
