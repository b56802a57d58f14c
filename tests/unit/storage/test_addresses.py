"""Addresses that no video is fetched from, in every form that leads to them, and where the key may go."""

from __future__ import annotations

import dataclasses
import ipaddress
import socket

import pytest

from airflow_provider_veo.net.addresses import Policy, plain, special
from airflow_provider_veo.protocol import VeoDownloadError, VeoDownloadRefusedError
from tests.conftest import CANARY
from tests.unit.storage.conftest import SIGNATURE, files_in, hosting
from tests.unit.storage.hosts import redirect

METADATA = ["169.254.169.254", "169.254.170.2", "100.100.100.200", "168.63.129.16", "192.0.0.192", "fd00:ec2::254"]
REFUSED_V4 = [
    "0.0.0.0",
    "0.1.2.3",
    "10.0.0.1",
    "10.255.255.255",
    "100.64.0.1",
    "100.127.255.255",
    "127.0.0.1",
    "127.255.255.254",
    "169.254.0.1",
    "172.16.0.1",
    "172.31.255.255",
    "192.0.0.1",
    "192.0.2.1",
    "192.168.255.255",
    "198.18.0.1",
    "198.51.100.1",
    "203.0.113.1",
    "224.0.0.1",
    "239.255.255.255",
    "240.0.0.1",
    "255.255.255.255",
]
PUBLIC_V4 = [
    "1.1.1.1",
    "8.8.8.8",
    "100.63.255.255",
    "100.128.0.1",
    "126.0.0.1",
    "172.15.0.1",
    "172.32.0.1",
    "223.1.1.1",
]
REFUSED_V6 = [
    "::",
    "::1",
    "::2",
    "::7f00:1",
    "::ffff:0:7f00:1",
    "100::1",
    "64:ff9b:1::808:808",
    "2001::1",
    "2001:2::1",
    "2001:10::1",
    "2001:db8::1",
    "3fff::1",
    "4000::1",
    "5f00::1",
    "fc00::1",
    "fdff::1",
    "fe80::1",
    "fe80::1%eth0",
    "fec0::1",
    "ff02::1",
]
PUBLIC_V6 = ["2001:4860:4860::8888", "2606:4700::1111", "2a00::1", "3ffe::1"]


def forms_of(v4):
    """IPv6 addresses that stand for an IPv4 one."""
    number = int(ipaddress.IPv4Address(v4))
    yield f"::ffff:{v4}"
    yield f"::ffff:{number >> 16:x}:{number & 0xFFFF:x}"
    yield f"64:ff9b::{v4}"
    yield f"2002:{number >> 16:x}:{number & 0xFFFF:x}::1"
    yield f"2a00::5efe:{v4}"
    yield f"2a00::200:5efe:{v4}"


def refusal(address, *, allow_private=False):
    return Policy(allow_private, "relay.example.com").refusal("media.example.com", address)


@pytest.mark.parametrize("address", [*REFUSED_V4, *REFUSED_V6, *METADATA])
def test_special_addresses_are_refused(address):
    assert refusal(address)


@pytest.mark.parametrize("address", [form for v4 in [*REFUSED_V4, *METADATA[:-1]] for form in forms_of(v4)])
def test_an_ipv6_address_is_refused_for_the_ipv4_one_that_it_stands_for(address):
    assert refusal(address)


@pytest.mark.parametrize("address", [*PUBLIC_V4, *PUBLIC_V6, *(form for v4 in PUBLIC_V4 for form in forms_of(v4))])
def test_public_addresses_are_not(address):
    assert refusal(address) is None


@pytest.mark.parametrize("address", [*METADATA, *forms_of("169.254.169.254"), *forms_of("168.63.129.16")])
def test_metadata_services_are_refused_whatever_the_connection_says(address):
    assert "metadata" in refusal(address, allow_private=True)
    assert "metadata" in Policy(False, "media.example.com").refusal("media.example.com", address)


@pytest.mark.parametrize("address", ["127.0.0.1", "10.0.0.1", "::1", "fd00::1", "::ffff:10.0.0.1"])
def test_private_addresses_are_allowed_by_the_connection_or_to_the_relays_own_host(address):
    assert refusal(address, allow_private=True) is None
    for name in ("relay.example.com", "RELAY.example.com."):
        assert Policy(False, "relay.example.com").refusal(name, address) is None
    assert Policy(False, "relay.example.com").refusal("x.relay.example.com", address)


