"""
The OpenAPI description of the sandbox, in both forms: what others need to mock it, to lint it, or to fuzz it.

`/openapi.json` serves it, `airflow-veo-sandbox --openapi` prints it, and `docs/openapi.json` is a copy. It describes
the default settings.
"""

from __future__ import annotations

import json
from typing import Any

from airflow_provider_veo.sandbox import openapi_schemas as schemas
from airflow_provider_veo.sandbox.answers import DEFAULT_CODES, page, reason
from airflow_provider_veo.sandbox.faulty import BUSY

JSON, HTML, MP4 = "application/json", "text/html", "video/mp4"
REQUEST_ID = "(request id: 20261104153017285hJ8kQ2mVxT0aZ1)"

DESCRIPTION = """\
Create a video, poll until it is completed, and download its file. The relay serves two forms of the API, `unified` and
`openai`. Every accepted create is billed, and there is no idempotency key.

This is what the sandbox of airflow-provider-veo serves, with its default settings. Answers marked *as a fault* are
those of real relays, which the sandbox returns for a configured fault (`airflow-veo-sandbox --help`).
"""

ERRORS: dict[int, tuple[str, dict[str, Any]]] = {
    # status: what it means, and its examples: a message, or a code and a message
    400: ("The request is invalid.", {"invalid": "model is required; aspect_ratio must be one of 16:9, 9:16"}),
    401: ("The key is missing or wrong.", {"key": "无效的令牌"}),
    402: ("The balance does not suffice. As a fault.", {"balance": "balance is too low"}),
    403: (
        "The quota does not suffice, as a fault. Or a web page sent the request.",
        {
            "quota": ("insufficient_user_quota", BUSY),
            "origin": "The sandbox does not accept requests from another origin: got 'http://evil.example'",
        },
    ),
    404: ("There is no such video.", {"unknown": ("task_not_exist", "task not found")}),
    408: ("The relay gave up. It may have accepted the request. As a fault.", {"timeout": "request timed out"}),
    413: ("The body is larger than 64 MiB.", {"size": "the body is too large"}),
    415: ("The body has another type.", {"type": "Content-Type must be application/json"}),
    421: (
        "The `Host` header is neither a loopback name nor allowed.",
        {"host": "The sandbox does not accept the Host header: got 'rebound.example'"},
    ),
    422: (
        "A header is missing. Only with `--strict`, or as a fault.",
        {"header": "Content-Type must be application/json"},
    ),
    429: ("Too many requests. As a fault.", {"busy": BUSY}),
    500: ("The relay failed. As a fault.", {"internal": "internal error"}),
    502: ("The service behind the relay failed. As a fault.", {"upstream": ("upstream_error", "Bad Gateway")}),
    503: ("No channel offers the model.", {"channel": ("model_not_found", "分组 default 下模型 veo9 无可用渠道")}),
    504: ("The service behind the relay did not answer. As a fault.", {"upstream": ("upstream_error", "timed out")}),
}
"""The error answers by HTTP status."""
ALWAYS = (401, 403, 421, 429, 500, 502, 503, 504)
"""The errors of every endpoint."""
UNKNOWN = "It says nothing about the request: a create may have been accepted."


def document() -> dict[str, Any]:
    """Return the description."""
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Veo relay",
            "version": "1.0.0",
            "summary": "Generates videos with Veo, in two forms of the API.",
            "description": DESCRIPTION,
            "contact": {"url": "https://github.com/airflow-provider-veo/airflow-provider-veo"},
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/", "description": "Wherever the sandbox runs."}],
        "security": [{"key": []}],
        "tags": [
            {"name": "unified", "description": "The relays' own form."},
            {"name": "openai", "description": "The form of the OpenAI Videos API."},
            {"name": "both", "description": "What both forms use."},
        ],
        "paths": {
            "/v1/video/create": {"post": _create()},
            "/v1/video/query": {"get": _query()},
            "/v1/videos": {"post": _openai_create()},
            "/v1/videos/{video_id}": {"get": _openai_query()},
            "/v1/videos/{video_id}/content": {"get": _content()},
            "/v1/models": {"get": _models()},
            "/files/{name}": {"get": _file()},
        },
        "components": {
            "schemas": schemas.SCHEMAS,
            "responses": {f"Error{status}": _error(status) for status in ERRORS} | {"Redirect": _redirect()},
            "securitySchemes": {"key": {"type": "http", "scheme": "bearer", "description": "The key of the relay."}},
        },
    }


