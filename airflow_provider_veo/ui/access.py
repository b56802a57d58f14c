"""
Which recorded paths the page may read.

Anyone who may edit XComs of a DAG controls what is recorded. So a path is read only below a root that the deployment
manager has set in ``[veo] page_roots``: with the same scheme, connection and bucket, compared by whole path components.
Paths are taken literally, as ``ObjectStoragePath`` takes them. Anything that some storage could resolve to another path
(``..``, percent-encoded or not, queries, chained protocols) is refused.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import unquote

from airflow_provider_veo.storage.names import poster_name, safe_name

if TYPE_CHECKING:
    from collections.abc import Iterable

LOCAL = "file"
DAG_ID = "{dag_id}"
_MAX_CHARACTERS = 4096
_URI = re.compile(r"(?:([A-Za-z][A-Za-z0-9+.-]*):(?://([^/]*))?)?(/.*)?")
_FORBIDDEN = re.compile(r"[\x00-\x1f\x7f\\?\ud800-\udfff]|::")
_MAX_DECODING = 4


class Location(NamedTuple):
    """
    Where a URI points.

    :param scheme: in lower case; ``file`` for local paths.
    :param conn_id: the Airflow connection in the URI; ``None`` if it has none.
    :param bucket: empty for local paths.
    :param parts: components of the path.
    """

    scheme: str
    conn_id: str | None
    bucket: str
    parts: tuple[str, ...]

    @classmethod
    def of(cls, uri: object) -> Location:
        """
        Read a URI, or an absolute local path.

        :raises ValueError: it is neither, or could be resolved to another path.
        """
        scheme, authority, path = _split(uri)
        conn_id, at, bucket = authority.rpartition("@")
        if at and not conn_id:
            raise ValueError("the id of the connection is missing before '@'")
        parts = _local_parts(bucket, path) if scheme == LOCAL else _object_parts(bucket, path)
        if any(_leads_elsewhere(part) for part in (bucket, *parts)):
            raise ValueError("expected a path without '.' and '..', and without encoded separators")
        return cls(scheme, conn_id or None, bucket, tuple(parts))

    @property
    def uri(self) -> str:
        """The URI for ``ObjectStoragePath``."""
        conn_id = f"{self.conn_id}@" if self.conn_id else ""
        return f"{self.scheme}://{conn_id}{'/'.join((self.bucket, *self.parts))}"


def _split(uri: object) -> tuple[str, str, str]:
    """Return scheme, authority and path of a URI."""
    if not isinstance(uri, str) or not 0 < len(uri) <= _MAX_CHARACTERS:
        raise ValueError(f"expected a URI of at most {_MAX_CHARACTERS} characters")
    match = _URI.fullmatch(uri)
    if match is None or _FORBIDDEN.search(uri):
        raise ValueError("expected a URI without query, backslashes, control characters and '::'")
    scheme, authority, path = (group or "" for group in match.groups())
    scheme = scheme.lower()
    return LOCAL if scheme in ("", "local") else scheme, authority, path


def _local_parts(host: str, path: str) -> list[str]:
    if host or not path:
        raise ValueError("expected an absolute path, such as file:///videos")
    return [part for part in path.split("/") if part not in ("", ".")]


def _object_parts(bucket: str, path: str) -> list[str]:
    if not bucket:
        raise ValueError("expected the name of a bucket or host after '://'")
    return path.rstrip("/").split("/")[1:]


@dataclass(frozen=True)
class Root:
    """
    An entry of ``[veo] page_roots``: everything below it may be read.

    :param location: of the root. A component of its path may contain ``{dag_id}``.
    """

    location: Location

    @classmethod
    def of(cls, entry: str) -> Root:
        """
        Read an entry.

        :raises ValueError: it is not a URI, or contains braces other than ``{dag_id}``.
        """
        location = Location.of(entry)
        rest = "".join(
            (location.conn_id or "", location.bucket, *(each.replace(DAG_ID, "") for each in location.parts))
        )
        if set(rest) & set("{}"):
            raise ValueError("expected no braces except {dag_id} in the path")
        return cls(location)

    @property
    def fixed(self) -> tuple[str, ...]:
        """The components that are the same for all DAGs: those before the first with ``{dag_id}``."""
        parts = self.location.parts
        return parts[: next((index for index, part in enumerate(parts) if DAG_ID in part), len(parts))]

    def parts(self, dag_id: str) -> tuple[str, ...]:
        """Return the path components for a DAG. Its id stays within one component, whatever it contains."""
        return tuple(part.replace(DAG_ID, safe_name(dag_id)) for part in self.location.parts)

    def admits(self, location: Location, dag_id: str) -> bool:
        """Whether a location is this root or below it."""
        parts = self.parts(dag_id)
        return self.location[:3] == location[:3] and location.parts[: len(parts)] == parts


@dataclass(frozen=True)
class Admitted:
    """
    A path that may be read.

    :param root: the root above it.
    :param dag_id: the DAG whose XCom contains it.
    :param location: the path.
    """

    root: Root
    dag_id: str
    location: Location

    def joined(self, *names: str) -> Admitted:
        """
        Return a path below this one.

        :raises ValueError: a name is not a single component.
        """
        if any(not name or "/" in name or _FORBIDDEN.search(name) or _leads_elsewhere(name) for name in names):
            raise ValueError(f"expected names of files, got {names!r}")
        return Admitted(self.root, self.dag_id, self.location._replace(parts=(*self.location.parts, *names)))

    @property
    def poster(self) -> Admitted | None:
        """The path of the poster of the video that has this path; ``None`` if it can't have one."""
        *folders, name = self.location.parts or ("",)
        location = self.location._replace(parts=(*folders, poster_name(name)))
        return Admitted(self.root, self.dag_id, location) if self.root.admits(location, self.dag_id) else None


def admit(recorded: object, dag_id: str, roots: Iterable[Root]) -> Admitted | None:
    """
    Decide whether a recorded path may be read, without reading anything.

    :param recorded: the value in an XCom.
    :param dag_id: the DAG of the XCom.
    :param roots: the roots below which the page may read.
    """
    try:
        location = Location.of(recorded)
    except ValueError:
        return None
    return next((Admitted(root, dag_id, location) for root in roots if root.admits(location, dag_id)), None)


def _leads_elsewhere(part: str) -> bool:
    """Whether a storage could decode or resolve a component to something else."""
    for _ in range(_MAX_DECODING):
        if part in (".", "..") or set(part) & set("/\\\x00"):
            return True
        part, before = unquote(part), part
        if part == before:
            return False
    return True