def test_whatever_python_calls_not_global_is_refused():
    for number in range(0, 1 << 32, (1 << 32) // 50_021):
        ip = ipaddress.IPv4Address(number)
        assert ip.is_global or special(ip), ip
    for number in range(0, 1 << 128, (1 << 128) // 20_011):
        ip = ipaddress.IPv6Address(number)
        assert ip.is_global or special(plain(str(ip))), ip


# --- over real sockets -----------------------------------------------------------------------------------------------


@pytest.fixture
def strict(settings):
    """A connection that allows no private media."""
    return dataclasses.replace(settings, allow_private_media=False)


LITERALS = [
    "127.0.0.1",
    "127.1",
    "0x7f000001",
    "0x7f.1",
    "2130706433",
    "017700000001",
    "0177.0.0.1",
    "localhost",
    "LOCALHOST",
    "0.0.0.0",
    "0",
    "[::1]",
    "[::]",
    "[0:0:0:0:0:0:0:1]",
    "[::ffff:127.0.0.1]",
    "[::ffff:7f00:1]",
    "[64:ff9b::127.0.0.1]",
    "[2002:7f00:1::1]",
    "10.1.2.3",
    "169.254.169.254",
    "2852039166",
    "0xA9FEA9FE",
    "[::ffff:169.254.169.254]",
    "[fd00:ec2::254]",
    "[fe80::1]",
    "100.64.1.1",
    "224.0.0.1",
]


@pytest.mark.parametrize("name", LITERALS)
def test_no_form_of_a_refused_address_gets_a_connection(host, store, strict, target, name, monkeypatch):
    def connect(self, address):
        raise AssertionError(f"connected to {address}")

    monkeypatch.setattr(socket.socket, "connect", connect)
    with pytest.raises(VeoDownloadRefusedError, match="did not send the request") as caught:
        store(f"http://{name}:{host.server_port}/x.mp4?s={SIGNATURE}", settings=strict)
    assert caught.value.final
    is_metadata = "metadata service" in str(caught.value)
    assert ("allow_private_media" in str(caught.value)) != is_metadata
    assert is_metadata == any(part in name.lower() for part in ("169.254.169", "2852039166", "a9fea9fe", "ec2"))
    assert host.asked == []
    assert files_in(target.parent) == []


@pytest.mark.parametrize("name", ["127.0.0.1.", "localhost.", "[::1%25lo]", "127.0.0.1%00.example.com"])
def test_forms_that_only_some_resolvers_know_get_none_either(host, store, strict, name):
    with pytest.raises((VeoDownloadError, VeoDownloadRefusedError)):
        store(f"http://{name}:{host.server_port}/x.mp4", settings=strict)
    assert host.asked == []


@pytest.mark.parametrize("name", ["127.0.0.1", "2130706433", "localhost", "[::ffff:127.0.0.1]"])
def test_the_same_forms_lead_to_the_file_where_they_are_allowed(host, store, target, name):
    store(f"http://{name}:{host.server_port}/x.mp4")
    assert target.read_bytes() == host.content


@pytest.mark.parametrize("scheme", ["http", "https"])
@pytest.mark.parametrize(
    "name", ["127.0.0.1", "0x7f000001", "[::1]", "[::ffff:10.0.0.1]", "169.254.169.254", "localhost"]
)
def test_no_redirect_leads_to_a_refused_address(host, store, strict, target, name, scheme):
    # The relay's own origin may be private, and only that: here it is the first hop.
    own = dataclasses.replace(strict, base_url=f"http://127.0.0.1:{host.server_port}", api_key="its-own-key-0123")
    with hosting("::1") as other:
        if name == "127.0.0.1":  # the same address under another name is another host
            own = dataclasses.replace(own, base_url=f"http://localhost:{host.server_port}")
        host.always = redirect(f"{scheme}://{name}:{other.server_port}/x.mp4?s={SIGNATURE}")
        with pytest.raises(VeoDownloadRefusedError, match="did not send the request"):
            store(f"{own.base_url}/x.mp4", settings=own)
        assert len(host.asked) == 1
        assert other.asked == []
    assert files_in(target.parent) == []


def test_a_file_on_ipv6_is_fetched(store, target):
    with hosting("::1") as other:
        store(f"http://[::1]:{other.server_port}/x.mp4")
        assert target.read_bytes() == other.content


def test_a_public_name_that_resolves_to_a_private_address_is_refused(host, store, strict, monkeypatch):
    look_up(monkeypatch, {"media.example.com": ["127.0.0.1"]})
    with pytest.raises(VeoDownloadRefusedError, match=r"example\.com resolves to 127\.0\.0\.1, which is a loopback"):
        store(f"http://media.example.com:{host.server_port}/x.mp4", settings=strict)
    assert host.asked == []


def test_a_name_with_one_private_address_among_public_ones_is_refused(host, store, strict, monkeypatch):
    look_up(monkeypatch, {"media.example.com": ["8.8.8.8", "127.0.0.1"]})
    with pytest.raises(VeoDownloadRefusedError, match=r"127\.0\.0\.1"):
        store(f"http://media.example.com:{host.server_port}/x.mp4", settings=strict)


def test_a_name_that_changes_its_address_after_the_check_gets_no_connection(host, store, strict, monkeypatch):
    """Rebinding: public at the first lookup, private from then on. It is looked up only once."""
    answers = [["192.88.98.1"], ["127.0.0.1"], ["127.0.0.1"]]
    asked = look_up(monkeypatch, {"media.example.com": lambda: answers[min(len(asked) - 1, 2)]})
    tried = []

    def connect(self, address):
        tried.append(address[0])
        raise ConnectionRefusedError

    monkeypatch.setattr(socket.socket, "connect", connect)
    monkeypatch.setattr("airflow_provider_veo.storage.transfer.MAX_TRIES", 1)
    with pytest.raises(VeoDownloadError):
        store(f"http://media.example.com:{host.server_port}/x.mp4", settings=strict)
    assert tried == ["192.88.98.1"]
    assert asked == ["media.example.com"]


def test_a_socket_that_is_connected_elsewhere_after_all_is_not_used(host, store, strict, monkeypatch):
    """What a translating network can do: the address was public, the peer is not."""
    look_up(monkeypatch, {"media.example.com": ["8.8.8.8"]})
    connect = socket.socket.connect
    monkeypatch.setattr(socket.socket, "connect", lambda self, address: connect(self, ("127.0.0.1", host.server_port)))
    with pytest.raises(VeoDownloadRefusedError, match=r"media\.example\.com resolves to 127\.0\.0\.1"):
        store("http://media.example.com/x.mp4", settings=strict)
    assert host.asked == []


@pytest.mark.parametrize("base_url", ["http://127.0.0.1:1", "http://127.0.0.1:{port}"])
def test_the_relays_own_address_may_be_private(host, store, strict, target, base_url):
    own = dataclasses.replace(strict, base_url=base_url.format(port=host.server_port), api_key="its-own-key-0123")
    store(settings=own)
    assert target.read_bytes() == host.content


@pytest.mark.parametrize("base_url", ["https://relay.example.com", "http://relay.example.com:1"])
def test_a_relay_reaches_nothing_else_by_its_own_name(host, store, strict, target, monkeypatch, base_url):
    """Its DNS may lead its name to this network, and its answer may name any port."""
    look_up(monkeypatch, {"relay.example.com": ["127.0.0.1"]})
    own = dataclasses.replace(strict, base_url=base_url)
    with pytest.raises(VeoDownloadRefusedError, match="did not send the request"):
        store(f"http://relay.example.com:{host.server_port}/x.mp4", settings=own)
    assert host.asked == []


def look_up(monkeypatch, names):
    """Answer for some names in the resolver's place: a machine without a network has none."""
    real, asked = socket.getaddrinfo, []

    def getaddrinfo(host, port, *arguments, **options):
        if host not in names:
            return real(host, port, *arguments, **options)
        asked.append(host)
        found = names[host]() if callable(names[host]) else names[host]
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port)) for address in found]

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    return asked


