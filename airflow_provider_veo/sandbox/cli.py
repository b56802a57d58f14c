"""
The command line of the sandbox: `airflow-veo-sandbox`.

Every mistake in it is named before anything is loaded or listens.
"""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING

from airflow_provider_veo.sandbox.contract import catalog
from airflow_provider_veo.sandbox.fault_kinds import ENDPOINTS, KINDS, REASON_FORMS
from airflow_provider_veo.sandbox.faults import Faults
from airflow_provider_veo.sandbox.hosts import is_loopback, parse_host
from airflow_provider_veo.sandbox.settings import CHOICES, FIELDS, Settings

if TYPE_CHECKING:
    from collections.abc import Sequence

GRAMMAR = """\
faults:
  SPEC is [ENDPOINT:]KIND[=VALUE][@SELECTOR]. ENDPOINT is create, query, file or models.
  Without one, the first place named for the kind below is meant.

  SELECTOR says which requests of that endpoint the fault meets; without one, all of them.
    3              the third            2-4   the second to the fourth       5+   from the fifth on
    10%            that share, chosen by --seed
    model=NAME     those for that model       prompt=TEXT   those whose prompt contains TEXT
  Several can be joined with commas: @model=veo3-fast,2+ counts the requests for veo3-fast only.
  Kinds marked * befall a video for good: there the selector counts accepted videos, not requests.
  The first fault of a request that answers in the relay's place wins; one that changes how the
  answer travels (drop, reset, hang, slow, drip, cut-off) can be combined with any other.

  KIND:
"""
FORMS = f"""
  REASON may be told in one of these FORMs, `error` if none is named:
    {", ".join(REASON_FORMS)}
"""
EXAMPLES = """
examples:
  airflow-veo-sandbox --fault drop-after@1                  the first create is paid, its answer is lost
  airflow-veo-sandbox --fault status=503@10% --seed 7       a tenth of the creates finds no channel
  airflow-veo-sandbox --fault query:bare=502@2-4            three polls hit a gateway's error page
  airflow-veo-sandbox --fault failed=blocked:fail_reason@prompt=cow
  airflow-veo-sandbox --fault file:cut-off@1                the first download breaks off
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """
    Run the sandbox until it is told to stop.

    :param arguments: The command line's; the process's own if omitted.
    :returns: The process's exit status.
    """
    parser = _parser()
    options = parser.parse_args(arguments)
    if not options.allow_remote and not is_loopback(options.host):
        parser.error(f"--host {options.host} could be reached from other machines: add --allow-remote if you mean it")
    try:
        settings = _checked(parser, options)
        # Here and not above: --help and a mistaken option need none of the server's dependencies.
        from airflow_provider_veo.sandbox import server
        from airflow_provider_veo.sandbox.relay import Relay

        listener = server.listen(options.host, options.port)
    except ModuleNotFoundError as error:
        parser.error(f"{error.name} is not installed: pip install 'airflow-provider-veo[sandbox]'")
    except (OSError, OverflowError) as error:
        parser.error(f"cannot listen on {options.host} port {options.port}: {error}")
    except KeyboardInterrupt:
        return 130
    relay = Relay(settings, options.fault, options.seed)
    server.serve(relay, listener, options.host, options.allow_host, options.verbose, options.exit_with_parent)
    return 0


def _checked(parser: argparse.ArgumentParser, options: argparse.Namespace) -> Settings:
    try:
        Faults(options.fault)
        settings = Settings().changed({name: getattr(options, name) for name in FIELDS})
        catalog(settings.extra_models)
        for host in options.allow_host:
            parse_host(host)
    except ValueError as error:
        parser.error(str(error))
    return settings


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="airflow-veo-sandbox",
        description="A local Veo relay that speaks the protocol, makes real MP4s, and fails on demand.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog=GRAMMAR + "\n".join(_kind_lines()) + "\n" + FORMS + EXAMPLES,
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("--host", default="127.0.0.1", help="address to listen on (default: %(default)s)")
    add("--port", type=int, default=8765, help="port, 0 for a free one (default: %(default)s)")
    add("--allow-remote", action="store_true", help="let other machines reach --host; they can also control it")
    add(
        "--allow-host",
        action="append",
        default=[],
        metavar="HOST[:PORT]",
        help="accept this Host header as well, e.g. the name of a container or a forwarded port; repeatable",
    )
    add("--verbose", action="store_true", help="print a line for each request")
    add("--fault", action="append", default=[], metavar="SPEC", help="what shall go wrong, see below; repeatable")
    add("--seed", type=int, default=0, help="decides which requests a share like 10%% takes (default: %(default)s)")
    add("--exit-with-parent", type=int, metavar="PID", help=argparse.SUPPRESS)
    _add_settings(parser.add_argument_group("the relay", "Each can be changed later: POST /_sandbox/config"))
    return parser


def _add_settings(group: argparse._ArgumentGroup) -> None:
    helps = {
        "generation_seconds": "how long a video takes, 0 is ready at once",
        "video_seconds": "how long the made videos play",
        "api_key": "the key that is accepted",
        "response_shape": "answers to create: the seed's short one, or its chat-like one",
        "id_field": "the id's name in answers to create",
        "numeric_ids": "ids are JSON numbers",
        "wrapped": 'answers to queries come as {"status": "SUCCESS", "data": {...}}',
        "other_id": "answers to queries carry another id than the one asked for",
        "url_field": "the URL's name in answers to queries",
        "time_unit": "unit of status_update_time",
    }
    for name, text in helps.items():
        flag, default = "--" + name.replace("_", "-"), FIELDS[name]
        if isinstance(default, bool):
            group.add_argument(flag, action="store_true", help=text)
        else:
            text += " (default: %(default)s)"
            group.add_argument(flag, type=type(default), default=default, choices=CHOICES.get(name), help=text)
    group.add_argument(
        "--extra-model",
        action="append",
        default=[],
        dest="extra_models",
        metavar="NAME[,images=N][,9:16]",
        help="one more model; repeatable",
    )


def _kind_lines() -> list[str]:
    lines = []
    for kind in KINDS.values():
        mark = "*" if kind.per_video else " "
        places = "any" if kind.endpoints == ENDPOINTS else ", ".join(kind.endpoints)
        lines.append(f"  {mark} {kind.name + kind.metavar:<31} {kind.summary}  [{places}]")
    return lines


if __name__ == "__main__":
    sys.exit(main())
