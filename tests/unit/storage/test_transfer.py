"""What comes over a bad line: every file under its name is byte for byte what the host holds."""

from __future__ import annotations

import dataclasses
import hashlib
import time

import pytest

from airflow_provider_veo.protocol import VeoDownloadError, VeoNotFoundError
from airflow_provider_veo.storage import transfer
from tests.unit.storage.conftest import files_in
from tests.unit.storage.hosts import Reply, redirect, video


def ranges(host):
    return [headers.get("Range") for _, headers in host.asked]


def nothing_is_left(target):
    return files_in(target.parent) == []


def test_a_file_comes_whole(host, store, target):
    stored = store(veo_task_id="veo3:1")
    assert target.read_bytes() == host.content
    assert files_in(target.parent) == ["x.mp4"]
    facts = stored.to_dict()
    assert {name: facts[name] for name in ("uri", "bytes", "sha256", "content_type", "veo_task_id")} == {
        "uri": f"file://{target}",
        "bytes": 100_000,
        "sha256": hashlib.sha256(host.content).hexdigest(),
        "content_type": "video/mp4",
        "veo_task_id": "veo3:1",
    }
    ((path, headers),) = host.asked
    assert path == "/v/x.mp4?X-Signature=signature-4f1d0c9ab77e5532&v=1"
    assert headers["Accept-Encoding"] == "identity"
    assert not {"Authorization", "Range", "Cookie"} & headers.keys()


# --- broken off ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("tenth", range(11))
@pytest.mark.parametrize("reset", [False, True])
def test_a_file_that_breaks_off_is_resumed_where_it_broke(host, store, target, tenth, reset):
    cut = 10_000 * tenth - (tenth == 10)
    host.script = [Reply(cut=cut, reset=reset)]
    store()
    assert target.read_bytes() == host.content
    if not reset:  # a reset may take with it what was on the way
        assert ranges(host) == [None, f"bytes={cut}-" if cut else None]
    assert files_in(target.parent) == ["x.mp4"]


@pytest.mark.parametrize("tenth", range(10))
def test_without_ranges_it_starts_over(host, store, target, tenth):
    host.always = Reply(ranges=False)
    host.script = [Reply(cut=10_000 * tenth)]
    store()
    assert target.read_bytes() == host.content
    assert len(host.asked) == 2


def test_it_may_break_off_again_and_again(host, store, target):
    host.script = [Reply(cut=20_000)] * 4
    store()
    assert target.read_bytes() == host.content
    assert ranges(host) == [None, *(f"bytes={20_000 * n}-" for n in range(1, 5))]


def test_tries_that_bring_it_no_further_come_to_an_end(host, store, target):
    host.always = Reply(cut=50)
    with pytest.raises(VeoDownloadError, match=r"and the connection broke after 250 of 100000 bytes") as caught:
        store(veo_task_id="veo3:1")
    assert not caught.value.final
    assert caught.value.veo_task_id == "veo3:1"
    assert len(host.asked) == transfer.MAX_TRIES
    assert nothing_is_left(target)
    for part in (
        "video veo3:1",
        f"http://127.0.0.1:{host.server_port}/v/x.mp4 into",
        "incomplete",
        "Nothing was stored",
    ):
        assert part in str(caught.value)


def test_tries_that_do_are_not_counted(host, store, target, monkeypatch):
    monkeypatch.setattr(transfer, "FURTHER_BYTES", 5000)
    host.script = [Reply(cut=6000)] * 15
    store()
    assert target.read_bytes() == host.content
    assert len(host.asked) == 16


@pytest.mark.parametrize("weak", ['W/"abc"', None, "unquoted", ""])
def test_without_a_strong_validator_it_starts_over(host, store, target, weak):
    host.always = Reply(headers={"ETag": weak})
    host.script = [Reply(cut=30_000, headers={"ETag": weak})]
    store()
    assert target.read_bytes() == host.content
    assert ranges(host) == [None, None]


@pytest.mark.parametrize(("date", "is_resumed"), [("01:00:59", False), ("01:01:00", True)])
def test_a_modification_date_is_a_validator_once_it_is_old_enough(host, store, target, date, is_resumed):
    headers = {
        "ETag": None,
        "Last-Modified": "Sun, 22 Nov 2026 01:00:00 GMT",
        "Date": f"Sun, 22 Nov 2026 {date} GMT",
    }
    host.script = [Reply(cut=30_000, headers=headers)]
    host.always = Reply(headers=headers)
    store()
    assert target.read_bytes() == host.content
    assert host.asked[1][1].get("If-Range") == ("Sun, 22 Nov 2026 01:00:00 GMT" if is_resumed else None)


# --- never mixed -----------------------------------------------------------------------------------------------------


