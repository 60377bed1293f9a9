"""The HTTP interface around a quick detector: every endpoint, and every limit."""

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from fastapi.testclient import TestClient
from hypothesis import given, settings
from hypothesis import strategies as st
from starlette.exceptions import HTTPException

from detect.serving.body import _from_form
from detect.serving.jobs import Job, Limits
from detect.serving.queue import Full, Queue
from tests.serving import CLASSES, OFFER, FakeWork, fake_app, photo_bytes

PHOTO = photo_bytes()
PATIENCE = 20.0  # s, for busy machines


@pytest.fixture(scope="module")
def client() -> Iterator[Any]:
    with TestClient(fake_app(FakeWork())) as made:
        yield made


def wait_until(holds: Callable[[], bool]) -> None:
    end = time.monotonic() + PATIENCE
    while not holds():
        assert time.monotonic() < end, "it does not come about"
        time.sleep(0.01)


# Answers


def test_a_photo_gives_what_detect_writes(client: Any) -> None:
    answer = client.post("/detect?name=a.jpg", content=PHOTO)
    assert answer.status_code == 200
    found = answer.json()
    assert (found["image"], found["width"], found["height"]) == ("a.jpg", 60, 40)
    assert (found["labels"], found["scores"]) == (list(CLASSES), [0.9, 0.6, 0.3])


def test_a_form_gives_the_same_and_its_file_name(client: Any) -> None:
    plain = client.post("/detect?name=b.jpg", content=PHOTO).json()
    assert client.post("/detect", files={"photo": ("b.jpg", PHOTO)}).json() == plain
    assert client.post("/detect?name=b.jpg", files={"photo": ("c.jpg", PHOTO)}).json() == plain


@pytest.mark.parametrize(
    ("query", "labels", "source"),
    [
        ("score=0.5", ["cat", "dog"], "quick"),
        ("classes=dog", ["dog"], "quick"),
        ("classes=dog&classes=cat&proposals=other", ["cat", "dog"], "other"),
        ("score=1", [], ""),
    ],
)
def test_a_request_chooses_within_the_limits(client: Any, query: str, labels: list[str], source: str) -> None:
    found = client.post(f"/detect?{query}", content=PHOTO).json()
    assert found["labels"] == labels
    assert found["sources"] == [source] * len(labels)


def test_max_boxes_reach_the_detector() -> None:
    work = FakeWork()
    with TestClient(fake_app(work)) as client:
        client.post("/detect?max_boxes=7", content=PHOTO)
        client.post("/detect", content=PHOTO)
    assert [job.max_boxes for group in work.groups for job in group] == [7, OFFER.max_boxes]


@pytest.mark.parametrize(
    ("query", "word"),
    [
        ("score=0.01", "score"),
        ("score=1.01", "score"),
        ("score=nan", "score"),
        ("max_boxes=0", "max_boxes"),
        ("max_boxes=201", "max_boxes"),
        ("classes=cow", "classes"),
        ("proposals=/etc/passwd", "proposals"),
        ("answer=html", "answer"),
        ("name=" + "x" * 256, "name"),
    ],
)
def test_what_is_not_offered_is_refused_by_name(client: Any, query: str, word: str) -> None:
    answer = client.post(f"/detect?{query}", content=PHOTO)
    assert answer.status_code == 422
    assert answer.json()["error"].startswith(f"{word}: ")


@pytest.mark.parametrize(("query", "accept"), [("?answer=picture", "*/*"), ("", "image/jpeg")])
def test_the_drawn_picture(client: Any, query: str, accept: str) -> None:
    answer = client.post(f"/detect{query}", content=PHOTO, headers={"Accept": accept})
    assert (answer.status_code, answer.headers["content-type"]) == (200, "image/jpeg")
    assert answer.content.startswith(b"\xff\xd8")


