"""Store a video: :func:`store_video`.

A file under its final name is complete and equals the host's file, so other programs can use it as soon as it exists.
"""

from __future__ import annotations

import contextlib
import time
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal

from airflow_provider_veo.files import remote
from airflow_provider_veo.files.sinks import BusyError, Sink, open_sink
from airflow_provider_veo.protocol import VeoDownloadError, VeoDownloadRefusedError, VeoError, envelope
from airflow_provider_veo.protocol.text import first_line
from airflow_provider_veo.storage import DEFAULT_MAX_BYTES, DEFAULT_TIMEOUT
from airflow_provider_veo.storage.comparison import Comparison, DifferentError, SameError
from airflow_provider_veo.storage.order import Order, Received
from airflow_provider_veo.storage.picture import Picture, probe
from airflow_provider_veo.storage.poster import store_poster
from airflow_provider_veo.storage.transfer import Transfer
from airflow_provider_veo.storage.web import Web, shown

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from airflow.providers.common.compat.sdk import ObjectStoragePath

    from airflow_provider_veo.connection import VeoConnection
    from airflow_provider_veo.log import Log

Overwrite = Literal["never", "always"]


@dataclass(frozen=True)
class StoredVideo:
    """A stored file."""

    uri: str
    """Without the id of an Airflow connection."""
    bytes: int
    sha256: str
    """In hexadecimal digits."""
    content_type: str
    """``video/mp4``, ``video/quicktime`` or ``video/webm``, by the file's own bytes."""
    width: int | None = None
    """In pixels. This and the next two are ``None`` if the file's index does not give them."""
    height: int | None = None
    duration_seconds: float | None = None
    veo_task_id: str | None = None
    verified: bool = True
    """
    Whether the file's end is confirmed: by a length or checksum from the host, by the file's own structure, or by a
    second request. ``False``: everything that the host sent is stored, but that may not be the whole video.
    """
    poster: str | None = None
    """URI of a JPEG beside the file, as :attr:`uri`; ``None`` if it has none."""
    reused: bool = field(default=False, compare=False)
    """Whether the file existed, and nothing was written. Not among the facts, which are the same then."""

    def to_dict(self) -> dict[str, Any]:
        """Return the known facts as a JSON-serializable dict."""
        return {name: value for name, value in asdict(self).items() if value is not None and name != "reused"}


def store_video(
    url: str,
    destination: ObjectStoragePath,
    *,
    settings: VeoConnection,
    log: Log,
    veo_task_id: str | None = None,
    fresh_url: Callable[[], str | None] | None = None,
    overwrite: Overwrite = "never",
    max_bytes: int = DEFAULT_MAX_BYTES,
    timeout: float = DEFAULT_TIMEOUT,
) -> StoredVideo:
    """
    Fetch a video and store it, completely or not at all.

    The file is streamed, with a few megabytes in memory at most. A broken transfer is resumed if the host allows that,
    and otherwise restarted; it fails after five tries in a row without progress. The file must be an MP4, MOV or WebM
    by its own bytes, have the length and checksum that the host sends (if any), and be complete by its own structure.

    **Existing files.** With ``overwrite="never"``, a file under this name is compared with the host's: first by size,
    which downloads nothing; then by checksum, if the host sends one (``Repr-Digest``, ``Content-MD5``, Google's, an
    ETag that is the MD5); otherwise by its bytes, which are downloaded but not stored. The same file is reused. A
    different file is an error, and is kept. If the host no longer sends the video, a complete video file whose name
    contains the video's id is reused with a warning. ``overwrite="always"`` compares nothing.

    **Poster.** If PyAV is installed, a poster is stored beside the file, or the existing one of this video is reused;
    see :mod:`~airflow_provider_veo.storage.poster`. It never fails the download, and never replaces any other file.

    **Allowed sources.** See :class:`~airflow_provider_veo.storage.web.Web` and
    :class:`~airflow_provider_veo.net.addresses.Policy`: private addresses only if the connection allows them, and the
    API key only to the relay's own origin.

    :param url: of the video.
    :param destination: path of the file itself; see :func:`~airflow_provider_veo.storage.names.destination_for`.
    :param settings: the connection to the relay.
    :param log: the task's.
    :param veo_task_id: the relay's id, for the result and for messages.
    :param fresh_url: requests a new URL from the relay; called at most twice, if the URL is no longer valid.
    :param overwrite: ``"never"`` or ``"always"``.
    :param max_bytes: maximum size of the file.
    :param timeout: seconds in total.
    :raises VeoDownloadError: the video could not be fetched or stored now.
    :raises VeoDownloadRefusedError: it must not be fetched, is not a video, is too large, or another file exists.
    :raises VeoError: from ``fresh_url``.
    """
    if overwrite not in ("never", "always"):
        raise ValueError(f"overwrite: expected 'never' or 'always', got {overwrite!r}")
    order = Order(url, fresh_url, veo_task_id, str(destination), max_bytes, timeout, time.monotonic() + timeout)
    web = Web(settings, veo_task_id)
    try:
        return _Store(order, destination, web, log).store(may_replace=overwrite == "always")
    finally:
        web.close()