def test_an_etag_that_changes_between_parts_starts_over(host, store, target):
    other = video(seed=b"other")
    host.script = [Reply(cut=40_000, body=other, headers={"ETag": '"one"'})]
    host.always = Reply(headers={"ETag": '"two"'})
    store()
    assert target.read_bytes() == host.content
    assert len(host.asked) == 2


@pytest.mark.parametrize(
    "headers",
    [
        {"ETag": '"two"'},
        {"ETag": None},
        {"Content-Range": "bytes 40001-99999/100000"},
        {"Content-Range": "bytes 0-99999/100000"},
        {"Content-Range": "bytes 40000-99999/100001"},
        {"Content-Range": "bytes 40000-99999/*"},
        {"Content-Range": "bytes 40000-100000/100000"},
        {"Content-Range": "items 40000-99999/100000"},
        {"Content-Range": None},
    ],
)
def test_a_part_that_does_not_fit_for_certain_is_never_used(host, store, target, headers):
    other = video(seed=b"other")
    host.script = [
        Reply(cut=40_000, body=other, headers={"ETag": '"one"'}),
        # A server that pays no heed to If-Range.
        lambda request: Reply(
            status=206,
            body=host.content[40_000:],
            ranges=False,
            headers={"ETag": '"one"', "Content-Range": "bytes 40000-99999/100000"} | headers,
        ),
    ]
    store()
    assert target.read_bytes() == host.content
    assert ranges(host) == [None, "bytes=40000-", None]


def test_a_part_from_another_place_is_never_used(host, store, target):
    base = f"http://127.0.0.1:{host.server_port}"
    same = {"ETag": '"same"'}
    host.script = [
        redirect(f"{base}/mirror-1/x.mp4"),
        Reply(cut=40_000, body=video(seed=b"other"), headers=same),
        redirect(f"{base}/mirror-2/x.mp4"),
        Reply(headers=same),
        redirect(f"{base}/mirror-2/x.mp4"),
        Reply(headers=same),
    ]
    store()
    assert target.read_bytes() == host.content
    assert [bool(wanted) for wanted in ranges(host)] == [False, False, True, True, False, False]


def test_a_part_from_the_same_place_by_another_signature_is_used(host, store, target):
    base = f"http://127.0.0.1:{host.server_port}"
    host.script = [
        redirect(f"{base}/x.mp4?sig=1"),
        Reply(cut=40_000),
        redirect(f"{base}/x.mp4?sig=2"),
    ]
    store()
    assert target.read_bytes() == host.content
    assert ranges(host) == [None, None, "bytes=40000-", "bytes=40000-"]


def test_unrequested_part_is_refused(host, store, target):
    host.always = Reply(status=206, headers={"Content-Range": "bytes 0-99999/100000"})
    with pytest.raises(VeoDownloadError, match="HTTP 206"):
        store()
    assert nothing_is_left(target)


def test_a_range_that_can_not_be_satisfied_starts_over(host, store, target):
    host.script = [Reply(cut=40_000), Reply(status=416, body=b"")]
    store()
    assert target.read_bytes() == host.content
    assert ranges(host) == [None, "bytes=40000-", None]


# --- statuses --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [408, 425, 429, 500, 502, 503, 504, 204])
def test_host_that_is_unavailable_is_retried(host, store, target, status):
    host.script = [Reply(status=status, body=b"")] * 2
    store()
    assert target.read_bytes() == host.content
    assert len(host.asked) == 3


def test_host_says_when_to_retry(host, store, target):
    host.script = [Reply(status=503, body=b"", headers={"Retry-After": "0.5"})]
    started = time.monotonic()
    store()
    assert 0.5 <= time.monotonic() - started < 30


def test_retry_after_beyond_the_timeout_ends_it_at_once(host, store, target):
    host.always = Reply(status=429, body=b"", headers={"Retry-After": "100"})
    with pytest.raises(VeoDownloadError, match="HTTP 429") as caught:
        store(timeout=50)
    assert (caught.value.status_code, caught.value.retry_after) == (429, 100)
    assert len(host.asked) == 1


@pytest.mark.parametrize("status", [400, 405, 451, 300])
def test_another_status_ends_it(host, store, target, status):
    host.always = Reply(status=status, body=b"no")
    with pytest.raises(VeoDownloadError, match=f"HTTP {status}") as caught:
        store()
    assert not caught.value.final
    assert len(host.asked) == 1
    assert nothing_is_left(target)


@pytest.mark.parametrize("status", [401, 403, 404, 410])
def test_expired_url_is_requested_again(host, store, target, status):
    fresh = f"http://127.0.0.1:{host.server_port}/fresh.mp4?sig=2"
    host.script = [Reply(status=status, body=b"<Error><Code>ExpiredToken</Code></Error>")]
    store(fresh_url=lambda: fresh)
    assert target.read_bytes() == host.content
    assert [path for path, _ in host.asked] == [
        "/v/x.mp4?X-Signature=signature-4f1d0c9ab77e5532&v=1",
        "/fresh.mp4?sig=2",
    ]