def test_a_picture_shows_what_is_usually_drawn_unless_a_score_is_named() -> None:
    work = FakeWork()
    with TestClient(fake_app(work)) as client:
        client.post("/detect?answer=picture", content=PHOTO)
        client.post("/detect?answer=picture&score=0.2", content=PHOTO)
        client.post("/detect?answer=json", content=PHOTO, headers={"Accept": "image/jpeg"})
    jobs = [job for group in work.groups for job in group]
    assert [(job.picture, job.score) for job in jobs] == [(True, 0.5), (True, 0.2), (False, 0.05)]


# Limits


@pytest.mark.parametrize("content", [b"", b"no photo"])
def test_what_is_not_a_picture_is_named(client: Any, content: bytes) -> None:
    answer = client.post("/detect", content=content)
    assert (answer.status_code, set(answer.json())) == (422, {"error"})


@pytest.mark.parametrize("told", [True, False])
def test_a_body_beyond_the_limit_is_refused_whether_it_tells_its_length_or_not(told: bool) -> None:
    work = FakeWork()
    with TestClient(fake_app(work, Limits(max_bytes=1000))) as client:
        body = b"x" * 1001
        answer = client.post("/detect", content=body if told else iter([body[:500], body[500:]]))
        assert (answer.status_code, "1000 bytes" in answer.json()["error"]) == (413, True)
        assert client.post("/detect", content=b"x" * 1000).status_code == 422
    assert len(work.groups) == 1


@pytest.mark.parametrize(
    "files",
    [{"other": ("a.jpg", PHOTO)}, {"photo": (None, "text")}, [("photo", ("a", PHOTO)), ("photo", ("b", PHOTO))]],
)
def test_a_form_without_one_photo_is_refused(client: Any, files: Any) -> None:
    answer = client.post("/detect", files=files)
    assert (answer.status_code, "`photo`" in answer.json()["error"]) == (400, True)


@pytest.mark.parametrize("kind", ["multipart/form-data", "multipart/form-data; boundary=x", "multipart/form-data; a"])
def test_a_damaged_form_is_refused(client: Any, kind: str) -> None:
    assert client.post("/detect", content=b"--y\r\n", headers={"Content-Type": kind}).status_code == 400


@settings(deadline=None)
@given(
    kind=st.sampled_from(
        [
            *("", "; boundary=b", '; boundary="b"', "; boundary*=utf-8''b", "; boundary=", "; boundary=\xe9"),
            *("; boundary*=idna''b%ff", "; boundary*=undefined''b"),
        ]
    ),
    pieces=st.lists(
        st.sampled_from(
            [
                *(b"--b", b"\r\n", b"--", b"\r\n--b", b"\r\n--b--\r\n", b"photo", b"x" * 5000, b"\xff\0"),
                *(
                    b"Content-Disposition: form-data",
                    b'; name="photo"',
                    b'; filename="a.jpg"',
                    b"; filename*=q''%ff",
                    b"; filename*=idna''%ff",
                ),
            ]
        ),
        max_size=9,
    ),
)
def test_any_form_is_a_photo_or_refused(kind: str, pieces: list[bytes]) -> None:
    try:
        found = _from_form(b"".join(pieces), f"multipart/form-data; boundary{kind}")
    except HTTPException:  # and nothing else
        return
    assert tuple(map(type, found)) == (bytes, str)


@pytest.mark.parametrize("name", ["a b.jpg", 'with "quotes".jpg', "猫.jpg", "x" * 300])
def test_names_in_forms_are_understood(client: Any, name: str) -> None:
    answer = client.post("/detect", files={"photo": (name, PHOTO)})
    assert answer.status_code == 200
    assert answer.json()["image"] in (name[:255], name.replace('"', "%22"))


def test_a_form_of_many_heads_is_refused_without_going_through_them(client: Any) -> None:
    heads = b"a:\r\n" * 1_000_000
    body = b"--b\r\n" + heads + b'Content-Disposition: form-data; name="photo"; filename="a"\r\n\r\n\r\n--b--\r\n'
    answer = client.post("/detect", content=body, headers={"Content-Type": "multipart/form-data; boundary=b"})
    assert (answer.status_code, "no file" in answer.json()["error"]) == (400, True)


