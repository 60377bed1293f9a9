"""A server that is asked to stop answers what it has taken, and ends as other commands do."""

import http.client
import os
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

from tests.documents import ROOT
from tests.serving import photo_bytes

CODE = """
import threading
from detect.cli import guarded
from detect.serving.server import bind, run
from tests.serving import FakeWork, fake_app

work, listening, ended = FakeWork(), bind("127.0.0.1", 0), threading.Event()
answer = FakeWork.__call__

def slowly(self, jobs):
    print("taken", flush=True)
    input()  # until the test has asked us to stop
    assert not ended.wait(0.5), "it did not wait for this"
    yield from answer(self, jobs)

FakeWork.__call__ = slowly

def serve():
    try:
        run(fake_app(work), listening, seconds=30, begun=lambda: print(listening.getsockname()[1], flush=True))
    finally:
        ended.set()

guarded(serve)
"""


def post(port: int) -> int:
    with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=60)) as connection:
        connection.request("POST", "/detect", photo_bytes())
        return connection.getresponse().status


def test_sigterm_lets_it_finish() -> None:
    words = [sys.executable, "-c", CODE]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(words, cwd=ROOT, text=True, **pipes) as server, ThreadPoolExecutor(1) as pool:
        assert server.stdin is not None
        assert server.stdout is not None
        answer = pool.submit(post, int(server.stdout.readline()))
        assert server.stdout.readline() == "taken\n"
        os.kill(server.pid, signal.SIGTERM)
        server.stdin.write("\n")
        server.stdin.flush()
        assert answer.result() == 200
        _, said = server.communicate()
    assert (server.returncode, said) == (143, "rcnn: stopped\n")
