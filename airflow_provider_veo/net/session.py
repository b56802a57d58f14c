"""Shared by all that use requests: the hook and the downloads."""

from __future__ import annotations

import requests
import urllib3

TRANSPORT_ERRORS = (requests.RequestException, urllib3.exceptions.HTTPError, OSError)
"""Raised when there is no answer, or only a part of one."""


class Session(requests.Session):
    """A session that ignores redirects: requests would read a redirect's whole body even without following it."""

    def get_redirect_target(self, resp: requests.Response) -> None:
        """Return ``None`` always."""
        return


class Bearer(requests.auth.AuthBase):
    """
    Adds the key to a request, or makes sure that it has none. The key is not in its ``repr``.

    Every request needs one: without an auth object, requests uses ``~/.netrc``.
    """

    def __init__(self, api_key: str | None) -> None:
        self._api_key = api_key

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:  # noqa: D102  requests' own
        request.headers.pop("Authorization", None)
        if self._api_key:
            request.headers["Authorization"] = f"Bearer {self._api_key}"
        return request