def test_download_continues_with_a_fresh_url_if_one_expires_halfway(host, store, target):
    host.script = [Reply(cut=40_000), Reply(status=403, body=b"")]
    store(fresh_url=lambda: host.url.replace("v=1", "v=2"))
    assert target.read_bytes() == host.content
    assert ranges(host) == [None, "bytes=40000-", "bytes=40000-"]


def test_url_that_is_always_expired_is_requested_at_most_twice(host, store, target):
    host.always = Reply(status=403, body=b"")
    asked = []
    with pytest.raises(VeoDownloadError, match="has expired") as caught:
        store(fresh_url=lambda: asked.append(1) or host.url)
    assert len(asked) == 2
    assert len(host.asked) == 3
    assert caught.value.status_code == 403
    assert not caught.value.final
    assert nothing_is_left(target)


def test_an_expired_url_without_a_fresh_one_says_what_to_do(host, store):
    host.always = Reply(status=404, body=b"")
    with pytest.raises(VeoDownloadError, match="Give the video's veo_task_id"):
        store()
    assert len(host.asked) == 1


def test_a_page_in_place_of_a_file_may_be_an_expired_url(host, store, target):
    host.script = [Reply(body=b"<html>Sign in again</html>")]
    asked = []
    store(fresh_url=lambda: asked.append(1) or host.url)
    assert target.read_bytes() == host.content
    assert asked == [1]


def test_error_with_a_fresh_url_is_reported_as_it_is(host, store, target):
    def gone():
        raise VeoNotFoundError("the relay doesn't know it")

    host.always = Reply(status=404, body=b"")
    with pytest.raises(VeoNotFoundError):
        store(fresh_url=gone)
    assert nothing_is_left(target)


# --- time ------------------------------------------------------------------------------------------------------------


def test_unreachable_host_is_retried_and_no_secret_is_shown(store, target, log):
    with pytest.raises(VeoDownloadError, match="got no answer: ConnectionError"):
        store("http://127.0.0.1:9/x.mp4?X-Signature=signature-4f1d0c9ab77e5532")
    assert len([line for line in log.lines if "Retrying in" in line]) == transfer.MAX_TRIES - 1
    assert nothing_is_left(target)


def test_a_file_that_drips_ends_with_the_timeout(host, store, target):
    def drip(request):
        request.send_response(200)
        request.send_header("Content-Length", "100000")
        request.end_headers()
        for at in range(0, 100_000, 100):
            request.wfile.write(host.content[at : at + 100])
            time.sleep(0.1)
        raise OSError

    host.script = [drip]
    started = time.monotonic()
    with pytest.raises(VeoDownloadError, match="of 100000 bytes after 3 s") as caught:
        store(timeout=3)
    assert time.monotonic() - started < 50  # of the 100 s that it drips
    assert not caught.value.final
    assert nothing_is_left(target)


def test_a_host_that_says_nothing_is_not_waited_for_longer_than_the_timeout(host, store, target):
    def silent(request):
        time.sleep(10)
        raise OSError

    host.always = silent
    started = time.monotonic()
    with pytest.raises(VeoDownloadError, match="timed out"):
        store(timeout=0.4)
    assert time.monotonic() - started < 9


@pytest.mark.parametrize("encrypted", [False, True])
def test_headers_that_drip_end_with_the_timeout(host, store, settings, target, tls_host, encrypted):
    """Each byte comes in time, and the answer never begins."""
    tls, certificate = tls_host

    def drip(request):
        for _ in range(500):
            request.wfile.write(b"H")
            time.sleep(0.02)
        raise OSError

    host.always = tls.always = drip
    url = f"https://localhost:{tls.server_port}/x.mp4" if encrypted else host.url
    started = time.monotonic()
    with pytest.raises(VeoDownloadError, match="got no answer"):
        store(url, timeout=0.5, settings=dataclasses.replace(settings, ca_bundle=str(certificate)))
    assert time.monotonic() - started < 9
    assert nothing_is_left(target)


@pytest.mark.parametrize("headers", [{"Content-Length": "9" * 5000}, {"Content-Length": "-5"}, {"Content-Length": "x"}])
def test_nonsensical_headers_are_ignored(host, store, target, headers):
    host.script = [Reply(headers=headers)]
    store()
    assert target.read_bytes() == host.content


def test_relay_that_no_longer_names_a_url_is_reported(host, store, target):
    host.always = Reply(status=404, body=b"")
    with pytest.raises(VeoDownloadError, match="returned no new URL"):
        store(fresh_url=lambda: None)
    assert nothing_is_left(target)


def test_short_query_is_not_shown_either(store):
    with pytest.raises(VeoDownloadError) as caught:
        store("http://127.0.0.1:9/x.mp4?sig=abc123")
    assert "abc123" not in str(caught.value)
