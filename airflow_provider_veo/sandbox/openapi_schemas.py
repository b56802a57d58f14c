"""The schemas of the sandbox's OpenAPI description, each with an example."""

from __future__ import annotations

from typing import Any

from airflow_provider_veo.sandbox.contract import ASPECT_RATIOS, DEFAULTS, MODELS
from airflow_provider_veo.sandbox.openai_contract import DEFAULTS as OPENAI_DEFAULTS
from airflow_provider_veo.sandbox.openai_contract import LONGEST, SIZES
from airflow_provider_veo.sandbox.video import OPENAI_STAGES, STAGES

UNIFIED_ID = "veo3.1-components:1762241017-xTL0P9HvGF"
OPENAI_ID = "video_5f2f1c1f6d5e4c0c9d0c8a4ad9a1c0b3Zk3vQ9mT1xRb7LpW"
PROMPT = "牛飞上天了"
IMAGE = "https://files.example/cow.png"

CREATE_EXAMPLE = {
    "prompt": PROMPT,
    "model": "veo3.1-components",
    "images": [IMAGE],
    "enhance_prompt": True,
    "enable_upsample": True,
    "aspect_ratio": "16:9",
}
CREATED_EXAMPLE = {"id": UNIFIED_ID, "status": "pending", "status_update_time": 1762241017286}
CHAT_EXAMPLE = {
    "id": UNIFIED_ID,
    "object": "chat.completion",
    "created": 1762241017,
    "choices": [
        {
            "index": 0,
            "message": {"role": "assistant", "content": "The video is being generated."},
            "finish_reason": "stop",
        }
    ],
    "usage": {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0},
}
RUNNING_EXAMPLE = {
    "id": UNIFIED_ID,
    "status": "video_generating",
    "video_url": None,
    "status_update_time": 1762241047286,
    "detail": {
        "id": UNIFIED_ID,
        "req": CREATE_EXAMPLE,
        "status": "video_generating",
        "running": True,
        "created_at": 1762241017286,
        "completed_at": None,
        "retry_count": 0,
        "max_retries": 3,
        "video_url": None,
        "upsample_video_url": None,
        "upsample_status": "MEDIA_GENERATION_STATUS_PENDING",
    },
}
COMPLETED_EXAMPLE = {
    "id": UNIFIED_ID,
    "status": "completed",
    "video_url": "https://files.example/upsampled.mp4",
    "enhanced_prompt": "A cow takes off",
    "status_update_time": 1762241317286,
    "detail": {
        "id": UNIFIED_ID,
        "req": CREATE_EXAMPLE,
        "status": "completed",
        "running": False,
        "created_at": 1762241017286,
        "completed_at": 1762241317286,
        "retry_count": 3,
        "max_retries": 3,
        "video_url": "https://files.example/plain.mp4",
        "upsample_video_url": "https://files.example/upsampled.mp4",
        "upsample_status": "MEDIA_GENERATION_STATUS_SUCCESSFUL",
        "error_message": "[403] left over from a retry of the relay",
        "video_generation_error": "your request contains unsafe prompt, left over from a retry of the relay",
    },
}
FAILED_EXAMPLE = {
    "id": UNIFIED_ID,
    "status": "failed",
    "video_url": None,
    "error": "your request contains unsafe prompt",
    "status_update_time": 1762241317286,
    "detail": {
        "id": UNIFIED_ID,
        "req": CREATE_EXAMPLE,
        "status": "failed",
        "running": False,
        "created_at": 1762241017286,
        "completed_at": 1762241317286,
        "retry_count": 0,
        "max_retries": 3,
        "video_url": None,
    },
}
OPENAI_CREATE_EXAMPLE = {"model": "veo_3_1-fast", "prompt": PROMPT, **OPENAI_DEFAULTS}
OPENAI_QUEUED_EXAMPLE = {
    "id": OPENAI_ID,
    "object": "video",
    "model": "veo_3_1-fast",
    "status": "queued",
    "progress": 0,
    "created_at": 1762241017,
    "completed_at": None,
    "expires_at": None,
    "seconds": "8",
    "size": "1280x720",
    "prompt": PROMPT,
    "remixed_from_video_id": None,
    "error": None,
}
OPENAI_COMPLETED_EXAMPLE = OPENAI_QUEUED_EXAMPLE | {
    "status": "completed",
    "progress": 100,
    "completed_at": 1762241317,
    "expires_at": 1762327717,
}
OPENAI_FAILED_EXAMPLE = OPENAI_QUEUED_EXAMPLE | {
    "status": "failed",
    "progress": 100,
    "error": {"code": "generation_failed", "message": "your request contains unsafe prompt"},
}
MODELS_EXAMPLE = {"object": "list", "data": [{"id": "veo3-fast", "object": "model", "owned_by": "veo"}]}


