"""Store a video: :func:`store_video`, the one way from a URL to a file.

A file under its final name is whole, and is what the host of the URL held: whoever finds it may use it.
"""

from __future__ import annotations

import contextlib
import time
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

from airflow_provider_veo.files import remote
from airflow_provider_veo.files.sinks import BusyError, Sink, open_sink
from airflow_provider_veo.protocol import VeoDownloadError, VeoDownloadRefusedError, VeoError, envelope
from airflow_provider_veo.protocol.text import first_line
from airflow_provider_veo.storage import DEFAULT_MAX_BYTES, DEFAULT_TIMEOUT
from airflow_provider_veo.storage.comparison import Comparison, DifferentError, SameError
from airflow_provider_veo.storage.order import Order, Received
from airflow_provider_veo.storage.picture import Picture, probe
from airflow_provider_veo.storage.transfer import Transfer
from airflow_provider_veo.storage.web import Web, shown

if TYPE_CHECKING:
    import logging
    from collections.abc import Callable, Iterator

    from airflow.providers.common.compat.sdk import ObjectStoragePath

    from airflow_provider_veo.connection import VeoConnection

Overwrite = Literal["never", "always"]


@dataclass(frozen=True)
class StoredVideo:
    """A file in a storage."""

    uri: str
    """Where it is, without the name of an Airflow connection."""
    bytes: int
    sha256: str
    """In hexadecimal digits."""
    content_type: str
    """``video/mp4``, ``video/quicktime`` or ``video/webm``: what its own bytes say."""
    width: int | None = None
    """In pixels. This and the next two are ``None`` where the file's index does not say."""
    height: int | None = None
    duration_seconds: float | None = None
    veo_task_id: str | None = None
    verified: bool = True
    """
    Whether the file's end is confirmed: by a length or checksum from the host, by the file's own structure, or by a
    second request. ``False``: everything that the host sent is stored, and that may not be the whole video.
    """

    def to_dict(self) -> dict[str, Any]:
        """Return what is known, as JSON knows it."""
        return {name: value for name, value in asdict(self).items() if value is not None}


