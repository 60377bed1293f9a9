"""The OpenAPI description: bodies, answers, examples."""

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
    """The detections in a photo, best first: a line of `detections.jsonl`."""

    model_config = {"json_schema_extra": {"examples": [EXAMPLE]}}

    image: str = Field(description="Name of the photo, from the request.")
    width: int = Field(description="Width of the photo as displayed, in pixels.")
    height: int
    boxes: list[list[float]] = Field(description="x1, y1, x2, y2 in pixels of the photo as displayed.")
    labels: list[str]
    scores: list[float] = Field(description="From 0 to 1.")
    sources: list[str] = Field(description="Which generator proposed each box.")
    file_key: str = Field(description="Digest of the file.")


class Problem(BaseModel):
    """An error."""

    model_config = {"json_schema_extra": {"examples": [{"error": "not a picture in a known format"}]}}

    error: str


class Limited(BaseModel):
    """The limits of the server."""

    max_bytes: int
    max_pixels: int
    seconds: float
    waiting: int
    together: int


class About(BaseModel):
    """What requests may ask for."""

    classes: list[str]
    proposals: list[str] = Field(description="Names of the proposal generators; the first is the default.")
    score_floor: float
    draw_score: float = Field(description="Lowest score in pictures by default.")
    max_boxes: int | None
    placement: list[str] = Field(description="Where the networks run, and why.")
    warnings: list[str]
    limits: Limited


def _problem(what: str, **more: Any) -> dict[str, Any]:
    return {"model": Problem, "description": what, **more}


AGAIN = {"Retry-After": {"description": "Seconds after which to try again.", "schema": {"type": "integer"}}}
PROBLEMS: dict[int | str, dict[str, Any]] = {
    401: _problem("The token is missing or wrong."),
    403: _problem("The request comes from a page of another site."),
    421: _problem("The request names a host that is not the server's."),
}
ANSWERS: dict[int | str, dict[str, Any]] = {
    200: {
        "model": Detected,
        "description": "The detections: JSON, or the photo with boxes.",
        "content": {"image/jpeg": {"schema": {"type": "string", "format": "binary"}}},
    },
    400: _problem("The form has no photo, or the request is incomplete."),
    408: _problem("The photo did not arrive in time."),
    413: _problem("The body has too many bytes, or the photo too many pixels."),
    500: _problem("The detector failed on this photo."),
    503: _problem("The server is busy.", headers=AGAIN),
    504: _problem("Detecting took too long."),
    **PROBLEMS,
}
_PHOTO = {"schema": {"type": "string", "format": "binary"}}
BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "description": "The photo: JPEG, PNG, WebP, GIF, BMP, TIFF, PPM, JPEG 2000; perhaps AVIF or HEIF.",
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