# --- redirects and forms of URLs -------------------------------------------------------------------------------------


def test_five_redirects_are_followed_and_no_more(host, store, target):
    base = f"http://127.0.0.1:{host.server_port}"
    host.script = [redirect(f"{base}/{n}?s={SIGNATURE}", status) for n, status in enumerate((301, 302, 303, 307, 308))]
    store()
    assert target.read_bytes() == host.content
    target.unlink()
    host.always = redirect(f"{base}/again?s={SIGNATURE}")
    before = len(host.asked)
    with pytest.raises(VeoDownloadRefusedError, match="redirects more than 5 times"):
        store()
    assert len(host.asked) - before == 6


@pytest.mark.parametrize("location", ["/a b/ü.mp4", "../y.mp4", "?other=1", "//127.0.0.1:{port}/z.mp4", "x.mp4#t=5"])
def test_redirects_may_be_relative(host, store, target, location):
    host.script = [redirect(location.format(port=host.server_port).encode().decode("latin-1"))]
    store()
    assert target.read_bytes() == host.content


@pytest.mark.parametrize(
    "location",
    ["file:///etc/passwd", "ftp://127.0.0.1/x", "gopher://x/", "javascript:1", "data:video/mp4,x", "http://"],
)
def test_redirects_lead_to_http_only(host, store, location):
    host.always = redirect(location)
    with pytest.raises(VeoDownloadRefusedError, match="did not send the request"):
        store()


