"""Where settings come from, how configs differ, and how they are written."""

from tasks.config import (
    ClassificationConfig,
    Experiment,
    FasterRCNNConfig,
    OptimizerConfig,
    PluginHeadConfig,
    UNetConfig,
)
from tasks.report.settings import differences, given_names, leaves, shown, sources


def test_sources() -> None:
    read = Experiment(heads={"labels": ClassificationConfig(target="regression")}, optimizer=OptimizerConfig(lr=0.1))
    resolved = read.model_copy(deep=True)
    resolved.runner.seed = 7
    resolved.heads["labels"].value_mean = (1.5,)  # as counted in the data
    start = {"as_read": read.model_dump(mode="json"), "command": ["x.py", "--runner.seed=7", "--optimizer.lr", "0.1"]}
    found = {name: (value, source) for name, value, source in sources(start, resolved)}
    assert found["runner.seed"] == (7, "command line")
    assert found["optimizer.lr"] == (0.1, "command line")  # given, though the config says the same
    assert found["heads.labels.target"] == ("regression", "config")
    assert found["heads.labels.value_mean"] == ([1.5], "filled in")
    assert found["optimizer.name"] == ("sgd", "default")
    assert found["heads.labels.name"] == ("classification", "default")
    assert set(found) == set(leaves(resolved.model_dump(mode="json")))
    unknown = {name: source for name, _, source in sources(None, resolved)}
    assert unknown["runner.seed"] == "set"
    assert unknown["optimizer.name"] == "default"


def test_heads_of_others_have_no_defaults() -> None:
    config = Experiment(heads={"mine": PluginHeadConfig(name="mine", options={"depth": 3})})
    found = {name: source for name, _, source in sources(None, config)}
    assert found["heads.mine.options.depth"] == "set"


def test_differences() -> None:
    first, other = Experiment(heads={"boxes": FasterRCNNConfig()}), Experiment(heads={"masks": UNetConfig()})
    other.optimizer.lr = 0.5
    found = dict(differences([first, other]))
    assert found.pop("optimizer.lr") == [0.02, 0.5]
    assert found == {"heads.boxes": ["faster_rcnn", None], "heads.masks": [None, "unet"]}
    other.heads = {"boxes": FasterRCNNConfig(nms_iou=0.6), "more": FasterRCNNConfig()}
    found = dict(differences([first, other]))
    assert (found["heads.boxes.nms_iou"], found["heads.more"]) == ([0.5, 0.6], [None, "faster_rcnn"])
    assert differences([first, first.model_copy(deep=True)]) == []


def test_words_of_a_command() -> None:
    words = ["config.py", "--optimizer.weight-decay", "0", "--data.root=x", "-h", "value", "--runner.no-report"]
    assert given_names(words) == {"optimizer.weight_decay", "data.root", "runner.no_report", "runner.report"}


def test_values_as_they_are_typed() -> None:
    assert [shown(value) for value in ([8, 11], [], 1e-4, None, True, "x", {})] == [
        "8 11", "()", "0.0001", "None", "True", "x", "",
    ]  # fmt: skip