def test_a_full_queue_refuses_at_once_and_says_when_to_try_again() -> None:
    work = FakeWork()
    work.gate.clear()
    with TestClient(fake_app(work, Limits(waiting=2))) as client, ThreadPoolExecutor(2) as pool:
        taken = [pool.submit(client.post, "/detect", content=PHOTO) for _ in range(2)]
        wait_until(lambda: b"rcnn_taken 2.0" in client.get("/metrics").content)
        refused = client.post("/detect", content=PHOTO)
        work.gate.set()
        assert [each.result().status_code for each in taken] == [200, 200]
        assert client.post("/detect", content=PHOTO).status_code == 200
    assert refused.status_code == 503
    assert int(refused.headers["retry-after"]) >= 1


def test_photos_that_wait_go_to_the_detector_together() -> None:
    work = FakeWork()
    work.gate.clear()
    with TestClient(fake_app(work, Limits(together=3))) as client, ThreadPoolExecutor(5) as pool:
        taken = [pool.submit(client.post, "/detect", content=PHOTO) for _ in range(5)]
        wait_until(lambda: b"rcnn_taken 5.0" in client.get("/metrics").content)
        work.gate.set()
        assert {each.result().status_code for each in taken} == {200}
    sizes = [len(group) for group in work.groups]
    assert (sum(sizes), max(sizes)) == (5, 3)


def test_work_that_takes_too_long_is_answered_all_the_same() -> None:
    work = FakeWork()
    work.gate.clear()
    with TestClient(fake_app(work, Limits(seconds=0.3, together=1))) as client, ThreadPoolExecutor(2) as pool:
        first = pool.submit(client.post, "/detect", content=PHOTO)
        wait_until(lambda: bool(work.groups))
        second = client.post("/detect", content=PHOTO)  # its turn does not come
        work.gate.set()
        assert first.result().status_code == 504
    assert (second.status_code, second.headers["retry-after"]) == (503, "1")
    assert len(work.groups) == 1


def test_stopping_finishes_what_was_taken_and_takes_nothing_more() -> None:
    work = FakeWork()
    work.gate.clear()
    queue = Queue(work, Limits())
    queue.start()
    with queue.place():
        futures = [queue.put(Job(PHOTO, name, "quick", 0.05)) for name in ("a", "b")]
        closing = threading.Thread(target=queue.close)
        closing.start()
        wait_until(lambda: not queue.ready)
        with pytest.raises(Full), queue.place():
            pass
        work.gate.set()
        closing.join(PATIENCE)
        assert [future.result(0).status for future in futures] == [200, 200]


def test_a_detector_that_fails_answers_and_the_next_photo_is_worked_on() -> None:
    class Failing(FakeWork):
        def __call__(self, jobs: Any) -> Any:
            if not self.groups:
                self.groups.append(jobs)
                raise RuntimeError("of the detector")
            yield from super().__call__(jobs)

    with TestClient(fake_app(Failing())) as client:
        first, second = (client.post("/detect", content=PHOTO) for _ in range(2))
    assert (first.status_code, second.status_code) == (500, 200)
    assert first.json() == {"error": "the detector failed"}


# Who may ask


TOKEN = "a b+c/=" * 3


@pytest.mark.parametrize("given", [None, "Bearer x", f"Bearer {TOKEN}x", f"Basic {TOKEN}", "Bearer", TOKEN])
@pytest.mark.parametrize("path", ["/detect", "/about", "/metrics"])
def test_without_the_token_nothing_is_answered(path: str, given: str | None) -> None:
    work = FakeWork()
    with TestClient(fake_app(work, token=TOKEN)) as client:
        headers = {} if given is None else {"Authorization": given}
        answer = client.request("POST" if path == "/detect" else "GET", path, headers=headers)
        assert (answer.status_code, answer.headers["www-authenticate"]) == (401, "Bearer")
        assert [client.get(each).status_code for each in ("/", "/healthz", "/readyz", "/openapi.json")] == [200] * 4
    assert work.groups == []