def _object(required: str, example: Any = None, **properties: Any) -> dict[str, Any]:
    """Return the schema of an object. `required` are the names of the required properties."""
    schema: dict[str, Any] = {"type": "object", "required": required.split(), "properties": properties}
    return schema if example is None else schema | {"examples": [example]}


def _string(description: str = "", **keywords: Any) -> dict[str, Any]:
    return {"type": "string"} | ({"description": description} if description else {}) | keywords


def _or_null(schema: dict[str, Any]) -> dict[str, Any]:
    return schema | {"type": [schema["type"], "null"]}


def _switch(name: str, description: str) -> dict[str, Any]:
    return {
        "description": f"{description} Real clients also send it as a string.",
        "type": ["boolean", "string", "null"],
        "enum": [True, False, "true", "false", None],
        "default": DEFAULTS[name],
    }


def _limits(field: str, portrait: dict[str, Any]) -> list[dict[str, Any]]:
    """
    Return what depends on the model: how many images it takes, and whether it supports 9:16.

    :param field: The field of the images.
    :param portrait: The properties that ask for 9:16.
    """

    def rule(names: list[str], consequence: dict[str, Any]) -> dict[str, Any]:
        return {"if": {"required": ["model"], "properties": {"model": {"enum": names}}}, "then": consequence}

    counts = sorted({model.max_images for model in MODELS.values()})
    landscape = [name for name, model in MODELS.items() if not model.portrait]
    return [
        *(
            rule(
                [name for name, model in MODELS.items() if model.max_images == count],
                {"properties": {field: {"maxItems": count}}},
            )
            for count in counts
        ),
        rule(landscape, {"properties": {name: {"not": {"enum": values}} for name, values in portrait.items()}}),
    ]


_ADDRESS = r"https?://[A-Za-z0-9][A-Za-z0-9.-]*(:[0-9]{1,5})?(/[!-~]*)?"
_INLINE = r"data:image/[a-z0-9.+-]+;base64,([A-Za-z0-9+/]{4})+"
_COUNT = {"type": "integer", "minimum": 0}
_TIME = {"type": "integer", "description": "Epoch time in milliseconds."}
_SECOND = {"type": "integer", "description": "Epoch time in seconds."}
_URL = _string(format="uri")
_MODEL = _string("One of `GET /v1/models`.", enum=list(MODELS))
_PROMPT = _string("What the video shows.", pattern=r"\S")
_ERROR = _object("code message", code=_string(), message=_string())
_SIZE = _string("Width and height, which decide the aspect ratio.", enum=list(SIZES))
_LENGTH = _string(f"Duration, at most {LONGEST}.", pattern="^([1-9]|[1-5][0-9]|60)$")
_PORTRAIT = {"size": [size for size, ratio in SIZES.items() if ratio == "9:16"]}

DETAIL = _object(
    "id req status running created_at completed_at retry_count max_retries video_url",
    id=_string(),
    req={
        "type": "object",
        "description": "The request. Images in it are cut down to their type.",
        "additionalProperties": True,
    },
    status=_string(),
    running={"type": "boolean"},
    created_at=_TIME,
    completed_at=_or_null(_TIME),
    retry_count=_COUNT,
    max_retries=_COUNT,
    video_url=_or_null(_string("The video before upsampling.", format="uri")),
    upsample_video_url=_or_null(_URL),
    upsample_status=_string(pattern="^MEDIA_GENERATION_STATUS_"),
    error_message=_string("Also set on successes, from the relay's own retries."),
    video_generation_error=_string("Also set on successes, from the relay's own retries."),
)

