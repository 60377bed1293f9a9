"""The HTTP interface: photos in, JSON or pictures out; the page, health, metrics, and an OpenAPI description."""

import asyncio
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager
from dataclasses import asdict
from functools import partial
from typing import Annotated, Any, Literal

from fastapi import FastAPI, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from detect.serving.body import MOST_NAME, pass_over, read_photo
from detect.serving.description import ANSWERS, BODY, FAILURE, PROBLEMS, SUMMARY, About, Problem
from detect.serving.gate import Gate
from detect.serving.jobs import Answer, Job, Limits, Offer
from detect.serving.metrics import KIND, Metrics
from detect.serving.page import page
from detect.serving.queue import Full, Queue
from detect.settings import DRAW_FLOOR

CLIENT_SECONDS = 0.5  # between two checks that the client of a waiting request is still connected


def make_app(
    queue: Queue, offer: Offer, limits: Limits, *, token: str = "", hosts: Collection[str] = (), version: str = ""
) -> FastAPI:
    """Return the application, for any ASGI server.

    Args:
        queue: queue of the detector, started and closed with the application.
        offer: what requests may ask for.
        limits: limits of requests.
        token: see `detect.serving.gate.Gate`.
        hosts: see `detect.serving.gate.Gate`.
        version: version of the package.
    """

    @asynccontextmanager
    async def living(app: FastAPI) -> AsyncIterator[None]:
        queue.start()
        yield
        await asyncio.to_thread(queue.close)

    app = FastAPI(
        title="rcnn serve",
        summary=SUMMARY,
        version=version or "0",
        lifespan=living,
        docs_url=None,  # both pages load scripts from other servers
        redoc_url=None,
        responses={422: {"model": Problem, "description": FAILURE}},
    )
    metrics = Metrics(queue)
    _add_detect(app, queue, offer, limits, metrics)
    _add_others(app, queue, offer, limits, metrics, with_token=bool(token))
    app.add_exception_handler(Full, partial(_busy, limits))
    app.add_exception_handler(HTTPException, _problem)
    app.add_exception_handler(RequestValidationError, _unfit)
    app.add_middleware(Gate, metrics=metrics, token=token, hosts=hosts)
    return app


def _add_detect(app: FastAPI, queue: Queue, offer: Offer, limits: Limits, metrics: Metrics) -> None:
    generator: Any = Literal[offer.proposals]  # type: ignore[valid-type]
    class_name: Any = Literal[offer.classes]  # type: ignore[valid-type]

    @app.post("/detect", summary="Find objects on a photo", responses=ANSWERS, openapi_extra=BODY)
    async def detect(
        request: Request,
        answer: Annotated[
            Literal["json", "picture"] | None,
            Query(
                description="picture returns the photo with boxes, as does an Accept header that begins with image/."
            ),
        ] = None,
        score: Annotated[
            float | None,
            Query(
                ge=offer.score_floor,
                le=1,
                description=f"Lowest score to return; by default {offer.score_floor:g}, in pictures {DRAW_FLOOR:g}.",
            ),
        ] = None,
        classes: Annotated[
            list[class_name] | None, Query(description="Only this class; the parameter may be repeated.")
        ] = None,
        proposals: Annotated[generator, Query(description="Proposal generator.")] = offer.proposals[0],
        max_boxes: Annotated[
            int | None, Query(ge=1, le=offer.max_boxes, description="Classify only the first N regions.")
        ] = offer.max_boxes,
        name: Annotated[str, Query(max_length=MOST_NAME, description="Name of the photo, returned as image.")] = "",
    ) -> Response:
        """Post the photo as the body, or as the file `photo` of a form. The answer is a line of `rcnn detect`."""
        with queue.place():
            content, own_name = await read_photo(request, limits)
            picture = _wants_picture(request, answer)
            job = Job(
                content=content,
                name=name or own_name,
                proposals=proposals,
                score=_score(score, offer, picture=picture),
                max_boxes=max_boxes,
                classes=None if classes is None else tuple(classes),
                picture=picture,
            )
            found = await _answer(queue, job, request, limits.seconds)
        metrics.found(found.objects)
        return Response(found.body, found.status, media_type=found.kind)


def _wants_picture(request: Request, answer: str | None) -> bool:
    return answer == "picture" or (answer is None and request.headers.get("accept", "").startswith("image/"))


def _score(asked: float | None, offer: Offer, *, picture: bool) -> float:
    usual = max(offer.score_floor, DRAW_FLOOR) if picture else offer.score_floor
    return usual if asked is None else asked


async def _answer(queue: Queue, job: Job, request: Request, seconds: float) -> Answer:
    """Wait for the answer to a job, until its time is up or the client has gone.

    Raises:
        Full: the job was not begun in time, or the client has gone.
        HTTPException: the photo takes too long.
    """
    future = queue.put(job)
    waiting, end = asyncio.wrap_future(future), asyncio.get_running_loop().time() + seconds
    while not waiting.done():
        left = end - asyncio.get_running_loop().time()
        await asyncio.wait([waiting], timeout=max(0.0, min(left, CLIENT_SECONDS)))
        if waiting.done():
            break
        if left <= 0 or await request.is_disconnected():
            if fault := queue.give_up(future):
                raise HTTPException(504, fault)
            raise queue.later()
    return await waiting


def _add_others(
    app: FastAPI, queue: Queue, offer: Offer, limits: Limits, metrics: Metrics, *, with_token: bool
) -> None:
    text, policy = page()
    about = {**asdict(offer), "limits": asdict(limits), "draw_score": DRAW_FLOOR}

    @app.get("/", include_in_schema=False)
    async def show() -> Response:
        return Response(text, media_type="text/html", headers={"Content-Security-Policy": policy})

    @app.get("/about", summary="Classes, generators and limits", responses=PROBLEMS)
    async def tell() -> About:
        return About.model_validate(about)

    @app.get("/healthz", summary="200 while the server runs")
    async def healthy() -> dict[str, bool]:
        return {"healthy": True}

    @app.get("/readyz", summary="200 while photos are processed, else 503", responses={503: {"model": Problem}})
    async def ready() -> dict[str, bool]:
        if not queue.ready:
            raise HTTPException(503, "the detector is starting, or the server is stopping", {"Retry-After": "1"})
        return {"ready": True}

    @app.get(
        "/metrics",
        summary="Counts for Prometheus",
        response_class=Response,
        responses={200: {"content": {"text/plain": {}}}, **PROBLEMS},
    )
    async def count() -> Response:
        return Response(metrics.text(), headers={"Content-Type": KIND})


async def _busy(limits: Limits, request: Request, error: Exception) -> Response:
    assert isinstance(error, Full), "registered for it alone"
    await pass_over(request, limits.max_bytes)
    return JSONResponse({"error": str(error)}, 503, {"Retry-After": str(error.retry_after)})


async def _problem(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException), "registered for it alone"
    return JSONResponse({"error": error.detail}, error.status_code, error.headers)


async def _unfit(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError), "registered for it alone"
    first = error.errors()[0]
    place, *name = first["loc"]  # such as query, classes, 0
    return JSONResponse({"error": f"{name[0] if name else place}: {first['msg']}"}, 422)
