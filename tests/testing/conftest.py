"""A client of packets: it sends what a test says and shows what the broker answered, nothing else."""

from collections.abc import Awaitable, Callable

import anyio
import mqtt5
import pytest
from anyio.abc import ByteStream

from hawk.testing.broker import Broker

LONGEST_WAIT_S = 2.0


class RawClient:
    """Packets over one stream. `receive` fails after `LONGEST_WAIT_S` without a packet."""

    def __init__(self, stream: ByteStream) -> None:
        self.stream = stream
        self._buffer = b""
        self.connack: mqtt5.ConnAckPacket | None = None

    async def send(self, *packets: mqtt5.Packet) -> None:
        await self.stream.send(b"".join(packet.write() for packet in packets))

    async def receive(self) -> mqtt5.Packet:
        with anyio.fail_after(LONGEST_WAIT_S):
            while True:
                try:
                    packet, length = mqtt5.read(memoryview(self._buffer))
                except IndexError:
                    self._buffer += await self.stream.receive()
                else:
                    self._buffer = self._buffer[length:]
                    return packet

    async def connect(self, client_identifier: str = "client", **options: object) -> mqtt5.ConnAckPacket:
        await self.send(mqtt5.ConnectPacket(client_identifier, **options))  # type: ignore[arg-type]
        connack = await self.receive()
        assert isinstance(connack, mqtt5.ConnAckPacket)
        return connack

    async def publish(
        self, topic: str, payload: bytes = b"x", qos: int = 0, identifier: int | None = None, **options: object
    ) -> None:
        await self.send(
            mqtt5.PublishPacket(topic, payload, qos=mqtt5.QoS(qos), packet_id=identifier, **options)  # type: ignore[arg-type]
        )

    async def subscribe(self, *filters: str | mqtt5.TopicFilter, identifier: int | None = None) -> list[int]:
        asked = [
            mqtt5.TopicFilter(each, retain_as_published=False) if isinstance(each, str) else each for each in filters
        ]
        await self.send(mqtt5.SubscribePacket(1000, asked, subscription_id=identifier))
        suback = await self.receive()
        assert isinstance(suback, mqtt5.SubAckPacket)
        return [int(code) for code in suback.reason_codes]

    async def receive_publish(self) -> mqtt5.PublishPacket:
        packet = await self.receive()
        assert isinstance(packet, mqtt5.PublishPacket), packet
        return packet

    async def receive_disconnect(self) -> int:
        """The reason code of the DISCONNECT that comes next; the connection must end after it."""
        packet = await self.receive()
        assert isinstance(packet, mqtt5.DisconnectPacket), packet
        await self.receive_end()
        return int(packet.reason_code)

    async def receive_end(self) -> None:
        """The connection ends, and nothing was said before."""
        assert not self._buffer
        with anyio.fail_after(LONGEST_WAIT_S), pytest.raises((anyio.EndOfStream, anyio.BrokenResourceError)):
            await self.stream.receive()

    async def ping(self) -> None:
        """PINGREQ, and PINGRESP is the very next packet: so nothing else was on its way."""
        await self.send(mqtt5.PingReqPacket())
        packet = await self.receive()
        assert isinstance(packet, mqtt5.PingRespPacket), packet


@pytest.fixture
def raw_client() -> Callable[[ByteStream], RawClient]:
    """Makes a `RawClient` of a stream."""
    return RawClient


@pytest.fixture
def dial() -> Callable[..., Awaitable[RawClient]]:
    """Opens a connection to a broker and exchanges CONNECT and CONNACK; `connack` of the client is the answer."""

    async def connected(broker: Broker, client_identifier: str = "client", **options: object) -> RawClient:
        client = RawClient(broker.connect())
        client.connack = await client.connect(client_identifier, **options)
        return client

    return connected
