"""
The command line of the sandbox: `airflow-veo-sandbox`.

All arguments are validated before the server's dependencies are loaded or a port is opened.
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
  The default is the first endpoint listed for the kind below.

  SELECTOR chooses the requests to that endpoint that the fault affects. The default is all of them.
    3              the third            2-4   the second to the fourth       5+   the fifth and later
    10%            that share, chosen by --seed
    model=NAME     those for that model       prompt=TEXT   those whose prompt contains TEXT
  Several can be joined with commas: @model=veo3-fast,2+ counts the requests for veo3-fast only.
  Kinds marked * affect a video permanently: their selector counts accepted videos, not requests.
  If several faults answer a request in the relay's place, the first one wins. A fault that changes
  how the answer is delivered (drop, reset, hang, slow, drip, cut-off) can be combined with any other.

  KIND:
"""
FORMS = f"""
  FORM is the field that holds REASON, `error` by default:
    {", ".join(REASON_FORMS)}
"""
EXAMPLES = """
examples:
  airflow-veo-sandbox --fault drop-after@1                  the first create is billed, its answer is lost
  airflow-veo-sandbox --fault status=503@10% --seed 7       a tenth of the creates find no channel
  airflow-veo-sandbox --fault query:bare=502@2-4            three polls hit a gateway's error page
  airflow-veo-sandbox --fault failed=blocked:fail_reason@prompt=cow
  airflow-veo-sandbox --fault file:cut-off@1                the first download is cut off
  airflow-veo-sandbox --fault file:status=500@prompt=cow    completed, but its file can't be downloaded
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """
    Run the sandbox until it is stopped.

    :param arguments: Command-line arguments. Defaults to `sys.argv`.
    :returns: The exit status.
    """
    parser = _parser()
    options = parser.parse_args(arguments)
    if not options.allow_remote and not is_loopback(options.host):
        parser.error(f"--host {options.host} could be reached from other machines. To allow this, add --allow-remote")
    try:
        settings = _checked(parser, options)
        # Imported here because --help and invalid options need none of the server's dependencies.
        from airflow_provider_veo.sandbox import openapi, server
        from airflow_provider_veo.sandbox.relay import Relay

        if options.openapi:
            print(openapi.text(), end="")
            return 0
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
    add("--port", type=int, default=8765, help="port, or 0 for a free one (default: %(default)s)")
    add("--allow-remote", action="store_true", help="allow other machines to reach and control the sandbox")
    add(
        "--allow-host",
        action="append",
        default=[],
        metavar="HOST[:PORT]",
        help="also accept this Host header, e.g. a container's name or a forwarded port; repeatable",
    )
    add("--openapi", action="store_true", help="print the OpenAPI description, and do nothing else")
    add("--verbose", action="store_true", help="print a line for each request")
    add("--fault", action="append", default=[], metavar="SPEC", help="fault to inject, see below; repeatable")
    add("--seed", type=int, default=0, help="chooses the requests of a share such as 10%% (default: %(default)s)")
    add("--exit-with-parent", type=int, metavar="PID", help=argparse.SUPPRESS)
    _add_settings(parser.add_argument_group("the relay", "All of these can be changed later: POST /_sandbox/config"))
    return parser


def _add_settings(group: argparse._ArgumentGroup) -> None:
    helps = {
        "generation_seconds": "how long a generation takes; 0 makes videos ready at once",
        "video_seconds": "duration of the generated videos",
        "api_key": "the API key to accept",
        "strict": "insist on the fields, types and headers that the relays' documents require",
        "response_shape": "answers to create, short or like a chat completion",
        "id_field": "path of the id in answers to create",
        "numeric_ids": "return ids as JSON numbers",
        "wrapped": 'wrap answers to queries in {"status": "SUCCESS", "data": {...}}',
        "other_id": "return a different id in answers to queries",
        "status_field": "name of the status in answers to queries",
        "url_field": "path of the URL in answers to queries",
        "time_unit": "unit of status_update_time",
        "openai_url_field": "path of the URL in answers of the form openai",
        "long_ids": "return ids of several hundred characters in the form openai",
    }
    for name, text in helps.items():
        flag, default = "--" + name.replace("_", "-"), FIELDS[name]
        if isinstance(default, bool):
            group.add_argument(flag, action="store_true", help=text)
        else:
            choices = CHOICES.get(name)
            text += f": {', '.join(choices)} (default: %(default)s)" if choices else " (default: %(default)s)"
            # A metavar, since the usage would otherwise list the choices, too.
            group.add_argument(
                flag,
                type=type(default),
                default=default,
                choices=choices,
                metavar=name.split("_")[-1].upper(),
                help=text,
            )
    group.add_argument(
        "--extra-model",
        action="append",
        default=[],
        dest="extra_models",
        metavar="NAME[,images=N][,9:16]",
        help="additional model; repeatable",
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
