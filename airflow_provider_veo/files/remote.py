"""Storage operations through fsspec, beyond reading and writing a file."""

from __future__ import annotations

import os
import stat
from importlib import import_module
from typing import IO, TYPE_CHECKING, Any, cast

from airflow_provider_veo.files.local import is_local

if TYPE_CHECKING:
    from collections.abc import Sequence

    from airflow.providers.common.compat.sdk import ObjectStoragePath

    from airflow_provider_veo.log import Log

_READ_AHEAD_BYTES = 1024 * 1024
_WITH_UPLOADS = frozenset({"s3", "s3a", "gs", "gcs", "abfs", "abfss", "az"})
"""fsspec protocols of storages in which an object appears only when its upload is completed."""


def has_uploads(fs: Any) -> bool:
    """Whether a file appears in this storage only when its upload is completed."""
    return not _WITH_UPLOADS.isdisjoint(_protocols(fs))


def content_type_option(fs: Any, content_type: str | None) -> dict[str, Any]:
    """Return the argument of ``open`` that sets the content type, which browsers need to play a file; may be empty."""
    protocols = set(_protocols(fs))
    if content_type is None:
        return {}
    if protocols & {"s3", "s3a"}:
        return {"ContentType": content_type}
    if protocols & {"gs", "gcs"}:
        return {"content_type": content_type}
    if protocols & {"abfs", "abfss", "az"}:
        # A dependency of adlfs, and needed only here.
        settings = import_module("azure.storage.blob").ContentSettings(content_type=content_type)
        return {"content_settings": settings}
    return {}


def _protocols(fs: Any) -> tuple[str, ...]:
    return (fs.protocol,) if isinstance(fs.protocol, str) else tuple(fs.protocol)


def uri(path: ObjectStoragePath) -> str:
    """Return the URI of a file, without the id of a connection."""
    if is_local(path):
        return f"file://{os.path.abspath(path.path)}"
    scheme, separator, rest = str(path).partition("://")
    host, slash, key = rest.partition("/")
    return f"{scheme}{separator}{host.rpartition('@')[2]}{slash}{key}"


def size_of(path: ObjectStoragePath) -> int | None:
    """Return the size of a file; ``None`` if it certainly does not exist."""
    forget_listings(path)
    try:
        info = path.fs.info(path.path)
    except FileNotFoundError:
        return None
    if info.get("type") == "directory":
        raise IsADirectoryError(f"{path} is a folder")
    return int(info["size"])


def open_for_reading(path: ObjectStoragePath) -> IO[bytes]:
    """
    Open a file for reading and seeking, with a bounded buffer.

    :raises OSError: a local path is not a regular file. A FIFO would block until something writes to it.
    """
    if not is_local(path):
        options = {"block_size": _READ_AHEAD_BYTES, "cache_type": "readahead"}
        return cast("IO[bytes]", path.fs.open(path.path, "rb", **options))
    file = open(path.path, "rb", opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK))  # noqa: SIM115
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        raise OSError(f"{path} is not a regular file")
    return file


def forget_listings(path: ObjectStoragePath) -> None:
    """Clear cached listings, so that the next request goes to the storage."""
    path.fs.invalidate_cache(path.fs._parent(path.path))
    path.fs.invalidate_cache(path.path)


def unfinished_uploads(path: ObjectStoragePath, log: Log) -> list[str]:
    """Return the ids of this file's unfinished uploads on S3; none for other storages."""
    fs = path.fs
    if not hasattr(fs, "call_s3"):
        return []
    try:
        bucket, key, _ = fs.split_path(path.path)
        listed = fs.call_s3("list_multipart_uploads", Bucket=bucket, Prefix=key)
        return [upload["UploadId"] for upload in listed.get("Uploads") or () if upload["Key"] == key]
    except Exception as error:
        # Not everyone who may write may list. Then the bucket's lifecycle rule has to clean up.
        log.debug("Could not list unfinished uploads of %s: %s", path, error)
        return []


def abort_uploads(path: ObjectStoragePath, upload_ids: Sequence[str], log: Log) -> None:
    """
    Abort the uploads of processes that were killed.

    A process that is still alive finds its upload gone and the file stored.
    """
    for upload_id in upload_ids:
        try:
            bucket, key, _ = path.fs.split_path(path.path)
            path.fs.call_s3("abort_multipart_upload", Bucket=bucket, Key=key, UploadId=upload_id)
            log.info("Aborted an upload of %s that another process had started", path)
        except Exception as error:  # it has ended in the meantime, or aborting is not permitted
            log.debug("Could not abort an unfinished upload of %s: %s", path, error)
