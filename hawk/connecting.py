"""What a dial is made of: where to, as whom, with which will; and how an application answers when it is asked at each dial.

Values and Protocols only. `config` holds them, `asking` asks for them, `links` and `protocol` put them on the wire.
"""

from collections.abc import Awaitable, Callable
from enum import Enum
from typing import Any, NamedTuple, Protocol, TypeAlias, TypeVar, runtime_checkable
from urllib.parse import SplitResult, unquote, urlsplit

from hawk.values import NO_PROPERTIES, Judgement, Properties, Verdict

T = TypeVar("T")
Asked: TypeAlias = Callable[[], T | Awaitable[T]]
"""A callable, async or not, that is asked at each dial, under the dial's deadline."""

RefusalPolicy: TypeAlias = Callable[[Judgement], Verdict | None]
"""Decides what a refusal leads to, a plain function that returns at once. It is given hawk's own judgement of the CONNACK,
DISCONNECT, PUBACK, PUBREC, SUBACK or UNSUBACK, and returns None to leave it at that."""


class Transport(Enum):
    """What carries MQTT to an endpoint; the values are the schemes of its URLs."""

    TCP = "mqtt"
    TLS = "mqtts"
    UNIX = "mqtt+unix"


_SCHEMES = {"mqtt": Transport.TCP, "tcp": Transport.TCP, "mqtts": Transport.TLS, "ssl": Transport.TLS}
_SCHEMES["mqtt+unix"] = Transport.UNIX
DEFAULT_PORTS = {Transport.TCP: 1883, Transport.TLS: 8883, Transport.UNIX: 0}


class Endpoint(NamedTuple):
    """One place where a broker listens. `host` is a name or an address; for a Unix socket its path, and `port` 0."""

    transport: Transport
    host: str
    port: int = 0

    def __str__(self) -> str:
        """As it is told to an operator."""
        if self.transport is Transport.UNIX:
            return self.host
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def url(self) -> str:
        """As an outbox file remembers it: always the same text for the same endpoint, and nothing else in it."""
        return f"{self.transport.value}://{self}"


class Credentials(NamedTuple):
    """Who hawk is to the broker. Text is sent as UTF-8. Without the password in its `repr` (promise C10)."""

    username: str | None = None
    password: str | bytes | None = None

    def __repr__(self) -> str:
        """The user name alone."""
        return f"<Credentials: {self.username!r}>"


NO_CREDENTIALS = Credentials()


class Will(NamedTuple):
    """What the broker publishes for hawk once the link is lost without a goodbye (MQTT 5 section 3.1.2.5).

    `delay_s`: how long the broker waits for hawk to come back before that (section 3.1.3.2.2); it never waits longer than
    the session lives. A stop says goodbye, and so takes the will back.
    """

    topic: str
    payload: bytes | str = b""
    qos: int = 0
    retain: bool = False
    delay_s: int = 0
    properties: Properties = NO_PROPERTIES

    def __repr__(self) -> str:
        """Without the payload (promise C10)."""
        retain = ", retain" if self.retain else ""
        return f"<Will: {self.topic!r}, {len(self.payload)} bytes, QoS {self.qos}{retain}, after {self.delay_s} s>"


@runtime_checkable
class TLSContext(Protocol):
    """What hawk needs of an `ssl.SSLContext`; any of these is one."""

    def wrap_bio(self, incoming: Any, outgoing: Any, server_side: bool = ..., server_hostname: Any = ...) -> Any:
        """Make the object that speaks TLS over two buffers."""


class Authenticator(Protocol):
    """One exchange of enhanced authentication (MQTT 5 section 4.12); a new one is made for each dial.

    Every method runs under the dial's deadline. What one raises fails that attempt only; it is told by its type alone.
    """

    @property
    def method(self) -> str:
        """The Authentication Method."""

    async def start(self) -> bytes | None:
        """The Authentication Data of the CONNECT."""

    async def answer(self, challenge: bytes | None) -> bytes | None:
        """The Authentication Data for the broker's AUTH."""

    async def finish(self, proof: bytes | None) -> None:
        """Look at what the CONNACK brought. Raise if this is not the broker that it should be."""


class Address(NamedTuple):
    """What one URL says. Without the password in its `repr`."""

    endpoint: Endpoint
    credentials: Credentials = NO_CREDENTIALS


def parse_url(url: str) -> Address:
    """Read `mqtt://`, `mqtts://` or `mqtt+unix://`. Raises `ValueError` with a sentence that does not repeat the URL."""
    split = _split(url)
    if split is None:
        what = "cannot be read: mqtt://[user[:password]@]host[:port], with /, #, ? and @ in a password percent-encoded"
        raise ValueError(what)
    parts, host, port = split
    transport = _SCHEMES.get(parts.scheme)
    if transport is None:
        raise ValueError("must begin with mqtt://, mqtts:// or mqtt+unix://")
    credentials = Credentials(_decoded(parts.username), _decoded(parts.password))
    if transport is Transport.UNIX:
        return Address(Endpoint(transport, _socket_path(parts)), credentials)
    if not host:
        raise ValueError(f"names no host ({transport.value}://host:port)")
    if parts.path not in ("", "/") or parts.query or parts.fragment:
        raise ValueError("must end after host and port")
    return Address(Endpoint(transport, host, DEFAULT_PORTS[transport] if port is None else port), credentials)


def parse_endpoints(urls: str | tuple[str, ...] | list[str]) -> tuple[Endpoint, ...]:
    """The endpoints of several URLs; a text may hold more than one, with commas or blanks between them.

    Raises `ValueError`. A URL here has no credentials in it: those are the same for all endpoints.
    """
    each = urls.replace(",", " ").split() if isinstance(urls, str) else urls
    found = []
    for url in each:
        address = parse_url(url)
        if address.credentials != NO_CREDENTIALS:
            raise ValueError("holds a user name; with several endpoints `username` and `password` stand apart")
        if address.endpoint.port == 0 and address.endpoint.transport is not Transport.UNIX:
            raise ValueError("a port must be a whole number from 1 to 65535")
        found.append(address.endpoint)
    if not found:
        raise ValueError("must name one endpoint at least")
    return tuple(dict.fromkeys(found))


def _split(url: object) -> tuple[SplitResult, str | None, int | None] | None:
    """The parts of a URL; None where the parser raises, for what it says quotes the URL, and so perhaps the password."""
    if not isinstance(url, str):
        return None
    try:
        parts = urlsplit(url)
        return parts, parts.hostname, parts.port
    except ValueError:
        return None


def _socket_path(parts: SplitResult) -> str:
    if parts.hostname or parts.path in ("", "/") or parts.query or parts.fragment:
        raise ValueError("must name the socket's absolute path (mqtt+unix:///path/to/socket)")
    return unquote(parts.path)


def _decoded(text: str | None) -> str | None:
    return None if text is None else unquote(text)
