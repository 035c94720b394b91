"""The one thread that reads images and runs the model, and the queue before it.

One image at a time: the model takes all cores, and two at once would only wait for each other. Meanwhile the server
answers everything else.
"""

import asyncio
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from tasks.prediction.loaded_model import LoadedModel
from tasks.serving.answers import PredictionAnswer, Seconds, found_answers, picture_of
from tasks.serving.refusal import Refusal
from tasks.serving.upload import read_upload


@dataclass(frozen=True, slots=True)
class Wish:
    """What is asked of an image.

    Attributes:
        heads: whose predictions.
        threshold: boxes that score less are left out.
        frame: of a file that holds several images.
        picture: whether the image itself is sent back.
    """

    heads: Sequence[str]
    threshold: float
    frame: int
    picture: bool


class Worker:
    """Answers uploads one after another.

    Args:
        model: ready for use.
        queue: uploads that may wait besides the one being looked at.
        seconds: after which a request is told that it took too long.
    """

    def __init__(self, model: LoadedModel, queue: int, seconds: float) -> None:
        self.model, self.queue, self.seconds = model, queue, seconds
        self.waiting = 0
        self._thread = ThreadPoolExecutor(1, "model")

    @property
    def full(self) -> bool:
        """Whether another upload would be refused."""
        return self.waiting > self.queue

    async def answer(self, content: bytes, wish: Wish) -> PredictionAnswer:
        """What was found in the image of an upload.

        Raises:
            Refusal: 503, too many wait; 504, it took too long; or the image cannot be used, see `read_upload`.
        """
        if self.full:
            raise Refusal(503, f"{self.waiting} images wait already; expected fewer: try again", "queue", retry_after=1)
        loop = asyncio.get_running_loop()
        self.waiting += 1
        job = self._thread.submit(self._answer, content, wish, time.perf_counter())
        # A job that took too long stays in the thread until it is done, and counts until then.
        job.add_done_callback(lambda _: loop.call_soon_threadsafe(self._done))
        try:
            return await asyncio.wait_for(asyncio.wrap_future(job), self.seconds)
        except TimeoutError:
            raise Refusal(
                504,
                f"no answer within {self.seconds:g} s; expected a smaller image, or a server with longer --seconds",
                "queue",
            ) from None

    def close(self) -> None:
        """Wait for the image being looked at, and take no more."""
        self._thread.shutdown(cancel_futures=True)

    def _done(self) -> None:
        self.waiting -= 1

    def _answer(self, content: bytes, wish: Wish, asked: float) -> PredictionAnswer:
        begun = time.perf_counter()
        pixels = read_upload(content, self.model, wish.frame)
        read = time.perf_counter()
        (predictions,) = self.model.batch([pixels])
        found = time.perf_counter()
        height, width = predictions.size
        return PredictionAnswer(
            model=self.model.description.name,
            width=width,
            height=height,
            heads=found_answers(predictions, wish.heads, wish.threshold),
            seconds=Seconds(waiting=begun - asked, reading=read - begun, predicting=found - read),
            picture=picture_of(predictions) if wish.picture else None,
        )
