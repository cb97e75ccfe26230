"""Validation and test tables that name labels otherwise than training: matched where that is safe, else refused."""

import numpy as np
import pytest

from textune.config import build_config
from textune.errors import DataError
from textune.run.tables import prepare_data

TRAINING = [{"text": f"text {i}", "toxic": i % 2, "insult": i % 3 // 2} for i in range(24)]
MARKS = [(i % 2, i // 2 % 2) for i in range(8)]


def write_marks(first: str, second: str) -> list[dict[str, object]]:
    """Return rows with two label columns, the marks of toxic in the first, those of insult in the second."""
    return [{"text": f"other {i}", first: a, second: b} for i, (a, b) in enumerate(MARKS)]


def prepare(test=None, validation=None, training=TRAINING, **settings):
    frames = {"data": training, "test": test, "validation": validation}
    frames = {name: rows for name, rows in frames.items() if rows is not None}
    return prepare_data(build_config(dict.fromkeys(frames, "rows") | settings), frames)


@pytest.mark.parametrize(
    ("test", "test_label"),
    [
        (write_marks("is_toxic", "is_insult"), "is_toxic,is_insult"),
        (write_marks("toxic", "is_insult"), "toxic,is_insult"),
        (write_marks("toxic", "insult"), "insult,toxic"),
        (write_marks("toxic", "insult"), None),
    ],
)
def test_label_columns_of_the_test_table_stand_for_those_of_training(test, test_label) -> None:
    data = prepare(test, label="toxic,insult", test_label=test_label)
    np.testing.assert_array_equal(data.labels.encode_examples(data.test), np.array(MARKS, dtype=np.float32))
    assert data.labels.values == ("toxic", "insult")
    by_place = test_label is not None and "is_insult" in test_label
    assert any("'is_insult' as 'insult'" in note for note in data.notes) == by_place


@pytest.mark.parametrize(
    ("test", "test_label", "told"),
    [
        ([*write_marks("is_toxic", "is_insult"), {"rude": 0}], "is_toxic,is_insult,rude", ["3 label columns", "had 2"]),
        (write_marks("is_toxic", "insult"), "insult,is_toxic", ["'insult' in the position of 'toxic'"]),
        (write_marks("toxic", "label"), None, ["of training, but not 'insult'", "test_label="]),
        (write_marks("is_toxic", "is_insult"), "is_toxic", ["has none of the test rows' labels", "'0', '1'"]),
    ],
)
def test_label_columns_that_do_not_match_are_refused(test, test_label, told) -> None:
    with pytest.raises(DataError) as caught:
        prepare(test, label="toxic,insult", test_label=test_label)
    assert all(words in f"{caught.value} {caught.value.hint}" for words in told), caught.value


def test_validation_table_without_one_of_the_label_columns_is_refused() -> None:
    with pytest.raises(DataError, match="of training, but not 'toxic'") as caught:
        prepare(validation=write_marks("label", "insult"), label="toxic,insult")
    assert "test_label" not in (caught.value.hint or "")


def test_other_tables_may_write_their_labels_as_lists() -> None:
    data = prepare([{"text": f"other {i}", "labels": {"toxic"}} for i in range(3)], label="toxic,insult")
    assert data.test.label_sets() == [("toxic",)] * 3


REVIEWS = [{"text": f"text {i}", "label": ("negative", "positive")[i % 2]} for i in range(24)]
SHORT = [{"text": f"other {i}", "label": ("neg", "pos")[i % 2]} for i in range(6)]


@pytest.mark.parametrize("split", ["validation", "test"])
def test_split_whose_labels_training_does_not_know_is_refused(split: str) -> None:
    with pytest.raises(DataError) as caught:
        prepare(training=REVIEWS, **{split: SHORT})
    assert f"{split} rows" in str(caught.value)
    assert all(f"'{label}'" in str(caught.value) for label in ("neg", "pos", "negative", "positive"))
    assert "labels=VALUE=NAME" in (caught.value.hint or "")
    named = prepare(training=REVIEWS, labels="neg=negative,pos=positive", **{split: SHORT})
    assert named.labels.encode_examples(getattr(named, split)).tolist() == [0, 1] * 3
    part = prepare(training=REVIEWS, **{split: [*SHORT, {"text": "one more", "label": "positive"}]})
    assert any("labels that the training set lacks" in warning for warning in part.warnings)


def test_skipped_rows_of_every_table_are_counted() -> None:
    rows = [{"text": f"other {i}" if i % 4 else " ", "label": "ab"[i % 2] if i % 5 else None} for i in range(20)]
    training = [{"text": f"text {i}", "label": "ab"[i % 2]} for i in range(24)]
    for name in ("test", "validation"):
        data = prepare(**{name: rows}, training=training)
        told = [warning for warning in data.warnings if warning.startswith(f"{name}=")]
        assert [warning.partition(": ")[2] for warning in told] == [
            "5 rows without text were skipped", "3 rows without label were skipped"
        ]  # fmt: skip
    assert not any("skipped" in warning for warning in prepare(training=training).warnings)


def test_rows_without_any_label_are_no_strange_labels() -> None:
    several = [{"text": f"text {i}", "labels": [["a"], ["b"], []][i % 3]} for i in range(24)]
    none = [{"text": f"other {i}", "labels": []} for i in range(4)]
    assert len(prepare(none, training=several).test) == 4
    with pytest.raises(DataError, match="has none of the test rows' labels: they are 'c'"):
        prepare([*none, {"text": "strange", "labels": ["c"]}], training=several)


def test_a_small_share_of_few_rows_is_one_row() -> None:
    rows = [{"text": f"text {i}", "label": i % 2} for i in range(40)]
    data = prepare(training=rows, test_fraction=0.01, validation_fraction=0.002)
    assert (len(data.test), len(data.validation), len(data.train)) == (1, 1, 38)
    assert prepare(training=rows, test_fraction=0, validation_fraction=0.1).test is None


def test_a_sample_of_rows_that_are_held_out_is_said_to_mean_nothing() -> None:
    rows = [{"text": f"text {i}", "label": i % 2} for i in range(40)]
    settings = {"sample": "30", "test_sample": "100", "validation_sample": "5", "test_label": "mark"}
    notes = prepare(training=rows, **settings).notes
    assert any(note.startswith("test_label= only applies with test=") for note in notes)
    assert any(note.startswith("test_sample=100 only applies with test=: 6 of the 30 rows") for note in notes)
    assert any(note.startswith("validation_sample=5 only applies with validation=: 0 of") for note in notes)
    tests = [{"text": f"other {i}", "label": i % 2} for i in range(10)]
    assert not [note for note in prepare(tests, training=rows, test_sample="8").notes if "only applies" in note]


def test_test_rows_that_are_validation_rows_are_told() -> None:
    rows = [{"text": f"one more {i} of many", "label": i % 2} for i in range(12)]
    training = [{"text": f"text {i}", "label": i % 2} for i in range(40)]
    data = prepare(rows, rows, training=training)
    told = "test rows that also appear in the validation set: 12 exact (test row 1 is validation row 1"
    assert any(warning.startswith(told) for warning in data.warnings), data.warnings
    assert data.overlap is not None and data.overlap.exact == 0, "that is of training and test rows"
    other = [{"text": f"another {i}", "label": i % 2} for i in range(12)]
    assert not [warning for warning in prepare(rows, other, training=training).warnings if "validation set" in warning]


def test_groups_of_validation_and_test_rows_are_told() -> None:
    training = [{"text": f"text {i}", "label": i % 2, "user": f"u{i}"} for i in range(40)]
    tests, validations = (
        [{"text": f"{word} {i}", "label": i % 2, "user": f"{word if i else 'both'}"} for i in range(6)]
        for word in ("walk", "swim")
    )
    warnings = prepare(tests, validations, training=training, group="user").warnings
    assert any(warning.startswith("1 group has rows both in validation and in test") for warning in warnings), warnings


def test_shares_and_reading_settings_that_nothing_uses_are_told(tmp_path) -> None:
    rows, other = ([{"text": f"{word} {i}", "label": i % 2} for i in range(40)] for word in ("text", "other"))
    settings = {"test_fraction": 0.3, "validation_fraction": 0.2, "delimiter": ";", "encoding": "cp1252"}
    notes = prepare(other, other, training=rows, **settings).notes
    for told in (
        "test_fraction=0.3 only applies without test=",
        "validation_fraction=0.2 only applies without validation=",
        "delimiter=';' does not apply",
        "encoding='cp1252' does not apply",
    ):
        assert any(note.startswith(told) for note in notes), (told, notes)
    (tmp_path / "rows.csv").write_text("text;label\n" + "".join(f"{row['text']};{row['label']}\n" for row in rows))
    config = build_config(settings | {"data": str(tmp_path / "rows.csv"), "test_fraction": 0})
    assert not [note for note in prepare_data(config).notes if "apply" in note or "applies" in note]


@pytest.mark.parametrize(
    ("labels", "refusal"),
    [
        ([f"{i / 977:.4f}" for i in range(200)], "numbers such as"),
        ([f"{i}.0 1" for i in range(199)] + ["0.0 1"], "different labels in"),
        ([f"{i % 30 / 100}" for i in range(200)], "numbers such as"),
        ([str(i % 30) for i in range(200)], ""),
        ([f"{i % 10 / 2}" for i in range(200)], ""),
    ],
    ids=["measured", "free text", "measured often", "numbers of classes", "half stars"],
)
def test_labels_that_look_like_no_classes_are_questioned(labels: list[str], refusal: str) -> None:
    rows = [{"text": f"a text about thing {i}", "target": label} for i, label in enumerate(labels)]
    if refusal == "numbers such as" and len(set(labels)) == len(labels):
        with pytest.raises(DataError, match=refusal) as caught:
            prepare(training=rows, test=rows[:20])
        assert "a few classes" in (caught.value.hint or "")
        named = [f"{label}=class {i}" for i, label in enumerate(labels)]
        assert len(prepare(training=rows, test=rows[:20], labels=",".join(named)).labels.names) == len(labels)
        return
    named = [f"{label}=class {i}" for i, label in enumerate(dict.fromkeys(labels))]
    told = prepare(training=rows, test=rows[:20], labels=",".join(named)).warnings
    assert not any("different labels" in line for line in told), "who names the classes means them"
    asked = [line for line in prepare(training=rows, test=rows[:20]).warnings if "different labels" in line]
    assert len(asked) == bool(refusal)
    assert all(refusal in line for line in asked)