def store_video(
    url: str,
    destination: ObjectStoragePath,
    *,
    settings: VeoConnection,
    log: logging.Logger,
    veo_task_id: str | None = None,
    fresh_url: Callable[[], str | None] | None = None,
    overwrite: Overwrite = "never",
    max_bytes: int = DEFAULT_MAX_BYTES,
    timeout: float = DEFAULT_TIMEOUT,
) -> StoredVideo:
    """
    Fetch a video and store it, whole or not at all.

    It is streamed, a few megabytes of it in memory at most. A transfer that breaks is resumed where the host allows
    it, and begun anew elsewhere; five tries that bring it no further are enough. The file must be an MP4, MOV or WebM
    by its own bytes, as long as the host says, complete by its own structure, and have the checksum that the host
    tells, if it tells one.

    **What is there already.** With ``overwrite="never"`` a file under this name is compared with what the host holds
    now: first by its size, which downloads nothing; then by a checksum, if the host tells one (``Repr-Digest``,
    ``Content-MD5``, Google's, an ETag that is the MD5); else by its bytes, which are downloaded and not stored. The
    same file is reused. Another one is an error, and stays. If the host does not send the video any more, a whole video
    file whose name has the video's id in it is reused with a warning. ``overwrite="always"`` compares nothing.

    **Where it is fetched from.** See :class:`~airflow_provider_veo.storage.web.Web` and
    :class:`~airflow_provider_veo.net.addresses.Policy`: no private addresses unless the connection allows them, and
    no API key but to the relay's own origin.

    :param url: of the video.
    :param destination: path of the file itself; see :func:`~airflow_provider_veo.storage.names.destination_for`.
    :param settings: the connection to the relay.
    :param log: the task's.
    :param veo_task_id: the id that the relay gave, for the result and for messages.
    :param fresh_url: asks the relay for a new URL; called, at most twice, where the URL no longer holds.
    :param overwrite: ``"never"`` or ``"always"``.
    :param max_bytes: the largest file that is stored.
    :param timeout: seconds in all.
    :raises VeoDownloadError: it could not be had or stored now.
    :raises VeoDownloadRefusedError: it must not be fetched, is no video, is too large, or another file is there.
    :raises VeoError: of ``fresh_url``.
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
    """One file on its way."""

    def __init__(self, order: Order, path: ObjectStoragePath, web: Web, log: logging.Logger) -> None:
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
            # Another process may have stored it while this one waited for its turn.
            if not may_replace and (there := self._reuse()):
                return there
            received = self._fetch_into(sink)
            # Nor may it take the place of a file that came meanwhile.
            if not may_replace and (there := self._reuse()):
                return there
            return self._finish(sink, received)
        finally:
            sink.discard()

    def _finish(self, sink: Sink, received: Received) -> StoredVideo:
        with self._storing():
            sink.seal()
        # While it has no name nobody waits for it; what can only be read under its name is looked at after.
        picture = probe(sink.open_sealed, received.container, self._log) if sink.sealed_is_readable else None
        with self._storing():
            sink.finish()
        picture = picture or self._probe(received)
        stored = self._result(received, picture)
        self._log.info("Stored %s: %d bytes, SHA-256 %s", stored.uri, stored.bytes, stored.sha256)
        return stored

    def _reuse(self) -> StoredVideo | None:
        """Return the file that is there, if it is this video; ``None`` where there is none."""
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
            raise self._another_file("it is no whole video")
        self._log.info("%s is the file that is asked for; it is reused", self._path)
        return self._result(received, self._probe(received))

    def _compare(self, comparison: Comparison, size: int) -> Received | None:
        try:
            received = self._fetch_into(comparison)
            if received.size == size:
                return received
            raise DifferentError(f"it has {size} bytes, and the video has {received.size}")
        except SameError:  # by the host's checksum, which is of the whole file
            with self._storing():
                same = comparison.looked_at()
            return same and replace(same, verified=True)
        except DifferentError as different:
            raise self._another_file(str(different)) from None
        except VeoDownloadError as error:
            if not self._is_named_for_it():
                raise
            self._log.warning("Reusing %s for its name: it can't be compared. %s", self._path, first_line(error))
        with self._storing():
            return comparison.looked_at()

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
                "%s is unverified and may be cut off: the host gave no length, and neither the file's structure nor a "
                "second request tells where it ends. Play it to the end before you rely on it.",
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
        )

    def _another_file(self, difference: str) -> VeoError:
        return VeoDownloadRefusedError(
            f"Tried to store {self._order.what} from {shown(self._order.url)} as {self._path}, and another file is "
            f"there: {difference}.\nNothing was stored, and that file is as it was. Choose another destination, remove "
            "the file, or set overwrite to 'always'.",
            veo_task_id=self._order.veo_task_id,
        )

    @contextlib.contextmanager
    def _storing(self) -> Iterator[None]:
        """Tell a storage that fails from a download that does."""
        try:
            yield
        except (VeoError, SameError, DifferentError):
            raise
        except BusyError:
            message = f"another process is storing that very file, and is not ready after {self._order.timeout:g} s"
            failure = self._not_stored(message, "Let it finish, or end it.")
        except Exception as error:
            text = envelope.excerpt(f"{type(error).__name__}: {error}", self._web.secrets)
            failure = self._not_stored(text, "The storage does not take the file: check its space and permissions.")
        else:
            return
        raise failure from None

    def _not_stored(self, came: str, meaning: str) -> VeoDownloadError:
        return VeoDownloadError(
            f"Tried to store {self._order.what} as {self._path}, and could not: {came}\n"
            f"{meaning} Nothing half-written is left under that name.",
            veo_task_id=self._order.veo_task_id,
        )
