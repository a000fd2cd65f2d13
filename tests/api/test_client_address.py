"""Client addresses behind trusted proxies, and `ResponseRateMeter`, as tables."""

from __future__ import annotations

import pytest

from app.api.http.client_address import ForwardedClient, TrustedProxies, client_key, parse_networks
from app.api.http.connections import ConnectionLimits, ResponseRateMeter
from app.config import Settings

TRUSTED = TrustedProxies(parse_networks("127.0.0.1, 10.0.0.0/8, fd00::/8"))
LIMITS = ConnectionLimits(max_connections=1, max_per_address=1, idle_seconds=10, minimum_rate=100, rate_window=30)


@pytest.mark.parametrize(
    ("forwarded", "client"),
    [
        ([], "127.0.0.1"),
        ([b"203.0.113.7"], "203.0.113.7"),
        ([b"9.9.9.9, 203.0.113.7"], "203.0.113.7"),
        ([b"9.9.9.9", b"203.0.113.7, 10.1.2.3"], "203.0.113.7"),
        ([b"10.1.2.3, 10.1.2.4"], "10.1.2.3"),
        ([b"203.0.113.7:4711"], "203.0.113.7"),
        ([b"[2001:db8::1]:4711"], "2001:db8::1"),
        ([b"::ffff:203.0.113.7"], "203.0.113.7"),
        ([b"203.0.113.7, unknown, 10.1.2.3"], "10.1.2.3"),
        ([b"", b"\xff"], "127.0.0.1"),
    ],
)
def test_the_client_is_the_last_that_is_no_trusted_proxy(forwarded: list[bytes], client: str) -> None:
    assert TRUSTED.find_client("127.0.0.1", [(b"x-forwarded-for", each) for each in forwarded]).address == client


@pytest.mark.parametrize(
    ("field", "client"),
    [
        (b"for=203.0.113.7", ForwardedClient("203.0.113.7")),
        (b"for=9.9.9.9;proto=https, For=203.0.113.7;Proto=HTTP", ForwardedClient("203.0.113.7", "http")),
        (b"for=203.0.113.7;proto=https;by=10.1.2.3, for=10.1.2.3;proto=http", ForwardedClient("203.0.113.7", "https")),
        (b'for="[2001:db8::1]:4711";host="a,b;c\\"d";proto=https', ForwardedClient("2001:db8::1", "https")),
        (b"for=203.0.113.7;proto=gopher", ForwardedClient("203.0.113.7")),
        *(
            (field, ForwardedClient("127.0.0.1"))
            for field in (b"for=_hidden;proto=https", b"proto=https", b"", b"\xff")
        ),
        *(
            (field, ForwardedClient("127.0.0.1"))
            for field in (b"for=203.0.113.7,", b'for="203.0.113.7', b"for = 1.2.3.4")
        ),
    ],
)
def test_the_forwarded_field_tells_address_and_scheme(field: bytes, client: ForwardedClient) -> None:
    assert TRUSTED.find_client("127.0.0.1", [(b"forwarded", field)]) == client


def test_the_scheme_is_the_last_that_a_proxy_tells() -> None:
    fields = [(b"x-forwarded-for", b"203.0.113.7"), (b"x-forwarded-proto", b"http"), (b"x-forwarded-proto", b"HTTPS")]
    assert TRUSTED.find_client("127.0.0.1", fields) == ForwardedClient("203.0.113.7", "https")


def test_a_field_that_the_client_may_have_written_is_not_believed() -> None:
    """A proxy writes one of the two fields and passes on the other one."""
    agree = [(b"forwarded", b"for=203.0.113.7;proto=https"), (b"x-forwarded-for", b"203.0.113.7")]
    assert TRUSTED.find_client("127.0.0.1", agree).address == "203.0.113.7"
    for forged in ((b"x-forwarded-for", b"9.9.9.9"), (b"x-forwarded-for", b"")):
        assert TRUSTED.find_client("127.0.0.1", [agree[0], forged]) == ForwardedClient("127.0.0.1")


def test_only_the_named_networks_are_trusted() -> None:
    trusted = {
        each for each in ("127.0.0.1", "127.0.0.2", "10.9.9.9", "fd00::1", "fe80::1", "") if TRUSTED.contains(each)
    }
    assert trusted == {"127.0.0.1", "10.9.9.9", "fd00::1"}
    assert not TrustedProxies().contains("127.0.0.1")


def test_an_ipv6_client_is_its_network() -> None:
    assert client_key("2001:db8::1") == client_key("2001:db8::ffff:1") != client_key("2001:db8:0:1::1")
    assert client_key("203.0.113.7") != client_key("203.0.113.8")


def test_what_was_found_for_a_client_is_kept_in_bounds() -> None:
    proxies = TrustedProxies(parse_networks("127.0.0.1"))
    for number in range(3000):
        field = b"203.0.113.7, " * number if number < 100 else b"10.0.%d.%d" % (number // 256, number % 256)
        for _ in range(2):
            found = proxies.find_client("127.0.0.1", [(b"x-forwarded-for", field)])
            assert found == TrustedProxies(parse_networks("127.0.0.1")).find_client(
                "127.0.0.1", [(b"x-forwarded-for", field)]
            )
    kept = proxies._find_cached.cache_info()
    assert kept.currsize == kept.maxsize == 1024
    assert kept.hits == kept.misses, "long fields are not kept"


def test_a_network_that_is_none_is_refused() -> None:
    with pytest.raises(ValueError, match="is no list of networks"):
        Settings(trusted_proxies="10.0.0.0/8, proxy.example.org")


def test_a_client_that_takes_nothing_is_too_slow() -> None:
    meter = ResponseRateMeter(LIMITS)
    assert [bool(meter.cutoff_reason(second, 5000, 70_000)) for second in range(1, 13)] == [False] * 10 + [True] * 2


def test_a_client_that_drips_is_too_slow() -> None:
    meter = ResponseRateMeter(LIMITS)
    told = [meter.cutoff_reason(second, 99 * second, 70_000) for second in range(1, 40)]
    assert [each for each in told if each] == ["The client took less than 100 bytes per second"]
    assert told.index("The client took less than 100 bytes per second") == 30


def test_time_without_anything_to_take_does_not_count() -> None:
    meter = ResponseRateMeter(LIMITS)
    for second in range(1, 1000, 5):
        assert meter.cutoff_reason(second, 5000, 70_000) is None
        assert meter.cutoff_reason(second + 1, 5200, 70_000) is None
        meter.pause()
