"""TLS, mutual TLS and Unix sockets against Mosquitto; access rules, the keep alive that it imposes, and its wills."""

import ssl
from pathlib import Path
from typing import Any

import anyio
import pytest
from anyio import to_thread

import hawk
from hawk.links.dialing import NetworkDialer
from hawk.packets import ConnectRequest

pytestmark = pytest.mark.anyio

NOT_AUTHORIZED = 0x87
PATIENCE_S = 20


def tls_settings(certificates: Any, **more: object) -> dict[str, object]:
    certificate, key = certificates.issue("localhost", "127.0.0.1")
    return {"cafile": certificates.authority, "certfile": certificate, "keyfile": key} | more


async def round_trip(mqtt: hawk.MQTTInterface) -> None:
    """A message there and back."""
    await mqtt.connect()
    async with mqtt.subscribe("echo/#", qos=2) as messages:
        await (await mqtt.publish("echo/x", "hello", qos=2)).acknowledged()
        assert (await anext(messages)).text() == "hello"


async def test_tls_with_an_authority_of_ones_own(start_mosquitto: Any, certificates: Any) -> None:
    broker = start_mosquitto(**tls_settings(certificates))
    for host in ("localhost", "127.0.0.1"):
        url = f"mqtts://{host}:{broker.port}"
        with anyio.fail_after(PATIENCE_S):
            async with hawk.open_mqtt(url, tls_ca_file=str(certificates.authority)) as mqtt:
                await round_trip(mqtt)


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({}, "certificate is not trusted"),
        ({"tls_server_name": "elsewhere.example"}, "elsewhere.example"),
        ({"tls_ca_file": "absent.pem"}, "absent.pem cannot be used"),
    ],
    ids=["the system's store", "another name", "no file"],
)
async def test_tls_is_verified_unless_told_otherwise(
    start_mosquitto: Any, certificates: Any, settings: dict[str, Any], reason: str
) -> None:
    broker = start_mosquitto(**tls_settings(certificates))
    url = f"mqtts://localhost:{broker.port}"
    if "tls_server_name" in settings:
        settings = {"tls_ca_file": str(certificates.authority), **settings}
    with anyio.fail_after(PATIENCE_S):
        async with hawk.open_mqtt(url, max_retries=0, **settings) as mqtt:
            with pytest.raises(hawk.GaveUp, match=reason):
                await mqtt.connect()
        async with hawk.open_mqtt(url, tls_insecure=True) as mqtt:
            await round_trip(mqtt)


async def test_hawks_own_certificate_is_read_anew_at_each_dial(
    start_mosquitto: Any, certificates: Any, tmp_path: Path
) -> None:
    """Refused with a stranger's certificate, let in as soon as the files are replaced."""
    broker = start_mosquitto(**tls_settings(certificates, require_certificate="true"))
    good, key = certificates.issue("boat.example")
    own, own_key = tmp_path / "own.pem", tmp_path / "own.key"
    settings = {
        "tls_ca_file": str(certificates.authority),
        "tls_certificate_file": str(own),
        "tls_key_file": str(own_key),
        "initial_retry_delay": 0.05,
        "max_retry_delay": 0.1,
        "max_retries": None,
    }
    with anyio.fail_after(PATIENCE_S):
        async with hawk.open_mqtt(f"mqtts://localhost:{broker.port}", **settings) as mqtt:
            receipt = await mqtt.publish("up", "at last")
            while mqtt.stats["consecutive_failures"] < 2:
                await anyio.sleep(0.01)
            own_key.write_bytes(key.read_bytes())
            own.write_bytes(good.read_bytes())
            await receipt.acknowledged()
            await round_trip(mqtt)


async def test_a_tls_context_of_the_applications_own_is_asked_for(start_mosquitto: Any, certificates: Any) -> None:
    broker = start_mosquitto(**tls_settings(certificates))

    async def context() -> ssl.SSLContext:
        return ssl.create_default_context(cafile=str(certificates.authority))

    with anyio.fail_after(PATIENCE_S):
        async with hawk.open_mqtt(f"mqtts://localhost:{broker.port}", tls_context=context) as mqtt:
            await round_trip(mqtt)


