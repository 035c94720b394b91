"""`tools/predict.py`: a model on files, and what is found in them written down."""

from contextlib import ExitStack

from tasks.arguments import PredictArguments
from tasks.output import writing
from tasks.prediction.annotation_writers import CocoWriter, VocWriter, YoloWriter
from tasks.prediction.image_places import ImageReader, find_images
from tasks.prediction.image_predictions import ImagePredictions
from tasks.prediction.loaded_model import load_model
from tasks.prediction.tiles import TiledEngine
from tasks.prediction.writers import CsvWriter, DrawnWriter, JsonWriter, MasksWriter, Writer
from tasks.progress import Reporter

WRITERS: dict[str, type[Writer]] = {
    "json": JsonWriter,
    "masks": MasksWriter,
    "drawn": DrawnWriter,
    "csv": CsvWriter,
    "coco": CocoWriter,
    "yolo": YoloWriter,
    "voc": VocWriter,
}
SOME_LEFT_OUT = 1


def predict_files(arguments: PredictArguments) -> int:
    """Write what is found in the images in the formats that were asked for.

    An image that cannot be read is named and left out; the others are still done.

    Returns:
        The exit code: 0, or 1 where an image was left out.

    Raises:
        UserError: the model cannot be used, there is no image at all, or a file cannot be written.
    """
    files = find_images(arguments.images, videos=True)
    model = load_model(arguments.run, arguments.device, arguments.only)
    reporter = Reporter()
    for line in model.engine.notes():
        reporter.say(line)
    engine = model.engine
    if arguments.tile is not None:
        engine = TiledEngine(engine, arguments.tile, arguments.overlap)
    description, out = model.description, arguments.out
    with writing(out):
        out.mkdir(parents=True, exist_ok=True)
    images = ImageReader(files, description.image, description.data, reporter, "predict, images")
    done = 0
    # Opened and closed within `writing`: both may write.
    with writing(out), ExitStack() as opened:
        writers = [
            opened.enter_context(
                WRITERS[name](out, description, arguments.threshold, masks="masks" in arguments.formats)
            )
            for name in dict.fromkeys(arguments.formats)
        ]
        for image_id, place, image in images:
            (found,) = engine.predict([image])
            predictions = ImagePredictions(image, found, description, str(place))
            for writer in writers:
                writer.add(image_id, place, predictions)
            done += 1
    reporter.say(f"{done} images: {', '.join(dict.fromkeys(arguments.formats))} in {out}")
    if not images.unreadable:
        return 0
    reporter.say(f"{len(images.unreadable)} could not be read; exit code {SOME_LEFT_OUT}")
    return SOME_LEFT_OUT
