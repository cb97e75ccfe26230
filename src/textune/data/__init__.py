"""Labeled text from any source: tables, columns, examples, labels, splits and checks."""

# each module registers its source; `saved` must come before `folder`, which accepts any folder
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
    count_shared_groups,
    find_copies,
    find_overlap,
    inspect_examples,
    list_keys,
    number_repeated,
)
from textune.data.columns import Columns, Leak, choose_columns, find_leaks
from textune.data.dialogues import CHAT_SHAPE, Message, check_messages, format_messages, read_prompt
from textune.data.examples import Examples, build_examples, sample_examples
from textune.data.kept import KeptRows, find_types, refuse_bytes, stream_kept
from textune.data.label_sets import (
    LabelForm,
    choose_form,
    join_set,
    match_label_columns,
    refuse_part_of_columns,
)
from textune.data.labels import Labels, build_labels
from textune.data.roles import NamedColumns, build_labelled, build_rows, choose_task, find_columns, reuse_columns
from textune.data.row_hashes import HashedRows, compute_probe, hash_rows, match_rows
from textune.data.source import (
    Location,
    ReadOptions,
    list_readable,
    list_reading_settings,
    locate,
    read_table,
    stream_tables,
)
from textune.data.spelling import (
    describe_foreign,
    describe_hidden,
    describe_near,
    describe_objects,
    describe_twins,
    find_label_twins,
)
from textune.data.splits import Splits, keep_together, split_examples, split_folds
from textune.data.table import Table, build_table

__all__ = [
    "CHAT_SHAPE",
    "Columns",
    "Conflict",
    "DataFacts",
    "Examples",
    "KeptRows",
    "HashedRows",
    "LabelForm",
    "Labels",
    "Leak",
    "Location",
    "Message",
    "NamedColumns",
    "OddScript",
    "Overlap",
    "ReadOptions",
    "Splits",
    "Table",
    "build_examples",
    "build_labelled",
    "build_labels",
    "build_rows",
    "build_table",
    "check_messages",
    "choose_columns",
    "choose_form",
    "choose_task",
    "compute_probe",
    "count_shared_groups",
    "describe_hidden",
    "describe_foreign",
    "describe_near",
    "describe_objects",
    "describe_twins",
    "find_columns",
    "find_label_twins",
    "find_leaks",
    "find_copies",
    "find_overlap",
    "find_types",
    "format_messages",
    "hash_rows",
    "inspect_examples",
    "join_set",
    "keep_together",
    "list_keys",
    "list_readable",
    "list_reading_settings",
    "locate",
    "match_label_columns",
    "match_rows",
    "number_repeated",
    "read_prompt",
    "read_table",
    "refuse_bytes",
    "refuse_part_of_columns",
    "reuse_columns",
    "sample_examples",
    "split_examples",
    "split_folds",
    "stream_kept",
    "stream_tables",
]