async def test_a_unix_socket(start_mosquitto: Any, tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.mktemp("s") / "mqtt.sock"
    start_mosquitto(**{"listener 0": path})
    with anyio.fail_after(PATIENCE_S):
        async with hawk.open_mqtt(f"mqtt+unix://{path}") as mqtt:
            await round_trip(mqtt)
        async with hawk.open_mqtt(f"mqtt+unix://{path}.absent", max_retries=0) as mqtt:
            with pytest.raises(hawk.GaveUp, match="No such file or directory"):
                await mqtt.connect()


async def test_endpoints_of_every_kind_are_dialled_in_order(
    start_mosquitto: Any, certificates: Any, tmp_path: Path, unused_port: int
) -> None:
    broker = start_mosquitto(**tls_settings(certificates))
    urls = (f"mqtt+unix://{tmp_path}/absent", f"mqtt://127.0.0.1:{unused_port}", f"mqtts://localhost:{broker.port}")
    config = hawk.Config.from_mapping(
        {"endpoints": urls, "tls_ca_file": str(certificates.authority), "initial_retry_delay": 0.02}
    )
    with anyio.fail_after(PATIENCE_S):
        async with hawk.open_mqtt(config) as mqtt:
            await round_trip(mqtt)
            assert mqtt.stats["total_connections"] == 1


async def test_what_the_access_rules_deny_is_refused_and_all_else_goes_on(start_mosquitto: Any, tmp_path: Path) -> None:
    """Mosquitto 2.0.11 refuses in PUBACK or PUBREC, and then closes the connection by itself."""
    rules = tmp_path / "rules"
    rules.write_text("topic readwrite echo/#\n")
    broker = start_mosquitto(acl_file=rules)
    with anyio.fail_after(PATIENCE_S):
        async with hawk.open_mqtt(broker.url, initial_retry_delay=0.05, client_id="boat") as mqtt:
            await mqtt.connect()
            for qos in (1, 2):
                with pytest.raises(hawk.Refused) as refused:
                    await (await mqtt.publish("forbidden", "x", qos=qos)).acknowledged()
                assert refused.value.reason_code == NOT_AUTHORIZED
            await round_trip(mqtt)
            assert (mqtt.stats["messages_failed"], mqtt.stats["acknowledged"]) == (2, 1)


async def test_the_keep_alive_that_mosquitto_imposes_is_read(start_mosquitto: Any) -> None:
    """That hawk obeys it is shown in virtual time, by `tests/faults`."""
    broker = start_mosquitto(max_keepalive=10)
    config = hawk.Config.from_url(broker.url)
    with anyio.fail_after(PATIENCE_S):
        link = await NetworkDialer(config).dial(ConnectRequest("me", clean_start=True))
        assert link.connack.server_keep_alive_s == 10
        await link.aclose()


async def test_an_identifier_that_mosquitto_assigned_is_kept_over_its_restart(mosquitto: Any) -> None:
    config = hawk.Config.from_url(mosquitto.url, client_id="", initial_retry_delay=0.05)
    with anyio.fail_after(PATIENCE_S):
        link = await NetworkDialer(config).dial(ConnectRequest("", clean_start=True))
        assert link.connack.assigned_client_identifier
        await link.aclose()
        async with hawk.open_mqtt(config) as mqtt, mqtt.subscribe("news", qos=1) as messages:
            await mqtt.connect()
            for links in (1, 2):
                # It does not save a session that began with Clean Start: the first restart only makes another of it.
                while mqtt.stats["total_connections"] < links:
                    await anyio.sleep(0.01)
                await anyio.sleep(0.2)
                await to_thread.run_sync(mosquitto.terminate)
                await to_thread.run_sync(mosquitto.start)
            async with hawk.open_mqtt(mosquitto.url) as other:
                await (await other.publish("news", "for whoever was here", qos=1)).acknowledged()
            # Only the session of the identifier that it was assigned has this one.
            assert (await anext(messages)).text() == "for whoever was here"


async def test_a_will_is_published_for_a_hawk_that_was_lost(mosquitto: Any, raw_client: Any) -> None:
    will = hawk.Will("status/boat", "gone", qos=1, properties=hawk.Properties(content_type="text/plain"))
    birth = hawk.Message("status/boat", b"here", 1)
    with anyio.fail_after(PATIENCE_S):
        async with (
            hawk.open_mqtt(mosquitto.url) as watcher,
            watcher.subscribe("status/#", qos=1) as statuses,
            hawk.open_mqtt(mosquitto.url, client_id="boat", will=will, birth=birth, session_expiry_s=0) as boat,
        ):
            await boat.connect()
            assert (await anext(statuses)).text() == "here"
            # Another client of the same identifier: for the broker the first one is lost.
            await to_thread.run_sync(lambda: raw_client(mosquitto.port, "boat").close())
            assert (await anext(statuses)).text() == "gone"
