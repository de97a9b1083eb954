"""What every test shares: both backends, and the one check of C5 on whatever connection states a test saw."""

import os
import ssl
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import Phase, settings
from hypothesis.internal.conjecture import engine

from hawk.testing.state_watch import StateWatch, watched_states

# How long an example takes says nothing on a shared machine. A failure is told alone, with the blob that replays it, and
# its example is made smaller for a quarter of a minute instead of five; run again, the test goes on from there.
engine.MAX_SHRINKING_SECONDS = min(15, engine.MAX_SHRINKING_SECONDS)
settings.register_profile(
    "hawk",
    deadline=None,
    print_blob=True,
    report_multiple_bugs=False,
    phases=[phase for phase in Phase if phase is not Phase.explain],
)
settings.load_profile("hawk")


def pytest_addoption(parser: pytest.Parser) -> None:
    """`--seed N` replays one seed of every test that draws from seeds; `--deep` runs the long versions of long tests."""
    parser.addoption("--seed", type=int, default=None, help="run the seeded tests with this seed alone")
    parser.addoption("--deep", action="store_true", help="run the long versions: every kill, cut, seed and mutation")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """One worker more than there are cores: the tests in tests/real wait for most of their time."""
    return (os.cpu_count() or 1) + 1


def pytest_configure(config: pytest.Config) -> None:
    """Where Python may keep no compiled modules beside their sources, workers and children keep them in pytest's cache.

    Otherwise each of a hundred children would compile all that it imports, which no installed hawk does.
    """
    cache: pytest.Cache | None = getattr(config, "cache", None)
    if sys.dont_write_bytecode and cache is not None:
        os.environ["PYTHONPYCACHEPREFIX"] = str(cache.mkdir("bytecode"))
        os.environ.pop("PYTHONDONTWRITEBYTECODE", None)


@pytest.fixture(params=["trio", "asyncio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    """Every test marked `anyio` runs on both."""
    return str(request.param)


class Certificates:
    """An authority of the tests' own, and what it signs; files in PEM."""

    def __init__(self, folder: Path) -> None:
        # Slow to import, and few tests want one.
        import trustme

        self._trustme = trustme
        self._folder = folder
        self._authority = trustme.CA(key_type=trustme.KeyType.ECDSA)
        self.authority = self._write("authority.pem", self._authority.cert_pem)
        self._stranger = trustme.CA(key_type=trustme.KeyType.ECDSA)
        self.stranger = self._write("stranger.pem", self._stranger.cert_pem)

    def issue(self, *names: str, expired: bool = False) -> tuple[Path, Path]:
        """A certificate for these names, with its chain, and its key."""
        until = datetime(2020, 1, 1, tzinfo=UTC) if expired else None
        since = datetime(2019, 1, 1, tzinfo=UTC) if expired else None
        leaf = self._authority.issue_cert(
            *names, not_before=since, not_after=until, key_type=self._trustme.KeyType.ECDSA
        )
        name = f"{'-'.join(names)}{'-expired' if expired else ''}"
        chain = b"".join(blob.bytes() for blob in leaf.cert_chain_pems)
        certificate = self._folder / f"{name}.pem"
        certificate.write_bytes(chain)
        return certificate, self._write(f"{name}.key", leaf.private_key_pem)

    def server_context(
        self, *names: str, expired: bool = False, wants_clients: bool = False, alpn: str | None = None
    ) -> ssl.SSLContext:
        """What a broker of these names speaks TLS with; without any, localhost and 127.0.0.1."""
        certificate, key = self.issue(*(names or ("localhost", "127.0.0.1")), expired=expired)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate, key)
        if wants_clients:
            context.verify_mode = ssl.CERT_REQUIRED
            context.load_verify_locations(self.authority)
        if alpn is not None:
            context.set_alpn_protocols([alpn])
        return context

    def _write(self, name: str, blob: Any) -> Path:
        blob.write_to_path(path := self._folder / name)
        return path


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    """Made once for each worker."""
    return Certificates(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(scope="session")
def deep(request: pytest.FixtureRequest) -> bool:
    """Whether the long versions of the tests were asked for."""
    return bool(request.config.getoption("--deep"))


@pytest.fixture(autouse=True)
def connection_states() -> Iterator[StateWatch]:
    """Promise C5 in every test: the changes of state that it saw follow the table, or the test fails."""
    with watched_states() as watch:
        yield watch
    assert watch.illegal() == {}, "a connection state changed as C5 forbids"