def text() -> str:
    """Return the description as the text of a file."""
    return json.dumps(document(), ensure_ascii=False, indent=2) + "\n"


def _create() -> dict[str, Any]:
    created = {"anyOf": [_schema("Created"), _schema("CreatedChat")]}
    return {
        **_operation("createVideo", "unified", "Create a video", "It is billed if the answer is 200."),
        "requestBody": {
            "required": True,
            "content": {JSON: {"schema": _schema("CreateRequest"), **_examples(text=schemas.CREATE_EXAMPLE)}},
        },
        "responses": {
            "200": {
                "description": "The video was accepted.",
                "content": {
                    JSON: {
                        "schema": created,
                        **_examples(short=schemas.CREATED_EXAMPLE, chat=schemas.CHAT_EXAMPLE),
                    }
                },
                "links": {"query": _link("queryVideo", "id")},
            },
            **_errors(400, 402, 408, 413, 415, 422),
        },
    }


def _query() -> dict[str, Any]:
    examples = _examples(
        running=schemas.RUNNING_EXAMPLE, completed=schemas.COMPLETED_EXAMPLE, failed=schemas.FAILED_EXAMPLE
    )
    return {
        **_operation("queryVideo", "unified", "Query a video", "Only the status decides: errors can be leftovers."),
        "parameters": [
            {
                "name": "id",
                "in": "query",
                "required": True,
                "description": "The id that the create returned, percent-encoded.",
                "schema": {"type": "string"},
                "example": schemas.UNIFIED_ID,
            }
        ],
        "responses": {
            "200": {
                "description": "The video's status.",
                "content": {JSON: {"schema": _schema("Video"), **examples}},
            },
            **_errors(400, 404, 422),
        },
    }


def _openai_create() -> dict[str, Any]:
    return {
        **_operation("createOpenaiVideo", "openai", "Create a video", "It is billed if the answer is 200."),
        "requestBody": {
            "required": True,
            "content": {
                JSON: {
                    "schema": _schema("OpenaiCreateRequest"),
                    **_examples(text=schemas.OPENAI_CREATE_EXAMPLE),
                },
                "multipart/form-data": {
                    "schema": _schema("OpenaiCreateForm"),
                    "encoding": {"input_reference": {"contentType": "image/png"}},
                },
            },
        },
        "responses": {
            "200": {
                "description": "The video was accepted.",
                "content": {
                    JSON: {"schema": _schema("OpenaiVideo"), **_examples(queued=schemas.OPENAI_QUEUED_EXAMPLE)}
                },
                "links": {
                    "query": _link("queryOpenaiVideo", "video_id"),
                    "content": _link("downloadOpenaiVideo", "video_id"),
                },
            },
            **_errors(400, 402, 408, 413, 415),
        },
    }


def _openai_query() -> dict[str, Any]:
    examples = _examples(
        queued=schemas.OPENAI_QUEUED_EXAMPLE,
        completed=schemas.OPENAI_COMPLETED_EXAMPLE,
        failed=schemas.OPENAI_FAILED_EXAMPLE,
    )
    return {
        **_operation("queryOpenaiVideo", "openai", "Query a video", "Only the status decides."),
        "parameters": [_video_id()],
        "responses": {
            "200": {
                "description": "The video's status.",
                "content": {JSON: {"schema": _schema("OpenaiVideo"), **examples}},
            },
            **_errors(400, 404),
        },
    }


def _content() -> dict[str, Any]:
    variant = {
        "name": "variant",
        "in": "query",
        "description": "What to download.",
        "schema": {"type": "string", "enum": ["video"], "default": "video"},
    }
    return {
        **_operation("downloadOpenaiVideo", "openai", "Download a video", "A redirect is followed without the key."),
        "parameters": [_video_id(), variant, *_ranges()],
        "responses": {**_mp4(), **_errors(400, 404)},
    }


