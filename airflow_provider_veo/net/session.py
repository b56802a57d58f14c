"""What everyone who talks HTTP with requests needs: to the relay, and to the hosts of videos."""

from __future__ import annotations

import requests
import urllib3

TRANSPORT_ERRORS = (requests.RequestException, urllib3.exceptions.HTTPError, OSError)
"""What comes in place of an answer, or of the rest of one."""


class Session(requests.Session):
    """A session that sees no redirects: even where it doesn't follow one, requests would read all of its body."""

    def get_redirect_target(self, resp: requests.Response) -> None:
        """Return none, whatever the answer says."""
        return


class Bearer(requests.auth.AuthBase):
    """
    Adds the key to a request at the last moment, or makes sure that there is none. It is in no representation of this.

    A request needs one in any case: without an auth object requests takes the word of ``~/.netrc``.
    """

    def __init__(self, api_key: str | None) -> None:
        self._api_key = api_key

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:  # noqa: D102  requests' own
        request.headers.pop("Authorization", None)
        if self._api_key:
            request.headers["Authorization"] = f"Bearer {self._api_key}"
        return request
