"""What `import hawk` costs an application: the modules that come along with it, seen in a fresh interpreter."""

import subprocess
import sys

import pytest

EVENT_LOOPS_AND_TLS = ["asyncio", "trio", "ssl"]
OPTIONAL = [
    *["aiomqtt", "altair", "anycorn", "cyclopts", "h11", "opentelemetry", "orjson", "prometheus_client"],
    *["pydantic", "rich", "starlette", "trustme", "truststore", "vl_convert", "wsproto", "yaml"],
]
TEST_TOOLS = ["hypothesis", "pytest"]


@pytest.fixture(scope="module")
def imported() -> set[str]:
    """The modules present once a fresh interpreter has imported hawk."""
    code = "import hawk, sys; print(*sys.modules)"
    child = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    return set(child.stdout.split())


def test_the_fresh_interpreter_imported_hawk(imported: set[str]) -> None:
    assert "hawk" in imported


@pytest.mark.parametrize("module", EVENT_LOOPS_AND_TLS)
def test_importing_hawk_brings_neither_an_event_loop_nor_tls(imported: set[str], module: str) -> None:
    assert module not in imported


@pytest.mark.parametrize("module", OPTIONAL + TEST_TOOLS)
def test_importing_hawk_brings_nothing_optional(imported: set[str], module: str) -> None:
    assert module not in imported