def _file() -> dict[str, Any]:
    name = {"name": "name", "in": "path", "required": True, "schema": {"type": "string"}, "example": "video.mp4"}
    return {
        **_operation("downloadFile", "both", "Download a file", "The URL is the one of a query. It needs no key."),
        "security": [],
        "parameters": [name, *_ranges()],
        "responses": {**_mp4(), **_errors(404)},
    }


def _models() -> dict[str, Any]:
    return {
        **_operation("listModels", "both", "List the models", "It checks the key, and is not billed."),
        "responses": {
            "200": {
                "description": "The models that the key may use.",
                "content": {JSON: {"schema": _schema("Models"), **_examples(models=schemas.MODELS_EXAMPLE)}},
            },
            **_errors(404),
        },
    }


def _operation(name: str, tag: str, summary: str, description: str) -> dict[str, Any]:
    return {"operationId": name, "tags": [tag], "summary": summary, "description": description}


def _video_id() -> dict[str, Any]:
    return {
        "name": "video_id",
        "in": "path",
        "required": True,
        "description": "The id that the create returned, percent-encoded.",
        "schema": {"type": "string"},
        "example": schemas.OPENAI_ID,
    }


def _ranges() -> list[dict[str, Any]]:
    described = {
        "Range": "The part to return, such as `bytes=1000-`.",
        "If-Range": "The ETag that the part belongs to.",
    }
    return [
        {"name": name, "in": "header", "description": description, "schema": {"type": "string"}}
        for name, description in described.items()
    ]


def _mp4() -> dict[str, Any]:
    file = {MP4: {"schema": {"type": "string", "contentMediaType": MP4}}}
    etag = {"ETag": _header("It identifies the content."), "Accept-Ranges": _header("`bytes`")}
    ranged = etag | {"Content-Range": _header("Where the part is, such as `bytes 0-99/1000`.")}
    return {
        "200": {"description": "The file.", "headers": etag, "content": file},
        "206": {"description": "The part.", "headers": ranged, "content": file},
        "416": {"description": "The file is shorter.", "headers": ranged, "content": file},
    }


def _header(description: str) -> dict[str, Any]:
    return {"description": description, "schema": {"type": "string"}}


def _redirect() -> dict[str, Any]:
    return {
        "description": "What was requested is elsewhere. As a fault. A client must not follow it with a create.",
        "headers": {"Location": _header("The URL.")},
    }


def _errors(*statuses: int) -> dict[str, Any]:
    """Return the answers to an endpoint under these statuses, and under those of every endpoint."""
    errors = {str(status): {"$ref": f"#/components/responses/Error{status}"} for status in sorted({*statuses, *ALWAYS})}
    return {"307": {"$ref": "#/components/responses/Redirect"}} | errors


def _error(status: int) -> dict[str, Any]:
    description, told = ERRORS[status]
    examples = {
        name: _envelope(status, *([each] if isinstance(each, str) else reversed(each))) for name, each in told.items()
    }
    flat = {
        "code": DEFAULT_CODES.get(status, "upstream_error"),
        "message": f"{reason(status)} {REQUEST_ID}",
        "data": None,
    }
    answer: dict[str, Any] = {
        "description": description,
        "content": {
            JSON: {
                "schema": {"anyOf": [_schema("Error"), _schema("FlatError")]},
                **_examples(**examples, flat=flat),
            }
        },
    }
    if status == 429:
        answer["headers"] = {"Retry-After": _header("Seconds, or an HTTP date.")}
    if status >= 500:
        answer["description"] += f" The page of a gateway in front of the relay has no envelope. {UNKNOWN}"
        answer["content"][HTML] = {"schema": {"type": "string"}, **_examples(gateway=page(status).body.decode())}
    return answer


def _envelope(status: int, message: str, code: str | None = None) -> dict[str, Any]:
    shown = DEFAULT_CODES.get(status, "upstream_error") if code is None else code
    return {"error": {"message": f"{message} {REQUEST_ID}", "type": "new_api_error", "param": "", "code": shown}}


def _schema(name: str) -> dict[str, str]:
    return {"$ref": f"#/components/schemas/{name}"}


def _link(operation: str, parameter: str) -> dict[str, Any]:
    return {"operationId": operation, "parameters": {parameter: "$response.body#/id"}}


def _examples(**values: Any) -> dict[str, Any]:
    return {"examples": {name: {"value": value} for name, value in values.items()}}