@pytest.mark.parametrize(
    "url",
    [
        "file:///etc/passwd",
        "ftp://example.com/x",
        "",
        "x.mp4",
        "//example.com/x",
        "http:///x",
        "http://[::1/x",
        "http://h:99999/x",
        "http://h:x/x",
        "http://user:secret-password-0123@example.com/x",
        "http://example.com\\@127.0.0.1/x",
        "http://127.0.0.1\t/x",
        "http://example.com/\r\nHost: x",
        "http://127。0。0。1/x",
        "http://①②⑦.⓪.⓪.①/x",
    ],
)
def test_what_is_not_a_plain_url_is_refused(store, target, url):
    with pytest.raises(VeoDownloadRefusedError, match="did not send the request") as caught:
        store(url)
    assert "secret-password" not in str(caught.value)
    assert files_in(target.parent) == []


# --- the key ---------------------------------------------------------------------------------------------------------


def test_the_key_goes_to_the_relays_own_origin_only(host, store, settings, target):
    """The origin is scheme, host and port. ``localhost`` and ``127.0.0.1`` are two."""
    with hosting() as relay_like:
        own = dataclasses.replace(settings, base_url=f"http://127.0.0.1:{relay_like.server_port}")
        keys = []

        def own_file(request):
            keys.append(request.headers["Authorization"])
            request.server.asked.pop()
            return redirect(f"{host.url}")

        relay_like.script = [own_file]
        store(f"{own.base_url}/files/x.mp4", settings=own)
        assert keys == [f"Bearer {CANARY}"]
        assert target.read_bytes() == host.content
        assert [headers.get("Authorization") for _, headers in host.asked] == [None]
        target.unlink()
        store(f"http://localhost:{relay_like.server_port}/x.mp4", settings=own)
        target.unlink()
        # Once away, nobody else says which of the relay's paths gets the key.
        host.script = [redirect(f"{own.base_url}/v1/account")]
        store(settings=own)
        assert [headers.get("Authorization") for _, headers in relay_like.asked] == [None, None]


def test_no_key_and_no_password_of_netrc_is_sent(host, store, tmp_path, monkeypatch):
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login me password hunter2-hunter2\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    store()
    assert all("Authorization" not in headers for _, headers in host.asked)


def test_a_redirect_from_https_to_http_is_refused(host, store, settings, target, tls_host):
    tls, certificate = tls_host
    trusting = dataclasses.replace(settings, ca_bundle=str(certificate))
    url = f"https://localhost:{tls.server_port}/x.mp4?s={SIGNATURE}"
    store(url, settings=trusting)
    assert target.read_bytes() == tls.content
    target.unlink()
    tls.always = redirect(host.url)
    with pytest.raises(VeoDownloadRefusedError, match=r"redirects to plain http, .*\n.*allow_insecure_http"):
        store(url, settings=trusting)
    assert host.asked == []
    store(url, settings=dataclasses.replace(trusting, allow_insecure_http=True))
    assert len(host.asked) == 1


def test_unsigned_certificate_is_refused(store, tls_host):
    tls, _ = tls_host
    with pytest.raises(VeoDownloadError, match="CERTIFICATE_VERIFY_FAILED"):
        store(f"https://localhost:{tls.server_port}/x.mp4")
    assert tls.asked == []


