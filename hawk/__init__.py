"""hawk: the MQTT client that never loses a message. Everything public is here, and comes in when it is first used."""

from importlib import import_module

TYPE_CHECKING = False
if TYPE_CHECKING:
    from hawk.config import Config as Config
    from hawk.config import ReconnectionConfig as ReconnectionConfig
    from hawk.connecting import Authenticator as Authenticator
    from hawk.connecting import Credentials as Credentials
    from hawk.connecting import Endpoint as Endpoint
    from hawk.connecting import Transport as Transport
    from hawk.connecting import Will as Will
    from hawk.core.tally import Stats as Stats
    from hawk.errors import ConfigInvalid as ConfigInvalid
    from hawk.errors import Dropped as Dropped
    from hawk.errors import Expired as Expired
    from hawk.errors import GaveUp as GaveUp
    from hawk.errors import HawkError as HawkError
    from hawk.errors import MessageInvalid as MessageInvalid
    from hawk.errors import NoResponse as NoResponse
    from hawk.errors import OutboxFull as OutboxFull
    from hawk.errors import OutboxInUse as OutboxInUse
    from hawk.errors import OutboxUnavailable as OutboxUnavailable
    from hawk.errors import Refused as Refused
    from hawk.errors import Stopped as Stopped
    from hawk.errors import Superseded as Superseded
    from hawk.errors import UnknownFate as UnknownFate
    from hawk.interface import MQTTInterface as MQTTInterface
    from hawk.interface import open_mqtt as open_mqtt
    from hawk.messages import MessageSettled as MessageSettled
    from hawk.messages import Missed as Missed
    from hawk.messages import StateChanged as StateChanged
    from hawk.messages import StopReport as StopReport
    from hawk.packets import SubscribeFilter as SubscribeFilter
    from hawk.ports import Ports as Ports
    from hawk.receipt import Receipt as Receipt
    from hawk.received import ReceivedMessage as ReceivedMessage
    from hawk.streams import EventStream as EventStream
    from hawk.subscription import Subscription as Subscription
    from hawk.values import ConnectionState as ConnectionState
    from hawk.values import Fate as Fate
    from hawk.values import FateKind as FateKind
    from hawk.values import Judgement as Judgement
    from hawk.values import Message as Message
    from hawk.values import Properties as Properties
    from hawk.values import Verdict as Verdict

__version__ = "0.1.0"

_HOMES = {
    "hawk.config": ("Config", "ReconnectionConfig"),
    "hawk.connecting": ("Authenticator", "Credentials", "Endpoint", "Transport", "Will"),
    "hawk.core.tally": ("Stats",),
    "hawk.errors": (
        *("ConfigInvalid", "Dropped", "Expired", "GaveUp", "HawkError", "MessageInvalid", "NoResponse", "OutboxFull"),
        *("OutboxInUse", "OutboxUnavailable", "Refused", "Stopped", "Superseded", "UnknownFate"),
    ),
    "hawk.interface": ("MQTTInterface", "open_mqtt"),
    "hawk.messages": ("MessageSettled", "Missed", "StateChanged", "StopReport"),
    "hawk.packets": ("SubscribeFilter",),
    "hawk.ports": ("Ports",),
    "hawk.receipt": ("Receipt",),
    "hawk.received": ("ReceivedMessage",),
    "hawk.streams": ("EventStream",),
    "hawk.subscription": ("Subscription",),
    "hawk.values": ("ConnectionState", "Fate", "FateKind", "Judgement", "Message", "Properties", "Verdict"),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}

__all__ = [
    "Authenticator",
    "Config",
    "ConfigInvalid",
    "ConnectionState",
    "Credentials",
    "Dropped",
    "Endpoint",
    "EventStream",
    "Expired",
    "Fate",
    "FateKind",
    "GaveUp",
    "HawkError",
    "Judgement",
    "MQTTInterface",
    "Message",
    "MessageInvalid",
    "MessageSettled",
    "Missed",
    "NoResponse",
    "OutboxFull",
    "OutboxInUse",
    "OutboxUnavailable",
    "Ports",
    "Properties",
    "Receipt",
    "ReceivedMessage",
    "ReconnectionConfig",
    "Refused",
    "StateChanged",
    "Stats",
    "StopReport",
    "Stopped",
    "SubscribeFilter",
    "Subscription",
    "Superseded",
    "Transport",
    "UnknownFate",
    "Verdict",
    "Will",
    "open_mqtt",
]


def __getattr__(name: str) -> object:
    if name not in _HOME_OF:
        raise AttributeError(f"module 'hawk' has no attribute {name!r}")
    value = getattr(import_module(_HOME_OF[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return [*globals(), *__all__]
