"""The server as a Ray Serve deployment: replicas on many machines, each with a detector.

serve run detect.serving.on_ray:application features=shared proposals=multibox replicas=2
"""

import os
from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from detect.serving.jobs import TOKEN_VARIABLE, Limits
from detect.serving.loading import Loading
from structures.errors import InputError
from structures.extras import installed

EXTRA = "ray"
REPLICA = {"replicas": "1", "gpus": "0", "cpus": "1"}  # arguments for the replicas, with their defaults
NUMBERS = {"score_floor": float, "nms_threshold": float, "max_boxes": int, "max_per_class": int, "batch_size": int}
WORDS = ("weights", "proposals", "features", "device", "engine", "dtype", "exif")


def application(words: Mapping[str, str]) -> Any:
    """Return the deployment for `serve run`.

    Args:
        words: arguments of `detect.detector.Detector.load` (strings and numbers), fields of
            `detect.serving.jobs.Limits`, `replicas`, `gpus` and `cpus` per replica, and `hosts`, separated by commas.
            The token is read from RCNN_TOKEN of this process.

    Raises:
        InputError: an argument is unknown, or not a number where one is expected.
    """
    for package in ("ray.serve", "fastapi", "prometheus_client"):
        installed(package, extra="serve" if package != "ray.serve" else EXTRA)
    limits, detector, replica, hosts = parsed(words)
    return deployment(Loading(detector, max_pixels=limits.max_pixels), limits, replica, hosts=hosts).bind()


def parsed(words: Mapping[str, str]) -> tuple[Limits, dict[str, Any], dict[str, float], tuple[str, ...]]:
    """Sort the arguments by what they are for: limits, detector, replicas, hosts.

    >>> parsed({"features": "shared", "score_floor": "0.3", "waiting": "8", "gpus": "0.5"})[1:3]
    ({'features': 'shared', 'score_floor': 0.3}, {'replicas': 1.0, 'gpus': 0.5, 'cpus': 1.0})
    """
    limits = {field.name: type(field.default) for field in fields(Limits)}
    kinds: dict[str, Any] = {**dict.fromkeys(WORDS, str), **NUMBERS, **limits, **dict.fromkeys(REPLICA, float)}
    found: dict[str, Any] = {}
    for name, word in words.items():
        if name != "hosts" and name not in kinds:
            raise InputError(f"unknown argument {name!r}; known: {', '.join(sorted({*kinds, 'hosts'}))}")
        try:
            found[name] = kinds.get(name, str)(word)
        except ValueError:
            raise InputError(f"{name}={word}: not a number") from None
    replica = {name: float(found.pop(name, usual)) for name, usual in REPLICA.items()}
    hosts = tuple(name for name in found.pop("hosts", "").lower().split(",") if name)
    of_limits = {name: found.pop(name) for name in limits if name in found}
    return Limits(**of_limits), found, replica, hosts


def deployment(loading: Loading, limits: Limits, replica: Mapping[str, float], *, hosts: tuple[str, ...] = ()) -> Any:
    """Return a deployment whose replicas each load a detector and answer as `rcnn serve` does.

    Args:
        loading: loads the detector.
        limits: limits of requests, per replica.
        replica: number of "replicas", and "gpus" and "cpus" per replica.
        hosts: host names that requests may use; none for any.
    """
    serve = installed("ray.serve", extra=EXTRA)
    token = os.environ.get(TOKEN_VARIABLE, "").strip()

    def build() -> Any:  # runs in the replica
        from detect.runs.machine import DISTRIBUTION, versions
        from detect.serving.app import make_app
        from detect.serving.queue import Queue

        work = loading()
        version = versions().get(DISTRIBUTION, "")
        return make_app(Queue(work, limits), work.offer, limits, token=token, hosts=hosts, version=version)

    @serve.deployment(
        name="rcnn",
        num_replicas=int(replica["replicas"]),
        max_ongoing_requests=limits.waiting + 8,  # more than its queue holds, so that a replica can refuse at once
        ray_actor_options={"num_cpus": replica["cpus"], "num_gpus": replica["gpus"]},
        graceful_shutdown_timeout_s=2 * limits.seconds,
    )
    @serve.ingress(build)
    class Rcnn:
        """A replica."""

    return Rcnn
