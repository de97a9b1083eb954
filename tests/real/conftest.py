"""A real Mosquitto for each test that asks, on a free port, and a witness that is not hawk.

Only processes that were started here are ended here. Where Mosquitto is missing the tests skip, and the skip is counted.
"""

import os
import select
import shutil
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import mqtt5
import pytest

MAY_BE_IN = "/usr/sbin:/usr/local/sbin:/usr/bin:/opt/homebrew/sbin:/opt/homebrew/bin"
PATIENCE_S = 20.0
LOOK_AGAIN_S = 0.02
EXPIRY_S = 3600


def program(name: str) -> str:
    """Where that program of Mosquitto's is; the test is skipped when it is nowhere."""
    found = shutil.which(name) or shutil.which(name, path=MAY_BE_IN)
    if found is None:
        pytest.skip(f"{name} is not installed (Debian: apt-get install mosquitto)")
    return found


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Mosquitto:
    """One broker: its process, its folder, its port. Every method blocks until it is true."""

    def __init__(self, folder: Path, settings: dict[str, object]) -> None:
        self._program = program("mosquitto")
        self._log = folder / "mosquitto.log"
        self._configuration = folder / "mosquitto.conf"
        self._process: subprocess.Popen[bytes] | None = None
        self.folder = folder
        self.port = free_port()
        chosen: dict[str, object] = {
            "listener": f"{self.port} 127.0.0.1",
            "allow_anonymous": "true",
            "max_inflight_messages": 0,
            "max_queued_messages": 0,
            "persistence": "true",
            "persistence_location": f"{folder}/",
            "autosave_interval": 1,
            "log_dest": f"file {self._log}",
        }
        if os.geteuid() == 0:
            # Otherwise it would become a user who may not write into this folder.
            chosen["user"] = "root"
        chosen |= settings
        self._configuration.write_text("".join(f"{key} {value}\n" for key, value in chosen.items()))

    @property
    def url(self) -> str:
        return f"mqtt://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Start, and return when it accepts connections."""
        assert self._process is None
        self._process = subprocess.Popen([self._program, "-c", str(self._configuration)])
        deadline = time.monotonic() + PATIENCE_S
        while True:
            assert self._process.poll() is None, f"mosquitto ended: {self._log.read_text()}"
            try:
                socket.create_connection(("127.0.0.1", self.port), PATIENCE_S).close()
            except ConnectionRefusedError:
                assert time.monotonic() < deadline, "mosquitto does not listen"
                time.sleep(LOOK_AGAIN_S)
            else:
                return

    def terminate(self) -> None:
        """SIGTERM: it saves what it holds, and ends."""
        assert self._process is not None
        self._process.terminate()
        self._process.wait(PATIENCE_S)
        self._process = None

    def freeze(self) -> None:
        """SIGSTOP: the kernel goes on taking connections and bytes for it, and nothing answers."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def reload(self) -> None:
        """SIGHUP: it reads its password file again."""
        assert self._process is not None
        self._process.send_signal(signal.SIGHUP)

    def close(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait(PATIENCE_S)
            self._process = None


class RawClient:
    """MQTT 5 over a blocking socket: one packet out, one packet in."""

    def __init__(self, port: int, client_identifier: str, *, clean_start: bool = True) -> None:
        self._unread = b""
        self.stream = socket.create_connection(("127.0.0.1", port), PATIENCE_S)
        self.stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            self.send(
                mqtt5.ConnectPacket(
                    client_identifier, clean_start=clean_start, keep_alive=600, session_expiry_interval=EXPIRY_S
                )
            )
            connack = self.receive()
            if not isinstance(connack, mqtt5.ConnAckPacket) or int(connack.reason_code):
                raise ConnectionError(f"not accepted: {connack}")
            self.connack = connack
        except BaseException:
            self.close()
            raise

    def send(self, *packets: mqtt5.Packet) -> None:
        self.stream.sendall(b"".join(packet.write() for packet in packets))

    def receive(self) -> mqtt5.Packet:
        """The next packet. Raises ConnectionError when there is none any more."""
        while (packet := self.take()) is None:
            self.fill()
        return packet

    def take(self) -> mqtt5.Packet | None:
        """The next packet, if it is here already."""
        try:
            packet, size = mqtt5.read(memoryview(self._unread))
        except IndexError:
            return None
        self._unread = self._unread[size:]
        return packet

    def fill(self) -> None:
        received = self.stream.recv(4096)
        if not received:
            raise ConnectionError("the broker closed the connection")
        self._unread += received

    def close(self) -> None:
        self.stream.close()


class Witness:
    """A persistent session on a raw socket: stores what arrives at QoS 1, acknowledges it, comes back after every loss.

    `arrived` are the payloads in the order of arrival, repeats included; `resumed` says of each connection after the
    first whether the broker still had the session.
    """

    def __init__(self, port: int, topic_filter: str) -> None:
        self.arrived: list[bytes] = []
        self.resumed: list[bool] = []
        self._port = port
        self._distinct: set[bytes] = set()
        self._ending = threading.Event()
        first = RawClient(port, "witness", clean_start=False)
        first.send(mqtt5.SubscribePacket(1, [mqtt5.TopicFilter(topic_filter, max_qos=mqtt5.QoS.AT_LEAST_ONCE)]))
        suback = first.receive()
        assert isinstance(suback, mqtt5.SubAckPacket), suback
        self._thread = threading.Thread(target=self._serve, args=(first,))
        self._thread.start()

    @property
    def distinct(self) -> int:
        """How many different payloads have arrived."""
        return len(self._distinct)

    def wait_for(self, messages: int) -> None:
        """Return when that many different payloads have arrived, or nothing new has for a while."""
        seen, deadline = self.distinct, time.monotonic() + PATIENCE_S
        while seen < messages and time.monotonic() < deadline:
            time.sleep(LOOK_AGAIN_S)
            if self.distinct > seen:
                seen, deadline = self.distinct, time.monotonic() + PATIENCE_S

    def close(self) -> None:
        self._ending.set()
        self._thread.join(PATIENCE_S)
        assert not self._thread.is_alive()

    def _serve(self, client: RawClient | None) -> None:
        while not self._ending.is_set():
            try:
                if client is None:
                    client = RawClient(self._port, "witness", clean_start=False)
                    self.resumed.append(client.connack.session_present)
                self._listen(client)
            except OSError:
                # The broker is away: it was told to be.
                self._ending.wait(LOOK_AGAIN_S)
            finally:
                if client is not None:
                    client.close()
                    client = None

    def _listen(self, client: RawClient) -> None:
        while not self._ending.is_set():
            acknowledgements: list[mqtt5.Packet] = []
            while (packet := client.take()) is not None:
                assert isinstance(packet, mqtt5.PublishPacket), packet
                self.arrived.append(packet.payload)
                self._distinct.add(packet.payload)
                if packet.packet_id is not None:
                    acknowledgements.append(mqtt5.PubAckPacket(packet.packet_id))
            if acknowledgements:
                client.send(*acknowledgements)
            if select.select([client.stream], [], [], LOOK_AGAIN_S)[0]:
                client.fill()


@pytest.fixture
def start_mosquitto(tmp_path: Path) -> Iterator[Callable[..., Mosquitto]]:
    """Start a broker; keyword arguments are further lines of its configuration file, or others for its usual ones."""
    started: list[Mosquitto] = []

    def start(**settings: object) -> Mosquitto:
        folder = tmp_path / f"mosquitto-{len(started)}"
        folder.mkdir()
        broker = Mosquitto(folder, settings)
        started.append(broker)
        broker.start()
        return broker

    yield start
    for broker in started:
        broker.close()


@pytest.fixture
def mosquitto(start_mosquitto: Callable[..., Mosquitto]) -> Mosquitto:
    """A broker without bounds that keeps its sessions over a restart."""
    return start_mosquitto()


@pytest.fixture
def unused_port() -> int:
    """A port that nobody listens on."""
    return free_port()


@pytest.fixture
def raw_client() -> type[RawClient]:
    """A client that is not hawk."""
    return RawClient


@pytest.fixture
def witness() -> Callable[[int, str], object]:
    """`with witness(port, filter) as seen:` has a persistent session that sees everything, until the end of the block."""

    @contextmanager
    def watch(port: int, topic_filter: str) -> Iterator[Witness]:
        seen = Witness(port, topic_filter)
        try:
            yield seen
        finally:
            seen.close()

    return watch


@pytest.fixture
def set_password() -> Callable[[Path, str, str], None]:
    """Write one user and password into a password file of Mosquitto's."""
    passwords = program("mosquitto_passwd")

    def write(file: Path, user: str, password: str) -> None:
        subprocess.run([passwords, "-b", "-c", str(file), user, password], check=True, timeout=PATIENCE_S)

    return write
