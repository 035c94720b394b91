"""Tables as pages have them."""

from tasks.benchmark.table import Table, as_markdown


def test_markdown_is_what_is_printed() -> None:
    table = Table("train: medians", ("", "ms"), [("ours | fp32", "1,200"), ("theirs", "2,400")], [], ["A note."])
    assert table.markdown() == (
        "**train: medians**\n\n|   | ms |\n| --- | ---: |\n| ours \\| fp32 | 1,200 |\n| theirs | 2,400 |\n\nA note.\n"
    )
    page = as_markdown([table, table], {"date": "2026-11-21", "cores": "2"}, "python tools/benchmark.py train")
    assert page.startswith("```bash\npython tools/benchmark.py train\n```\n\n**train: medians**\n\n|")
    assert page.endswith("A note.\n\nMeasured on: date 2026-11-21, cores 2.\n")
    assert page.count(table.markdown()) == 2