def test_with_the_token_all_is() -> None:
    with TestClient(fake_app(FakeWork(), token=TOKEN)) as client:
        headers = {"Authorization": f"Bearer {TOKEN}"}
        assert client.post("/detect", content=PHOTO, headers=headers).status_code == 200
        assert client.get("/about", headers=headers).status_code == 200


@pytest.mark.parametrize(
    ("host", "status"),
    [("localhost", 200), ("LOCALHOST:8000", 200), ("[::1]:8000", 200), ("evil.example", 421), ("", 421)],
)
def test_a_local_server_answers_to_its_own_names_alone(host: str, status: int) -> None:
    with TestClient(fake_app(FakeWork(), hosts=("localhost", "[::1]"))) as client:
        assert client.get("/about", headers={"Host": host}).status_code == status


@pytest.mark.parametrize(
    ("site", "status"), [("cross-site", 403), ("same-site", 403), ("same-origin", 200), ("none", 200)]
)
def test_pages_of_other_sites_may_not_ask(client: Any, site: str, status: int) -> None:
    answer = client.post("/detect", content=PHOTO, headers={"Sec-Fetch-Site": site, "Origin": "https://evil.example"})
    assert answer.status_code == status
    assert not [name for name in answer.headers if name.startswith("access-control")]


# What stands around


def test_the_page_loads_nothing_from_elsewhere_and_runs_only_its_own(client: Any) -> None:
    answer = client.get("/")
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert policy.count("sha256-") == 2
    assert "://" not in answer.text.replace("http://www.w3.org/2000/svg", "")


def test_every_answer_says_how_it_may_be_used(client: Any) -> None:
    for path in ("/", "/about", "/metrics", "/nowhere"):
        headers = client.get(path).headers
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["cache-control"] == "no-store"
        assert "default-src 'none'" in headers["content-security-policy"]


def test_about_tells_what_is_offered(client: Any) -> None:
    about = client.get("/about").json()
    assert (about["classes"], about["proposals"]) == (list(OFFER.classes), list(OFFER.proposals))
    assert about["limits"]["max_bytes"] == Limits().max_bytes


def test_not_ready_while_the_detector_is_started_again() -> None:
    work = FakeWork()
    with TestClient(fake_app(work)) as client:
        assert client.get("/readyz").json() == {"ready": True}
        work.ready = False
        answer = client.get("/readyz")
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
        assert client.get("/healthz").status_code == 200


def test_metrics_count_requests_objects_and_groups() -> None:
    with TestClient(fake_app(FakeWork())) as client:
        client.post("/detect", content=PHOTO)
        client.post("/detect", content=b"")
        client.get("/any/path/there/is/not")
        text = client.get("/metrics").text
    assert 'rcnn_requests_total{path="/detect",status="200"} 1.0' in text
    assert 'rcnn_requests_total{path="/detect",status="422"} 1.0' in text
    assert 'rcnn_requests_total{path="other",status="404"} 1.0' in text
    assert "rcnn_objects_total 3.0" in text
    assert "rcnn_group_photos_count 2.0" in text


def test_the_description_names_every_answer_and_has_examples(client: Any) -> None:
    described = client.get("/openapi.json").json()
    detect = described["paths"]["/detect"]["post"]
    assert {"200", "400", "401", "408", "413", "422", "500", "503", "504"} <= set(detect["responses"])
    assert {"image/jpeg", "multipart/form-data"} <= set(detect["requestBody"]["content"])
    assert described["components"]["schemas"]["Detected"]["examples"]
    assert [client.get(path).status_code for path in ("/docs", "/redoc")] == [404, 404]  # they load from elsewhere


@settings(deadline=None, max_examples=20)
@given(name=st.text(max_size=255))
def test_any_name_comes_back_as_it_was(client: Any, name: str) -> None:
    answer = client.post("/detect", params={"name": name}, content=PHOTO)
    assert answer.json()["image"] == name
