"""
One submit through the hook, against a bare ``requests`` session posting the same bytes with the same headers.

Both go to the same sandbox, in a process of its own; that the relay gets the same request from both is checked before
the clock starts. Two calls that are compared take turns, and so does who goes first. Nothing is taken off the hook's
time: it reads the connection, validates, sends, reads and understands the answer, and would send again; the bare post
knows the address and the key, and looks at nothing. Closing is outside the clock for both.

Three pairs for each form of the API.

*Kept* reuses hook and session, connection included: what is left is the hook's work for each request, and
that is what the target is for. *New each time* is what a task does: the hook then looks its connection up in Airflow,
where the bare session is handed the key. *With the connection's lookup* lets the bare session, too, ask Airflow for
the key, as a DAG's author has to.
"""

from __future__ import annotations

import json
import os
import time
from typing import TYPE_CHECKING, Any

import requests
from airflow import __version__ as airflow_version
from airflow.providers.common.compat.sdk import BaseHook

from airflow_provider_veo import __version__, sandbox
from airflow_provider_veo.hooks import VeoHook
from airflow_provider_veo.protocol import payload
from airflow_provider_veo.protocol.forms import APIS
from bench import show
from bench.payload import ARGUMENTS

if TYPE_CHECKING:
    from collections.abc import Callable

    from airflow_provider_veo.sandbox import Sandbox

NEW = "new each time"
LOOKED_UP = "with the connection's lookup"
KEPT = "kept"
TARGET = 1.3
ROUNDS = 400
WARM_UP = 20


def measure() -> dict[str, tuple[list[float], list[float]]]:
    """Return the seconds of each submit, the hook's and the bare one's, by pair."""
    with sandbox.running(generation_seconds=0) as relay:
        pairs = {f"{form}: {name}": pair for form in APIS for name, pair in _pairs(relay, form).items()}
        seconds: dict[str, tuple[list[float], list[float]]] = {name: ([], []) for name in pairs}
        for turn in range(WARM_UP + ROUNDS):
            for name, pair in pairs.items():
                for who in (0, 1) if turn % 2 else (1, 0):
                    took = pair[who]()
                    if turn >= WARM_UP:
                        seconds[name][who].append(took)
        sent, accepted = 2 * len(pairs) * (WARM_UP + ROUNDS) + 2 * len(APIS), relay.stats()["accepted"]
        if accepted != sent:
            raise RuntimeError(f"{sent} requests were sent, and the relay accepted {accepted}: the times mean nothing")
    return seconds


def report(seconds: dict[str, tuple[list[float], list[float]]]) -> None:
    """Print the table."""
    table = show.table(
        f"One submit to the sandbox: {ROUNDS} each, median (middle half)",
        "hook and session",
        "VeoHook().create_video",
        "requests.Session().post",
        "ratio",
    )
    for name, (hook, bare) in seconds.items():
        table.add_row(name, show.spread(hook, "ms"), show.spread(bare, "ms"), f"{show.ratio(hook, bare):.2f}")
    show.console.print(table)
    for form in APIS:
        name = f"{form}: {KEPT}"
        show.console.print(f"Ratio, {name}: {show.verdict(show.ratio(*seconds[name]), TARGET)}")


def _pairs(relay: Sandbox, form: str) -> dict[str, tuple[Callable[[], float], Callable[[], float]]]:
    conn_id = f"veo_{form}"
    os.environ[f"AIRFLOW_CONN_{conn_id.upper()}"] = json.dumps({**json.loads(relay.connection), "extra": {"api": form}})
    kept_hook, kept_session = VeoHook(conn_id), requests.Session()
    # The openai form uploads images, which a bare post has to fetch first, too.
    arguments = ARGUMENTS if form == "unified" else {**ARGUMENTS, "images": None, "enable_upsample": False}
    body = payload.build(**arguments, catalog=kept_hook.settings.catalog)
    prepared = kept_hook.prepare(body)
    url = kept_hook.settings.api.url(prepared.request)
    request: dict[str, Any] = {
        "data": prepared.content,
        "headers": {
            "Authorization": f"Bearer {relay.api_key}",
            "Content-Type": "application/json",
            "Accept": "application/json",
            "Accept-Encoding": "identity",
            "User-Agent": f"airflow-provider-veo/{__version__} apache-airflow/{airflow_version}",
        },
    }

    def new_hook() -> float:
        start = time.perf_counter()
        hook = VeoHook(conn_id)
        hook.create_video(body)
        took = time.perf_counter() - start
        hook.close()
        return took

    def new_session(look_up: bool = False) -> float:
        start = time.perf_counter()
        if look_up:
            BaseHook.get_connection(conn_id)
        session = requests.Session()
        session.post(url, **request)
        took = time.perf_counter() - start
        session.close()
        return took

    def same_hook() -> float:
        start = time.perf_counter()
        kept_hook.create_video(body)
        return time.perf_counter() - start

    def same_session() -> float:
        start = time.perf_counter()
        kept_session.post(url, **request)
        return time.perf_counter() - start

    same_hook()
    same_session()
    ours, theirs = ({key: got[key] for key in ("headers", "authorized", "body")} for got in relay.requests()[-2:])
    if ours != theirs:
        raise RuntimeError(f"the two don't send the same request:\n{ours}\n{theirs}")
    return {
        NEW: (new_hook, new_session),
        LOOKED_UP: (new_hook, lambda: new_session(look_up=True)),
        KEPT: (same_hook, same_session),
    }
