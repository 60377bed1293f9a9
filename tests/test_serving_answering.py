"""What is answered to photos that come as bytes, by a detector without a network."""

import io
import json
from typing import Any

import numpy as np
import PIL.Image
import pytest

from detect.detector import Detector
from detect.serving.answering import Answering
from detect.serving.jobs import Job
from proposals.baselines import Grid
from structures.boxes import Boxes, Floats
from structures.errors import InputError
from structures.files import digest
from structures.records import Image, Proposals
from tests.serving import photo_bytes

PHOTO = photo_bytes(60, 40)


class Answers:
    """A cat is in every box of a photo, the larger the surer; a photo of 13 pixels' width fails."""

    classes = ("cat", "dog")

    def __call__(self, image: Image, boxes: Boxes) -> Floats:
        if image.shape[1] == 13:
            raise RuntimeError("on purpose")
        share = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1]) / (image.shape[0] * image.shape[1])
        return np.stack([share, 0 * share, 1 - share], axis=1).astype(np.float32)


def job(content: bytes = PHOTO, **more: Any) -> Job:
    return Job(content, **{"name": "a.jpg", "proposals": "grid", "score": 0.05, **more})


@pytest.fixture
def answering() -> Answering:
    detectors = {name: Detector(Grid(), Answers()) for name in ("grid", "other")}
    return Answering(detectors, max_pixels=10_000)


def one(answering: Answering, asked: Job) -> Any:
    [answer] = answering([asked])
    return json.loads(answer.body) if answer.kind == "application/json" else answer


def test_the_answer_is_the_line_that_detect_writes(answering: Answering) -> None:
    with PIL.Image.open(io.BytesIO(PHOTO)) as picture:
        found = Detector(Grid(), Answers())(picture)
    assert one(answering, job()) == found.to_dict("a.jpg") | {"file_key": digest(PHOTO)}
    assert len(found) > 1


def test_a_score_a_class_and_a_number_of_boxes_choose(answering: Answering) -> None:
    scores = one(answering, job())["scores"]
    assert one(answering, job(score=0.5))["scores"] == [score for score in scores if score >= 0.5]
    assert one(answering, job(classes=("dog",)))["scores"] == []
    first = Detector(Grid(), Answers(), max_boxes=1)
    with PIL.Image.open(io.BytesIO(PHOTO)) as picture:
        assert one(answering, job(max_boxes=1))["boxes"] == first(picture).to_dict()["boxes"]


def test_a_picture_is_the_photo_with_boxes(answering: Answering) -> None:
    [answer] = answering([job(picture=True)])
    assert answer.kind == "image/jpeg"
    with PIL.Image.open(io.BytesIO(answer.body)) as picture:
        assert (picture.format, picture.size) == ("JPEG", (60, 40))


@pytest.mark.parametrize(
    ("content", "status", "word"),
    [
        (b"", 422, "empty"),
        (b"%!PS-Adobe", 422, "not a picture"),
        (PHOTO[:-100], 422, "the photo"),
        (photo_bytes(101, 100), 413, "10000 pixels"),
        (photo_bytes(13, 10), 500, "failed on this photo"),
    ],
)
def test_a_photo_that_cannot_be_used_has_its_reason_and_the_others_their_answers(
    answering: Answering, content: bytes, status: int, word: str
) -> None:
    answers = list(answering([job(), job(content), job(), job(proposals="other")]))
    assert [answer.status for answer in answers] == [200, status, 200, 200]
    assert word in json.loads(answers[1].body)["error"]
    assert answers[0] == answers[2]


def test_a_detector_that_fails_on_all_is_given_up(answering: Answering) -> None:
    with pytest.raises(RuntimeError, match="on purpose"):
        list(answering([job(photo_bytes(13, 10))] * 3))


def test_what_is_offered_is_what_was_loaded(answering: Answering) -> None:
    offer = answering.offer
    assert (offer.classes, offer.proposals, offer.max_boxes) == (("cat", "dog"), ("grid", "other"), None)


def test_classes_that_are_not_looked_for_are_not_offered() -> None:
    assert Answering({"grid": Detector(Grid(), Answers(), only=["Dog"])}, max_pixels=9).offer.classes == ("dog",)


def test_boxes_of_known_photos_cannot_be_served() -> None:
    class Stored:
        name, parameters, notes = "file", {}, ()

        def __call__(self, image: Image) -> Proposals: ...  # type: ignore[empty-body]

        def proposals_of(self, image_id: str, image: Image) -> Proposals: ...  # type: ignore[empty-body]

    with pytest.raises(InputError, match="boxes of known photos"):
        Answering({"file": Detector(Stored(), Answers())}, max_pixels=100)  # type: ignore[arg-type]
