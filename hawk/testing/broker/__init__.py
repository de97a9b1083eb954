"""An MQTT 5 broker that runs inside a test: any byte stream, both backends, real or virtual time, faults on demand."""

from hawk.testing.broker.record import Arrival, Record
from hawk.testing.broker.server import Broker, SessionView

__all__ = ["Arrival", "Broker", "Record", "SessionView"]
