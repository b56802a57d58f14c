"""One sandbox for all of these tests, reset before each test."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import requests

from airflow_provider_veo import sandbox as sandbox_package

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

BODY = {
    "model": "veo3-fast",
    "prompt": "a cow takes off",
    "enhance_prompt": False,
    "enable_upsample": False,
    "aspect_ratio": "16:9",
}


class Client:
    """A plain client of the relay that uses none of the project's own code."""

    def __init__(self, sandbox: sandbox_package.Sandbox) -> None:
        self.sandbox = sandbox
        self.session = requests.Session()
        self.session.trust_env = False

    @property
    def headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.sandbox.api_key}", "Accept": "application/json"}

    def send(self, method: str, path: str, **options: Any) -> requests.Response:
        headers = {**self.headers, **options.pop("headers", {})}
        options.setdefault("timeout", 10)
        options.setdefault("allow_redirects", False)
        url = path if path.startswith("http") else self.sandbox.url + path
        return self.session.request(method, url, headers=headers, **options)

    def create(self, **changes: Any) -> requests.Response:
        """Send a valid create with these changes. A field that is None is left out."""
        options = {name: changes.pop(name) for name in ("timeout", "headers") if name in changes}
        body = {name: value for name, value in {**BODY, **changes}.items() if value is not None}
        return self.send("POST", "/v1/video/create", json=body, **options)

    def query(self, video_id: str | int, **options: Any) -> requests.Response:
        return self.send("GET", "/v1/video/query", params={"id": video_id}, **options)

    def accepted(self, **changes: Any) -> str:
        """Create a video and return its id."""
        answer = self.create(**changes)
        assert answer.status_code == 200, answer.text
        return str(answer.json()["id"])

    def video_url(self, **changes: Any) -> str:
        """Create a video that is ready at once and return its URL."""
        self.sandbox.configure(generation_seconds=0)
        return str(self.query(self.accepted(**changes)).json()["video_url"])


@pytest.fixture(scope="session")
def _sandbox() -> Iterator[sandbox_package.Sandbox]:
    with sandbox_package.running(generation_seconds=0, video_seconds=0.5) as sandbox:
        yield sandbox
        assert "Traceback" not in sandbox.output(), sandbox.output()
        assert "ASGI" not in sandbox.output(), sandbox.output()


@pytest.fixture
def sandbox(_sandbox: sandbox_package.Sandbox) -> sandbox_package.Sandbox:
    _sandbox.reset()
    return _sandbox


@pytest.fixture
def client(sandbox: sandbox_package.Sandbox) -> Iterator[Client]:
    client = Client(sandbox)
    with client.session:
        yield client


@pytest.fixture
def set_faults(sandbox: sandbox_package.Sandbox) -> Callable[..., None]:
    return sandbox.set_faults
