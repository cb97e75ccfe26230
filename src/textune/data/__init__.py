"""Labelled text from any source: tables, columns, examples, labels, splits and checks."""

# each of these registers its source; a folder that `datasets` saved must be tried before any folder
from textune.data import (  # isort: skip
    delimited as delimited,
    jsonlines as jsonlines,
    parquet as parquet,
    excel as excel,
    saved as saved,
    folder as folder,
    hub as hub,
    embedded as embedded,
    frame as frame,
)
from textune.data.checks import (
    Conflict,
    DataFacts,
    OddScript,
    Overlap,
    describe_groups_split_apart,
    find_overlap,
    inspect_examples,
)
from textune.data.columns import Columns, Leak, choose_columns, find_leaks
from textune.data.examples import Examples, build_examples, sample_examples
from textune.data.label_sets import (
    LabelForm,
    choose_form,
    join_set,
    match_label_columns,
    refuse_part_of_columns,
)
from textune.data.labels import Labels, build_labels, find_label_twins
from textune.data.source import Location, ReadOptions, read_table, stream_tables
from textune.data.splits import Splits, split_examples, split_folds
from textune.data.table import Table, build_table

__all__ = [
    "Columns",
    "Conflict",
    "DataFacts",
    "Examples",
    "LabelForm",
    "Labels",
    "Leak",
    "Location",
    "OddScript",
    "Overlap",
    "ReadOptions",
    "Splits",
    "Table",
    "build_examples",
    "build_labels",
    "build_table",
    "choose_columns",
    "choose_form",
    "describe_groups_split_apart",
    "find_label_twins",
    "find_leaks",
    "find_overlap",
    "inspect_examples",
    "join_set",
    "match_label_columns",
    "read_table",
    "refuse_part_of_columns",
    "sample_examples",
    "split_examples",
    "split_folds",
    "stream_tables",
]