# --- proxies ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("where", ["connection", "environment"])
def test_a_proxy_is_used_and_names_are_looked_up_before(host, store, settings, strict, target, where, monkeypatch):
    """The proxy is the same kind of server: it gets whole URLs for paths."""
    proxy = f"http://me:hunter2-hunter2@127.0.0.1:{host.server_port}"
    if where == "environment":
        monkeypatch.setenv("HTTP_PROXY", proxy)
        options = {}
    else:
        options = {"proxy": proxy}
    look_up(monkeypatch, {"media.example.com": ["8.8.8.8"], "inner.example.com": ["10.0.0.1"]})
    store("http://media.example.com/x.mp4", settings=dataclasses.replace(strict, **options))
    assert target.read_bytes() == host.content
    assert [path for path, _ in host.asked] == ["http://media.example.com/x.mp4"]
    target.unlink()
    for name in ("inner.example.com", "127.0.0.1:1", "2130706433", "[::ffff:127.0.0.1]", "169.254.169.254"):
        with pytest.raises(VeoDownloadRefusedError, match="did not send the request"):
            store(f"http://{name}/x.mp4", settings=dataclasses.replace(strict, **options))
    assert len(host.asked) == 1
    # A name that only the proxy can resolve may lead anywhere.
    url = "http://only-the-proxy-knows.invalid/x.mp4"
    with pytest.raises((VeoDownloadError, VeoDownloadRefusedError), match="allow_private_media"):
        store(url, settings=dataclasses.replace(strict, **options))
    assert len(host.asked) == 1
    store(url, settings=dataclasses.replace(strict, **options, allow_private_media=True))
    assert len(host.asked) == 2


@pytest.mark.parametrize("proxied", [True, False])
@pytest.mark.parametrize(
    "name",
    [
        "metadata.google.internal",
        "METADATA.Google.Internal.",
        "metadata\u3002google\u3002internal",
        "metadata",
        "metadata.goog",
        "instance-data",
        "instance-data.ec2.internal",
        "metadata%2Egoogle%2Einternal",
    ],
)
def test_metadata_names_are_refused_whatever_is_allowed(host, store, settings, name, proxied):
    url = f"http://{name}/x.mp4"
    proxy = f"http://127.0.0.1:{host.server_port}" if proxied else None
    allowing = dataclasses.replace(settings, proxy=proxy, base_url=f"https://{name.replace('%2E', '.')}")
    with pytest.raises(VeoDownloadRefusedError, match=r"metadata service|not a valid URL"):
        store(url, settings=allowing)
    assert host.asked == []


def test_error_of_an_unreachable_proxy_contains_no_password(store, settings):
    with pytest.raises(VeoDownloadError, match="got no answer") as caught:
        store(settings=dataclasses.replace(settings, proxy="http://me:hunter2-hunter2@127.0.0.1:9"))
    assert "hunter2" not in str(caught.value)


def test_id_in_a_url_is_not_a_secret(host, store, log):
    veo_task_id = "veo3-fast:1795349140-xTL0P9HvGF"
    host.always.status = 503
    with pytest.raises(VeoDownloadError) as caught:
        store(f"http://127.0.0.1:{host.server_port}/content?task_id={veo_task_id}", veo_task_id=veo_task_id)
    assert f"video {veo_task_id} from" in str(caught.value)


def test_another_host_leads_to_no_private_address_of_the_relays(host, store, strict, target, monkeypatch):
    look_up(monkeypatch, {"media.example.com": ["8.8.8.8"]})
    connect = socket.socket.connect

    def through(self, address):
        connect(self, ("127.0.0.1", host.server_port) if address[0] == "8.8.8.8" else address)

    monkeypatch.setattr(socket.socket, "connect", through)
    monkeypatch.setattr(socket.socket, "getpeername", lambda self: ("8.8.8.8", 80))
    host.always = redirect(f"http://127.0.0.1:{host.server_port}/admin")
    own = dataclasses.replace(strict, base_url="http://127.0.0.1:1")
    with pytest.raises(VeoDownloadRefusedError, match=r"127\.0\.0\.1 is a loopback address"):
        store("http://media.example.com/x.mp4", settings=own)
    assert len(host.asked) == 1
