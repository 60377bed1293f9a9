"""The server as a Ray Serve deployment: the words of its command line, and one replica that answers."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from detect.serving.on_ray import parsed
from structures.errors import InputError
from tests.ray_cluster import ROOT, environment, free_port, needs_ray
from tests.serving import photo_bytes

SCRIPT = """
import json, sys, urllib.request
import ray
from ray import serve
from detect.serving.loading import Loading
from detect.serving.on_ray import application

ray.init(num_cpus=1, include_dashboard=False, object_store_memory=100 * 2**20, log_to_driver=False)
serve.start(http_options={"host": "127.0.0.1", "port": int(sys.argv[2])})
words = {"proposals": "grid", "max_boxes": "6", "device": "cpu", "engine": "torch", "dtype": "float32", "cpus": "0.1"}
serve.run(application(words))
there = "http://127.0.0.1:" + sys.argv[2]

def ask(path, body=None, **headers):
    request = urllib.request.Request(there + path, body, headers)
    try:
        with urllib.request.urlopen(request, timeout=120) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        return error.code, error.read()

photo = open(sys.argv[1], "rb").read()
status, body = ask("/detect?name=a.jpg&score=0.05", photo)
print(json.dumps([status, json.loads(body), ask("/readyz")[0], ask("/detect", b"no photo")[0]]))
serve.shutdown()
ray.shutdown()
"""


def test_words_are_limits_settings_and_replicas() -> None:
    words = {
        "waiting": "4",
        "seconds": "2.5",
        "max_boxes": "7",
        "weights": "default",
        "replicas": "3",
        "hosts": "A.b,c",
    }
    limits, detector, replica, hosts = parsed(words)
    assert (limits.waiting, limits.seconds, limits.together) == (4, 2.5, 8)
    assert detector == {"max_boxes": 7, "weights": "default"}
    assert (replica, hosts) == ({"replicas": 3, "gpus": 0, "cpus": 1}, ("a.b", "c"))


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ({"device": "cpu", "proposal": "grid"}, "unknown argument 'proposal'"),
        ({"waiting": "many"}, "waiting=many: not a"),
    ],
)
def test_words_that_mean_nothing_are_refused(words: dict[str, str], said: str) -> None:
    with pytest.raises(InputError, match=said):
        parsed(words)


@needs_ray
def test_a_replica_answers_as_the_server_does(tmp_path: Path) -> None:
    import json

    from detect.detector import Detector

    pytest.importorskip("fastapi", reason="fastapi is not installed: pip install 'googlenet-rcnn[serve]'")
    (tmp_path / "a.jpg").write_bytes(photo_bytes())
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(tmp_path / "a.jpg"), str(free_port())],
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
        cwd=ROOT,
        env=os.environ | environment(),
    )
    assert done.returncode == 0, done.stderr
    status, found, ready, refused = json.loads(next(line for line in done.stdout.splitlines() if line.startswith("[")))
    assert (status, ready, refused) == (200, 200, 422)
    expected = Detector.load(proposals="grid", max_boxes=6, device="cpu", engine="torch", dtype="float32")
    assert {name: value for name, value in found.items() if name != "file_key"} == expected(tmp_path / "a.jpg").to_dict(
        "a.jpg"
    )