class _Store:
    """Stores one file."""

    def __init__(self, order: Order, path: ObjectStoragePath, web: Web, log: Log) -> None:
        self._order = order
        self._path = path
        self._web = web
        self._log = log

    def store(self, *, may_replace: bool) -> StoredVideo:
        if not may_replace and (there := self._reuse()):
            return there
        self._log.info("Storing %s from %s as %s", self._order.what, shown(self._order.url), self._path)
        with self._storing():
            sink = open_sink(self._path, self._order.deadline, self._log)
        try:
            # Another process may have stored it while this one waited for the lock.
            if not may_replace and (there := self._reuse()):
                return there
            received = self._fetch_into(sink)
            # Do not replace a file that was stored during the download.
            if not may_replace and (there := self._reuse()):
                return there
            return self._finish(sink, received)
        finally:
            sink.discard()

    def _finish(self, sink: Sink, received: Received) -> StoredVideo:
        with self._storing():
            sink.seal()
        # Probed before it gets its name, if it can be read by then; otherwise after.
        picture = probe(sink.open_sealed, received.container, self._log) if sink.sealed_is_readable else None
        with self._storing():
            sink.finish()
        picture = picture or self._probe(received)
        stored = self._result(received, picture)
        self._log.info("Stored %s: %d bytes, SHA-256 %s", stored.uri, stored.bytes, stored.sha256)
        return stored

    def _reuse(self) -> StoredVideo | None:
        """Return the existing file if it is this video; ``None`` if there is none."""
        with self._storing():
            size = remote.size_of(self._path)
        if size is None:
            return None
        self._log.info("%s exists: comparing it with %s", self._path, shown(self._order.url))
        with self._storing():
            file = remote.open_for_reading(self._path)
        with contextlib.closing(file):
            received = self._compare(Comparison(file, size), size)
        if received is None:
            raise self._another_file("it is not a complete video")
        self._log.info("%s is already this video; reusing it", self._path)
        return replace(self._result(received, self._probe(received)), reused=True)

    def _compare(self, comparison: Comparison, size: int) -> Received | None:
        try:
            received = self._fetch_into(comparison)
            if received.size == size:
                return received
            raise DifferentError(f"it has {size} bytes, and the video has {received.size}")
        except SameError:  # the host's checksum is that of the whole file
            with self._storing():
                same = comparison.inspect()
            return same and replace(same, verified=True)
        except DifferentError as different:
            raise self._another_file(str(different)) from None
        except VeoDownloadError as error:
            if not self._is_named_for_it():
                raise
            self._log.warning(
                "Reusing %s because its name contains the video's id; it can't be compared with the host's file. %s",
                self._path,
                first_line(error),
            )
        with self._storing():
            return comparison.inspect()

    def _fetch_into(self, sink: Sink) -> Received:
        return Transfer(self._order, self._web, sink, self._storing, self._log).run()

    def _probe(self, received: Received) -> Picture:
        return probe(lambda: remote.open_for_reading(self._path), received.container, self._log)

    def _is_named_for_it(self) -> bool:
        from airflow_provider_veo.storage.names import video_name

        return bool(self._order.veo_task_id) and video_name(str(self._order.veo_task_id)) in self._path.name

    def _result(self, received: Received, picture: Picture) -> StoredVideo:
        if not received.verified:
            self._log.warning(
                "%s is unverified and may be cut off: the host sent no length, and neither the file's structure nor a "
                "second request shows where it ends. Play it to the end before you rely on it.",
                self._path,
            )
        return StoredVideo(
            uri=remote.uri(self._path),
            bytes=received.size,
            sha256=received.sha256,
            content_type=received.container.content_type,
            width=picture.width,
            height=picture.height,
            duration_seconds=picture.duration_seconds,
            veo_task_id=self._order.veo_task_id,
            verified=received.verified,
            poster=self._poster(received, picture),
        )

    def _poster(self, received: Received, picture: Picture) -> str | None:
        if picture.width is None:
            return None
        content_type = received.container.content_type
        return store_poster(self._path, received.size, content_type, received.sha256, self._log)

    def _another_file(self, difference: str) -> VeoError:
        return VeoDownloadRefusedError(
            f"Tried to store {self._order.what} from {shown(self._order.url)} as {self._path}, but another file exists "
            f"there: {difference}.\nNothing was stored, and the existing file was not changed. Choose another "
            "destination, remove the file, or set overwrite to 'always'.",
            veo_task_id=self._order.veo_task_id,
        )

    @contextlib.contextmanager
    def _storing(self) -> Iterator[None]:
        """Turn errors of the storage into a ``VeoDownloadError`` that names the storage."""
        try:
            yield
        except (VeoError, SameError, DifferentError):
            raise
        except BusyError:
            message = f"another process is storing the same file and did not finish within {self._order.timeout:g} s."
            failure = self._not_stored(message, "Wait until it finishes, or stop it.")
        except Exception as error:
            text = envelope.excerpt(f"{type(error).__name__}: {error}", self._web.secrets)
            failure = self._not_stored(text, "Check the storage's free space and permissions.")
        else:
            return
        raise failure from None

    def _not_stored(self, came: str, advice: str) -> VeoDownloadError:
        return VeoDownloadError(
            f"Tried to store {self._order.what} as {self._path}, and could not: {came}\n"
            f"No partial file is left under that name. {advice}",
            veo_task_id=self._order.veo_task_id,
        )
