"""How the interface describes itself in OpenAPI: bodies, answers, examples."""

from typing import Any

from pydantic import BaseModel, Field

SUMMARY = "Object detection in the style of R-CNN: post a photo, get boxes."
FAILURE = "A parameter, or the photo, cannot be used; the answer says why."
EXAMPLE: dict[str, Any] = {
    "image": "street.jpg",
    "width": 500,
    "height": 375,
    "boxes": [[48.5, 240.1, 195.0, 371.2]],
    "labels": ["dog"],
    "scores": [0.93],
    "sources": ["multibox"],
    "file_key": "6f1ed002ab5595859014ebf0951522d9",
}


class Detected(BaseModel):
    """What was found in a photo, best first: a line of `detections.jsonl`."""

    model_config = {"json_schema_extra": {"examples": [EXAMPLE]}}

    image: str = Field(description="Name of the photo, as it was given.")
    width: int = Field(description="Of the photo as displayed, in pixels.")
    height: int
    boxes: list[list[float]] = Field(description="x1, y1, x2, y2 in pixels of the photo as displayed.")
    labels: list[str]
    scores: list[float] = Field(description="From 0 to 1.")
    sources: list[str] = Field(description="Which generator proposed each box.")
    file_key: str = Field(description="Digest of the bytes of the file.")


class Problem(BaseModel):
    """Why there is no other answer."""

    model_config = {"json_schema_extra": {"examples": [{"error": "not a picture in a known format"}]}}

    error: str


class Limited(BaseModel):
    """What the server takes."""

    max_bytes: int
    max_pixels: int
    seconds: float
    waiting: int
    together: int


class About(BaseModel):
    """What may be asked for."""

    classes: list[str]
    proposals: list[str] = Field(description="Names of the generators; the first is the usual one.")
    score_floor: float
    draw_score: float = Field(description="Weakest detection that is drawn where no score is named.")
    max_boxes: int | None
    placement: list[str] = Field(description="Where the networks run, with the reason.")
    warnings: list[str]
    limits: Limited


def _problem(what: str, **more: Any) -> dict[str, Any]:
    return {"model": Problem, "description": what, **more}


AGAIN = {"Retry-After": {"description": "Seconds after which to try again.", "schema": {"type": "integer"}}}
PROBLEMS: dict[int | str, dict[str, Any]] = {
    401: _problem("The token is missing or wrong."),
    403: _problem("A page of another site may not ask."),
    421: _problem("The server does not go by the name that it was called."),
}
ANSWERS: dict[int | str, dict[str, Any]] = {
    200: {
        "model": Detected,
        "description": "What was found: JSON, or the photo with boxes.",
        "content": {"image/jpeg": {"schema": {"type": "string", "format": "binary"}}},
    },
    400: _problem("The form has no photo, or the request was not sent to its end."),
    408: _problem("The photo did not arrive in time."),
    413: _problem("The body has too many bytes, or the photo too many pixels."),
    500: _problem("The detector failed on this photo."),
    503: _problem("There is no place for now.", headers=AGAIN),
    504: _problem("Detecting took too long."),
    **PROBLEMS,
}
_PHOTO = {"schema": {"type": "string", "format": "binary"}}
BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "description": "The photo: JPEG, PNG, WebP, GIF, BMP, TIFF or PPM, and AVIF or HEIF where the server knows it.",
        "content": {
            "image/jpeg": _PHOTO,
            "image/png": _PHOTO,
            "application/octet-stream": _PHOTO,
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["photo"],
                    "properties": {"photo": {"type": "string", "format": "binary"}},
                }
            },
        },
    }
}
