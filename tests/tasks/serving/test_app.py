"""The API answers what the model finds, refuses what it cannot use, and lives on."""

import asyncio
import base64
import re
import struct
import threading
import time
import zlib
from pathlib import Path
from typing import Any

import cv2
import httpx
import numpy as np
import pytest
from fastapi.testclient import TestClient
from pycocotools import mask as coco_mask

from tasks import load_model
from tasks.prediction.engine import Engine
from tasks.prediction.found_masks import FoundMasks
from tasks.prediction.loaded_model import LoadedModel
from tasks.serving.app import Limits, create_app
from tests.tasks.serving.conftest import LIMITS, Serve, encoded


def test_boxes_are_those_of_the_model(served: Serve, trained: Path, image: Path) -> None:
    client = served(trained)
    answer = client.post("/predict", content=image.read_bytes())
    assert answer.status_code == 200, answer.text
    found = answer.json()
    assert (found["width"], found["height"]) == (64, 64)
    assert "picture" not in found
    boxes = found["heads"]["boxes"]["found"]
    expected = load_model(trained, device="cpu")(image).to_coco()
    assert [{k: v for k, v in box.items() if k != "label"} for box in boxes] == [
        {k: v for k, v in row.items() if k != "image_id"} for row in expected
    ]
    classes = {own["category_id"]: own["label"] for own in client.get("/model").json()["heads"]["boxes"]["classes"]}
    assert all(box["label"] == classes[box["category_id"]] for box in boxes)
    middle = boxes[len(boxes) // 2]["score"]
    some = client.post(f"/predict?threshold={middle}", content=image.read_bytes()).json()["heads"]["boxes"]["found"]
    assert 0 < len(some) < len(boxes)
    assert all(box["score"] >= middle for box in some)
    form = client.post("/predict", files={"file": ("../../etc/passwd", image.read_bytes(), "image/png")})
    assert form.json()["heads"] == found["heads"]


def test_masks_labels_and_the_picture(served: Serve, trained_masks: Path, trained_labels: Path, image: Path) -> None:
    answer = served(trained_masks).post("/predict?picture=true", content=image.read_bytes()).json()
    expected = load_model(trained_masks, device="cpu")(image)["masks"]
    assert isinstance(expected, FoundMasks)
    (head,) = answer["heads"].values()
    classes = load_model(trained_masks, device="cpu").description.heads["masks"].labels
    for own in head["found"]:
        inside = np.asfortranarray(expected.planes[0] == classes.ids.index(own["category_id"]) + 1, np.uint8)
        assert own["segmentation"] == {"size": [64, 64], "counts": coco_mask.encode(inside)["counts"].decode()}
        assert own["area"] == inside.sum() > 0
    assert sum(own["area"] for own in head["found"]) == np.count_nonzero(expected.planes)
    kind, data = answer["picture"].split(",")
    assert kind == "data:image/jpeg;base64"
    picture = cv2.imdecode(np.frombuffer(base64.b64decode(data), np.uint8), cv2.IMREAD_COLOR)
    assert np.abs(picture.astype(int) - cv2.imread(str(image))).mean() < 12
    answer = served(trained_labels).post("/predict", content=image.read_bytes()).json()["heads"]["labels"]
    assert answer["target"] == "single"
    assert sum(answer["scores"].values()) == pytest.approx(1, abs=1e-4)
    assert answer["label"] == max(answer["scores"], key=answer["scores"].get)


def test_heads_are_chosen(served: Serve, trained_joint: Path, image: Path) -> None:
    client = served(trained_joint)
    names = list(client.get("/model").json()["heads"])
    assert len(names) > 1
    assert list(client.post("/predict", content=image.read_bytes()).json()["heads"]) == names
    one = client.post(f"/predict?head={names[1]}", content=image.read_bytes()).json()
    assert list(one["heads"]) == names[1:2]
    odd = client.post("/predict?head=nose", content=image.read_bytes())
    assert odd.status_code == 422
    assert odd.json() == {"error": f"head is 'nose'; expected one of {', '.join(names)}", "field": "head"}


def png_of(width: int, height: int) -> bytes:
    """A file of some bytes that claims to be that large."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")


GOOD = encoded(40, 60)


@pytest.mark.parametrize(
    ("request_", "status", "message"),
    [
        ({"content": b""}, 400, "the body is empty; expected an image file"),
        ({"content": b"hello"}, 415, "5 bytes that begin like no image; expected a file of the kinds JPEG, PNG"),
        ({"content": GOOD[: len(GOOD) // 2]}, 422, "the upload: the image is cut off or damaged"),
        ({"content": encoded(40, 60, ".jpg")[:300]}, 422, "the upload: "),
        ({"content": b"\xff\xd8\xff" + bytes(1000)}, 422, "the upload: not an image that can be read"),
        ({"content": encoded(300, 300)}, 413, "the upload has more than 200000 bytes; expected at most that"),
        ({"content": png_of(60_000, 60_000)}, 413, "60000 x 60000 pixels; expected at most 1000000 in all"),
        ({"content": GOOD, "params": {"threshold": 2}}, 422, "threshold is '2': "),
        ({"content": GOOD, "params": {"threshold": "nan"}}, 422, "threshold is 'nan': "),
        ({"content": GOOD, "params": {"frame": 1}}, 422, "frame is 1; expected 0 to 0, as the file has 1"),
        ({"data": {"file": "text"}, "files": {}}, 415, "begin like no image"),
        ({"files": {"file": ("x.png", b"")}}, 400, "the body is empty"),
        ({"content": b"junk", "headers": {"content-type": "multipart/form-data"}}, 400, "boundary"),
        ({"content": b"\x1f\x8b" + bytes(50)}, 422, "the upload: "),
        ({"content": bytes(128) + b"DICM" + bytes(50)}, 422, "the upload: "),
    ],
)
def test_refused_in_one_line(served: Serve, trained: Path, request_: dict[str, Any], status: int, message: str) -> None:
    client = served(trained)
    answer = client.post("/predict", **request_)
    assert answer.status_code == status, answer.text
    assert answer.json().keys() == {"error", "field"}
    assert message in answer.json()["error"]
    assert "\n" not in answer.json()["error"]
    assert "/tmp" not in answer.json()["error"]
    assert client.post("/predict", content=GOOD).status_code == 200
    assert client.get("/health").json().items() >= {"answered": 1, "refused": 1, "failed": 0, "waiting": 0}.items()


def test_the_length_that_is_claimed_is_not_believed(served: Serve, trained: Path) -> None:
    parts = (bytes(50_000) for _ in range(100))
    answer = served(trained).post("/predict", content=parts)
    assert answer.status_code == 413


def test_rate_of_a_client(served: Serve, trained: Path) -> None:
    client = served(trained, rate=2)
    assert [client.post("/predict", content=GOOD).status_code for _ in range(3)] == [200, 200, 429]
    last = client.post("/predict", content=GOOD)
    assert 25 <= int(last.headers["retry-after"]) <= 30
    assert "more than 2 images a minute" in last.json()["error"]
    assert client.get("/health").status_code == 200


class Slow(Engine):
    """A model that waits until it is let go, or fails."""

    def __init__(self, engine: Engine) -> None:
        self.engine, self.description = engine, engine.description
        self.go, self.fails = threading.Event(), False

    def predict(self, images: Any) -> Any:
        assert self.go.wait(20)
        if self.fails:
            raise RuntimeError("a secret of the model")
        return self.engine.predict(images)


@pytest.fixture
def slow(trained: Path) -> Slow:
    return Slow(load_model(trained, device="cpu").engine)


def test_full_queue_and_health_meanwhile(slow: Slow) -> None:
    async def check() -> None:
        app = create_app(LoadedModel(slow), Limits(**{**LIMITS, "queue": 1}))
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://x") as client:
            asked = [asyncio.create_task(client.post("/predict", content=GOOD)) for _ in range(2)]
            while (await client.get("/health")).json()["waiting"] < 2:
                await asyncio.sleep(0.01)
            assert (await client.get("/health")).json()["status"] == "busy"
            third = await client.post("/predict", content=GOOD)
            assert (third.status_code, third.headers["retry-after"]) == (503, "1")
            slow.go.set()
            assert [(await task).status_code for task in asked] == [200, 200]
            assert (await client.get("/health")).json().items() >= {"status": "ok", "waiting": 0, "answered": 2}.items()

    asyncio.run(check())


def test_a_prediction_that_takes_too_long(slow: Slow) -> None:
    with TestClient(create_app(LoadedModel(slow), Limits(**{**LIMITS, "seconds": 0.2}))) as client:
        answer = client.post("/predict", content=GOOD)
        assert answer.status_code == 504
        assert "no answer within 0.2 s" in answer.json()["error"]
        assert client.get("/health").json()["waiting"] == 1  # the model is still at it
        slow.go.set()
        deadline = time.monotonic() + 10
        while client.get("/health").json()["waiting"] and time.monotonic() < deadline:
            time.sleep(0.01)
        assert client.post("/predict", content=GOOD).status_code == 200


def test_a_model_that_fails(slow: Slow, caplog: pytest.LogCaptureFixture) -> None:
    slow.fails = True
    slow.go.set()
    with TestClient(create_app(LoadedModel(slow), Limits(**LIMITS)), raise_server_exceptions=False) as client:
        answer = client.post("/predict", content=GOOD)
        assert answer.status_code == 500
        assert "secret" not in answer.text
        assert "a secret of the model" in caplog.text
        slow.fails = False
        assert client.post("/predict", content=GOOD).status_code == 200
        assert client.get("/health").json()["failed"] == 1


def test_page_and_headers(served: Serve, trained: Path) -> None:
    client = served(trained)
    for path, kind in (("/", "text/html"), ("/page.css", "text/css"), ("/page.js", "text/javascript")):
        answer = client.get(path)
        assert answer.status_code == 200
        assert answer.headers["content-type"].startswith(kind)
        assert "//" not in re.sub(r"^ *//.*|; //.*", "", answer.text, flags=re.MULTILINE)  # nothing from elsewhere
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["content-security-policy"].startswith("default-src 'none'")
    for path in ("/docs", "/..%2f..%2fetc/passwd", "/page.css/x", "/nothing"):
        assert client.get(path).status_code == 404, path
        assert client.get(path).json()["field"] == "path"
    assert client.get("/predict").status_code == 405


def test_schema_describes_the_answers(served: Serve, trained_joint: Path, image: Path) -> None:
    client = served(trained_joint)
    schema = client.get("/openapi.json").json()
    post = schema["paths"]["/predict"]["post"]
    assert set(post["responses"]) >= {"200", "400", "413", "415", "422", "429", "503", "504"}
    assert "multipart/form-data" in post["requestBody"]["content"]
    assert {own["name"] for own in post["parameters"]} == {"threshold", "head", "frame", "picture"}
    answer = client.post("/predict", content=image.read_bytes()).json()
    described = schema["components"]["schemas"]["PredictionAnswer"]["properties"]
    assert answer.keys() <= described.keys()
