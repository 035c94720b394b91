"""What an exported file scores on the validation images, beside the model that it was made of."""

from collections.abc import Sequence

from heads.contract import Prediction
from tasks.data.sample import Batch
from tasks.evaluation import Evaluator
from tasks.inference import Predictor
from tasks.prediction.exported_engine import ExportedEngine
from tasks.prediction.from_torch import prediction_of
from tasks.prediction.preparing import pad_batch
from tasks.progress import Reporter


class ExportedPredictor(Predictor):
    """An exported file in the place of the models of an evaluation.

    Args:
        engine: the file.
    """

    def __init__(self, engine: ExportedEngine) -> None:
        self.engine = engine

    def __call__(self, batch: Batch) -> dict[str, Sequence[Prediction]]:
        """Predictions of every head by its name, one an image."""
        description = self.engine.description
        found: dict[str, list[Prediction]] = {name: [] for name in description.heads}
        for row, (height, width) in enumerate(batch.sizes.valid.tolist()):
            image = batch.images[row, :, :height, :width].permute(1, 2, 0).cpu().numpy()
            images, sizes = pad_batch([image], description.divisor, description.fixed_size)
            outputs = self.engine.run(images, sizes)
            original = batch.sizes.original[row].cpu().numpy()
            for name, own in self.engine.found(outputs, 0, sizes[0], original).items():
                found[name].append(prediction_of(own))
        return {**found}


def show_lost(evaluator: Evaluator, reference: Predictor, engine: ExportedEngine, reporter: Reporter) -> None:
    """Score both, and print the headline metrics side by side."""
    before = evaluator.evaluate(reference, reporter)
    after = evaluator.evaluate(ExportedPredictor(engine), reporter)
    rows = [
        (name, f"{before[name]:.4f}", f"{after[name]:.4f}", f"{before[name] - after[name]:+.4f}")
        for name in evaluator.headline()
    ]
    reporter.table("validation images", ("metric", "PyTorch", "exported", "lost"), rows)
