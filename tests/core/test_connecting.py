"""URLs of endpoints: what they say, what is refused, and that nothing repeats a password."""

import pytest

from hawk.connecting import Credentials, Endpoint, Transport, Will, parse_endpoints, parse_url

SECRET = "hunter2"


@pytest.mark.parametrize(
    ("url", "endpoint", "told"),
    [
        ("mqtt://h", Endpoint(Transport.TCP, "h", 1883), "h:1883"),
        ("tcp://h:7/", Endpoint(Transport.TCP, "h", 7), "h:7"),
        ("mqtts://h", Endpoint(Transport.TLS, "h", 8883), "h:8883"),
        ("ssl://[::1]", Endpoint(Transport.TLS, "::1", 8883), "[::1]:8883"),
        ("mqtt+unix:///run/a%20b.sock", Endpoint(Transport.UNIX, "/run/a b.sock"), "/run/a b.sock"),
    ],
)
def test_urls(url: str, endpoint: Endpoint, told: str) -> None:
    assert parse_url(url) == (endpoint, Credentials())
    assert str(endpoint) == told


def test_credentials_are_decoded_and_not_shown() -> None:
    for url in (f"mqtts://jo%40e:{SECRET}%2F@h", f"mqtt+unix://jo%40e:{SECRET}%2F@/s"):
        address = parse_url(url)
        assert address.credentials == ("jo@e", f"{SECRET}/")
        assert SECRET not in repr(address)


def test_a_will_does_not_show_its_payload() -> None:
    shown = repr(Will("t", SECRET, retain=True, delay_s=5))
    assert SECRET not in shown
    assert "retain" in shown
    assert "7 bytes" in shown


@pytest.mark.parametrize("scheme", ["mqtt", "mqtts", "mqtt+unix", "http", ""])
@pytest.mark.parametrize("rest", ["", "/", "@[h", "@h:x", "@h/topic", "@h?q", "@h#f", "@/s?q", "@h/s", "@"])
def test_what_cannot_be_read_is_told_without_its_secret(scheme: str, rest: str) -> None:
    with pytest.raises(ValueError, match=r"must|names|cannot|holds") as caught:
        parse_endpoints(f"{scheme}://u:{SECRET}{rest}")
    assert SECRET not in f"{caught.value!r}{caught.value.__context__}"


def test_several_endpoints_keep_their_order_and_each_counts_once() -> None:
    a, b = Endpoint(Transport.TCP, "a", 1883), Endpoint(Transport.UNIX, "/s")
    assert parse_endpoints("mqtt://a, mqtt+unix:///s  mqtt://a:1883") == (a, b)
    assert parse_endpoints(("mqtt+unix:///s", "mqtt://a")) == (b, a)