SCHEMAS: dict[str, dict[str, Any]] = {
    "CreateRequest": _object(
        "model prompt",
        CREATE_EXAMPLE,
        model=_MODEL,
        prompt=_PROMPT,
        images={
            "description": "How many, and what they mean, depends on the model.",
            "type": ["array", "null"],
            "items": _string("An http(s) URL or a data:image URI.", pattern=f"^({_ADDRESS}|{_INLINE})$"),
            "maxItems": max(model.max_images for model in MODELS.values()),
        },
        enhance_prompt=_switch("enhance_prompt", "Translate and extend the prompt."),
        enable_upsample=_switch("enable_upsample", "Return a larger video."),
        aspect_ratio={
            "description": "Only models of Veo 3 support 9:16.",
            "type": ["string", "null"],
            "enum": [*ASPECT_RATIOS, None],
            "default": DEFAULTS["aspect_ratio"],
        },
    )
    | {"allOf": _limits("images", {"aspect_ratio": ["9:16"]})},
    "Created": _object(
        "id status status_update_time",
        CREATED_EXAMPLE,
        id=_string("Ask for the video with this id. It contains a colon."),
        status=_string(const="pending"),
        status_update_time=_TIME,
    ),
    "CreatedChat": _object(
        "id object created choices usage",
        CHAT_EXAMPLE,
        id=_string("Ask for the video with this id. It contains a colon."),
        object=_string(),
        created=_SECOND,
        choices={
            "type": "array",
            "items": _object(
                "index message finish_reason",
                index=_COUNT,
                message=_object("role content", role=_string(), content=_string()),
                finish_reason=_string(),
            ),
        },
        usage=_object(
            "prompt_tokens completion_tokens total_tokens",
            prompt_tokens=_COUNT,
            completion_tokens=_COUNT,
            total_tokens=_COUNT,
        ),
    ),
    "Video": _object(
        "id status video_url status_update_time detail",
        COMPLETED_EXAMPLE,
        id=_string(),
        status=_string(
            "Only `completed`, `failed` and `video_upsampling_failed` are final.",
            enum=[*(word for word, _ in STAGES), "completed", "failed", "video_upsampling_failed"],
        ),
        video_url=_or_null(_URL),
        enhanced_prompt=_string("The prompt as it was translated and extended, if the request asked for that."),
        status_update_time=_TIME,
        error=_string("Why the generation failed."),
        detail=DETAIL,
    ),
    "OpenaiCreateRequest": _object(
        "model prompt",
        OPENAI_CREATE_EXAMPLE,
        model=_MODEL,
        prompt=_PROMPT,
        seconds=_LENGTH
        | {
            "type": ["string", "integer", "null"],
            "minimum": 1,
            "maximum": LONGEST,
            "default": OPENAI_DEFAULTS["seconds"],
        },
        size=_SIZE | {"type": ["string", "null"], "enum": [*SIZES, None], "default": OPENAI_DEFAULTS["size"]},
        input_reference=_string("Images must be uploaded.") | {"type": "null"},
    )
    | {"allOf": _limits("input_reference", _PORTRAIT)[-1:]},
    "OpenaiCreateForm": _object(
        "model prompt",
        model=_MODEL,
        prompt=_PROMPT,
        seconds=_LENGTH | {"default": OPENAI_DEFAULTS["seconds"]},
        size=_SIZE | {"default": OPENAI_DEFAULTS["size"]},
        input_reference={
            "description": "Images. How many, and what they mean, depends on the model.",
            "type": "array",
            "items": {"type": "string", "format": "binary", "contentMediaType": "image/png", "minLength": 1},
            "maxItems": max(model.max_images for model in MODELS.values()),
        },
    )
    | {"allOf": _limits("input_reference", _PORTRAIT)},
    "OpenaiVideo": _object(
        "id object model status progress created_at completed_at expires_at seconds size error",
        OPENAI_COMPLETED_EXAMPLE,
        id=_string("Up to several hundred characters."),
        object=_string(const="video"),
        model=_string(),
        status=_string(enum=[*(word for word, _ in OPENAI_STAGES), "completed", "failed"]),
        progress={"type": "integer", "minimum": 0, "maximum": 100},
        created_at=_SECOND,
        completed_at=_or_null(_SECOND),
        expires_at=_or_null(_SECOND),
        seconds=_LENGTH,
        size=_SIZE,
        prompt=_string(),
        remixed_from_video_id={"type": "null"},
        error=_or_null(_ERROR),
    ),
    "Models": _object(
        "object data",
        MODELS_EXAMPLE,
        object=_string(const="list"),
        data={
            "type": "array",
            "items": _object("id object owned_by", id=_string(), object=_string(const="model"), owned_by=_string()),
        },
    ),
    "Error": _object(
        "error",
        error=_object(
            "message type param code",
            message=_string("It ends with the id of the request."),
            type=_string(),
            param=_string(),
            code={"type": ["string", "integer"], "description": "What decides, unlike the message."},
        ),
    ),
    "FlatError": _object(
        "code message data",
        code={"type": ["string", "integer"]},
        message=_string(),
        data={"type": "null"},
    ),
}
