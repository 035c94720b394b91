"""A server under load: how fast it answers beside the bare model call, and whether garbage does it any harm.

    python -m tests.tasks.serving.load runs/x images/                 # latency and throughput, by number of clients
    python -m tests.tasks.serving.load runs/x images/ --requests 10000 --garbage 0.01

Starts `tools/serve.py` in a process of its own and asks over loopback. Every good request has to get the answer that
its image got alone, and every bad one a status of 4xx; the server must not end, fail or grow.
"""

import argparse
import asyncio
import json
import os
import re
import socket
import statistics
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

import httpx
import psutil

from tasks.data.files.image_file import is_image
from tests.tasks.serving.test_app import png_of

ROOT = Path(__file__).resolve().parents[3]
Bad = Callable[[Random, bytes], bytes]


def flipped(random: Random, good: bytes) -> bytes:
    """An image with some bytes of its header replaced."""
    content = bytearray(good)
    for _ in range(8):
        content[random.randrange(min(len(content), 64))] = random.randrange(256)
    return bytes(content)


GARBAGE: dict[str, Bad] = {
    "cut off": lambda random, good: good[: random.randrange(3, len(good) // 2)],
    "no image": lambda random, good: random.randbytes(random.randrange(1, 5000)),
    "empty": lambda random, good: b"",
    "bomb": lambda random, good: png_of(60_000, 60_000),
    "too large": lambda random, good: good + bytes(40_000_000),
    "beginning alone": lambda random, good: good[:16] + random.randbytes(500),
    "compressed nothing": lambda random, good: b"\x1f\x8b" + random.randbytes(200),
    "no DICOM": lambda random, good: bytes(128) + b"DICM" + random.randbytes(300),
    "flipped": flipped,
}
ABORTED, RAW = "aborted", "no HTTP"


@dataclass
class Seen:
    """What came of the requests of one load."""

    seconds: list[float] = field(default_factory=list)
    statuses: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)


@contextmanager
def started(run: Path, device_options: list[str]) -> Iterator[tuple[psutil.Process, str]]:
    """A server of a run, and its address."""
    command = [sys.executable, "-u", str(ROOT / "tools" / "serve.py"), str(run), "--port", "0", "--rate", "0"]
    process = subprocess.Popen(
        [*command, *device_options], stdout=subprocess.PIPE, text=True, env={**os.environ, "COLUMNS": "200"}
    )
    try:
        assert process.stdout is not None
        address = next(found[0] for line in process.stdout if (found := re.search(r"http://localhost:\d+", line)))
        yield psutil.Process(process.pid), address
        assert process.poll() is None, f"the server ended with {process.returncode}"
    finally:
        process.terminate()
        process.wait()


def heads_of(answer: dict[str, object]) -> str:
    return json.dumps(answer["heads"], sort_keys=True)


async def load(
    address: str, images: list[bytes], expected: list[str], clients: int, requests: int, garbage: float
) -> Seen:
    """Send so many requests by so many clients at once, each waiting for its answer before it asks again."""
    seen, random = Seen(), Random(0)
    kinds = [*GARBAGE, ABORTED, RAW]
    plan = iter([random.choice(kinds) if random.random() < garbage else "" for _ in range(requests)])

    async def client(number: int) -> None:
        own = Random(number)
        async with httpx.AsyncClient(base_url=address, timeout=120) as http:
            for kind in plan:
                which = own.randrange(len(images))
                if kind in (ABORTED, RAW):
                    _break_off(address, kind, images[which])
                    seen.statuses[kind] += 1
                    continue
                content = GARBAGE[kind](own, images[which]) if kind else images[which]
                begun = time.perf_counter()
                try:
                    answer = await http.post("/predict", content=content)
                except (httpx.WriteError, httpx.ReadError) as error:  # refused before it was sent whole
                    seen.statuses[f"{kind}: {type(error).__name__}"] += 1
                    if kind != "too large":
                        seen.wrong.append(f"{kind or 'good'}: {error!r}")
                    continue
                seen.statuses[f"{kind or 'good'}: {answer.status_code}"] += 1
                if not kind:
                    seen.seconds.append(time.perf_counter() - begun)
                    if answer.status_code != 200 or heads_of(answer.json()) != expected[which]:
                        seen.wrong.append(f"good: {answer.status_code} {answer.text[:200]}")
                elif not (400 <= answer.status_code < 500) and not (kind == "flipped" and answer.status_code == 200):
                    seen.wrong.append(f"{kind}: {answer.status_code} {answer.text[:200]}")

    await asyncio.gather(*(client(number) for number in range(clients)))
    return seen


def _break_off(address: str, kind: str, content: bytes) -> None:
    """A connection that is closed in the middle of an upload, or speaks something else."""
    host, port = address.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port))) as connection:
        if kind == RAW:
            connection.sendall(b"\x16\x03\x01" + bytes(200))
        else:
            head = f"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Length: {len(content)}\r\n\r\n".encode()
            connection.sendall(head + content[: len(content) // 2])


def bare(run: Path, files: list[Path], calls: int) -> list[float]:
    """Seconds of the model call itself, from an image in memory."""
    from tasks import load_model

    model = load_model(run)
    images = [model.read(file) for file in files]
    seconds = []
    for number in range(calls + 5):
        begun = time.perf_counter()
        model(images[number % len(images)])
        seconds.append(time.perf_counter() - begun)
    return seconds[5:]


def told(seconds: list[float]) -> str:
    """Percentiles in milliseconds."""
    ordered = sorted(1000 * own for own in seconds)
    at = [ordered[min(int(len(ordered) * share), len(ordered) - 1)] for share in (0.5, 0.95, 0.99)]
    return f"p50 {at[0]:.1f} ms, p95 {at[1]:.1f} ms, p99 {at[2]:.1f} ms"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("images", type=Path)
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 4, 16])
    parser.add_argument("--requests", type=int, default=500, help="for each number of clients")
    parser.add_argument("--garbage", type=float, default=0.0, help="share of requests that are none")
    options = parser.parse_args()
    files = sorted(file for file in options.images.iterdir() if is_image(file))[:50]
    images = [file.read_bytes() for file in files]
    if not options.garbage:
        calls = bare(options.run, files, min(options.requests, 300))
        print(f"bare model call: {told(calls)}, {1 / statistics.median(calls):.1f} images/s", flush=True)
    with started(options.run, ["--queue", "64"]) as (server, address):
        alone = [httpx.post(f"{address}/predict", content=image, timeout=120) for image in images]
        expected = [heads_of(answer.json()) for answer in alone]
        before = server.memory_info().rss
        for clients in options.clients if not options.garbage else options.clients[-1:]:
            begun = time.perf_counter()
            seen = asyncio.run(load(address, images, expected, clients, options.requests, options.garbage))
            took = time.perf_counter() - begun
            rate = len(seen.seconds) / took
            print(f"{clients} clients: {told(seen.seconds)}, {rate:.1f} images/s, {took:.0f} s", flush=True)
            for what, count in sorted(seen.statuses.items()):
                print(f"    {what}: {count}")
            assert not seen.wrong, seen.wrong[:5]
        health = httpx.get(f"{address}/health").json()
        after = server.memory_info().rss
        print(f"{health}; memory {before / 1e6:.0f} -> {after / 1e6:.0f} MB")
        assert health["failed"] == 0
        assert health["waiting"] == 0
        assert after < before + 100e6


if __name__ == "__main__":
    main()
