"""Rows that a run has seen are told from others wherever a figure is given, and the figure on the others is right."""

from __future__ import annotations

import json
import shutil
import warnings
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest

import textune
from textune.bundle import read_manifest
from textune.cli import main
from textune.config import build_config, load_settings
from textune.data import Examples
from textune.errors import BundleError
from textune.evaluation import Evaluation, GenerationEvaluation, MultiLabelEvaluation
from textune.files import read_json
from textune.run import Run
from textune.run.calibrate import Calibration, HeldOut, fit_calibration
from textune.run.other_rows import read_labelled
from textune.run.row_hashes import ROW_HASHES, read_row_hashes
from textune.run.save import update_manifest
from textune.run.seen_rows import NO_HASHES, SeenRowsWarning, attach_seen, list_chosen
from textune.run.tables import PreparedData, prepare_data
from tiny import StopAt, make_rows

NEW = [{"text": f"{word} weather on the {i}th of may", "label": label} for i in range(6)
       for word, label in (("good", "positive"), ("bad", "negative"))]  # fmt: skip


def as_rows(examples: Examples) -> list[dict[str, str]]:
    return [{"text": t, "label": v} for t, v in zip(examples.texts(), examples.labels() or [], strict=True)]


def split(run: Run) -> PreparedData:
    """Return the rows as the run split them."""
    return prepare_data(build_config(load_settings(run.folder / "config.yaml")))


def evaluate(run: Run | Path, rows: Any, **more: Any) -> Any:
    folder = run if isinstance(run, Path) else run.folder
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SeenRowsWarning)
        return textune.evaluate(folder, rows, precision="fp32", **more)


def same_figures(found: dict[str, Any], expected: dict[str, Any]) -> None:
    """Compare all figures; other rows in a batch move the last bits of probabilities."""
    assert found["log_loss"] == pytest.approx(expected["log_loss"], rel=1e-5)
    left_out = ("log_loss", "seen_rows", "probability_figures", "decision_figures")
    parts = [figures["probability_figures"]["calibration"]["calibration_error"] for figures in (found, expected)]
    assert parts[0] == pytest.approx(parts[1], rel=1e-5)
    assert {k: v for k, v in found.items() if k not in left_out} == {
        k: v for k, v in expected.items() if k not in left_out
    }


@pytest.fixture
def copied(finished: Run, tmp_path: Path) -> Path:
    return Path(shutil.copytree(finished.folder, tmp_path / "copied"))


def test_the_rows_of_a_runs_own_parts_are_counted_apart(finished: Run) -> None:
    data = split(finished)
    assert data.validation is not None and data.test is not None
    train, validation, test = as_rows(data.train), as_rows(data.validation), as_rows(data.test)
    for rows, counts in (
        (train, (len(train), 0)),
        (validation, (0, len(validation))),
        (test, (0, 0)),
        (NEW, (0, 0)),
        ([*NEW, *test, *validation, *train, *train[:3]], (len(train) + 3, len(validation))),
    ):
        found = evaluate(finished, rows).seen
        assert found.checked and (found.training_exact, found.validation_exact) == counts, found
        assert found.training_near == found.validation_near == 0 and found.rows == len(rows)
        assert (found.unseen is None) == (found.seen in (0, len(rows)))


def test_the_figure_on_the_others_is_that_of_the_others_alone(finished: Run) -> None:
    data = split(finished)
    train = as_rows(data.train)
    found = evaluate(finished, [*train[:10], *NEW, *train[10:]])
    alone = evaluate(finished, NEW)
    assert found.rows == len(train) + len(NEW) and alone.seen.unseen is None
    same_figures(found.seen.unseen.to_dict(), alone.to_dict())
    assert found.to_dict()["seen_rows"]["unseen"]["accuracy"] == alone.accuracy
    with pytest.warns(SeenRowsWarning, match=rf"trained on {len(train)} of these .* on the other {len(NEW)} rows"):
        textune.evaluate(finished.folder, [*train, *NEW])
    with pytest.warns(SeenRowsWarning, match="all .* rows were seen, so no figure on unseen rows can be given"):
        textune.evaluate(finished.folder, train)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        textune.evaluate(finished.folder, NEW)


def test_a_sample_is_of_the_rows_and_seed_that_were_asked_for(finished: Run) -> None:
    rows = as_rows(split(finished).train)
    assert evaluate(finished, rows, sample="first:7").rows == 7
    drawn = [
        read_labelled(finished.manifest, rows, build_config({"sample": 9, "seed": seed, "split_seed": split_seed}))
        for seed, split_seed in ((1, 1), (2, 1), (1, 3))
    ]
    assert drawn[0].texts() == drawn[1].texts() != drawn[2].texts()
    assert finished.find_errors(rows, sample=9).rows == 9


def test_case_white_space_and_labels_hide_no_row(finished: Run) -> None:
    train = as_rows(split(finished).train)
    changed = [{"text": f" {r['text'].upper()}  ", "label": "negative"} for r in train]
    assert evaluate(finished, changed).seen.training_exact == len(train)
    near = [{"text": r["text"].replace(" ", ", ", 1) + "!", "label": r["label"]} for r in train]
    long_enough = sum(len(r["text"].split()) >= 5 for r in train)
    assert evaluate(finished, near).seen.training_near >= long_enough > 0


def test_rows_without_text_or_label_are_no_rows(finished: Run) -> None:
    train = as_rows(split(finished).train)
    found = evaluate(finished, [{"text": None, "label": "positive"}, {"text": "x", "label": None}, *train[:4]]).seen
    assert found.rows == found.training == 4


def test_of_pairs_both_texts_count(tmp_path: Path, backbone: Path) -> None:
    rows = [{"text": text, "other": f"said {i}", "label": label} for i, (text, label) in enumerate(make_rows(40))]
    run = textune.train(
        rows, text="text", text_pair="other", backbone=str(backbone), epochs=1, max_length=32, device="cpu",
        precision="fp32", threads=1, runs_dir=str(tmp_path), name="run", test_fraction=0.0, validation_fraction=0.2,
    )  # fmt: skip
    assert evaluate(run, rows).seen.seen == len(rows)
    shifted = [{**row, "other": f"said {i + 100}"} for i, row in enumerate(rows)]
    found = evaluate(run, shifted).seen
    assert found.training_exact == found.validation_exact == 0


@pytest.mark.parametrize("kind", ["without", "damaged", "by another version"])
def test_what_is_not_known_is_said(kind: str, copied: Path, capsys: pytest.CaptureFixture[str]) -> None:
    manifest = read_manifest(copied)
    if kind == "without":  # as in bundles of earlier versions
        update_manifest(copied, files={k: v for k, v in manifest.files.items() if k != ROW_HASHES})
        (copied / ROW_HASHES).unlink()
    elif kind == "damaged":
        (copied / ROW_HASHES).write_bytes(b"not hashes")
        with pytest.raises(BundleError, match=r"row_hashes[.]safetensors: changed or damaged"):
            textune.evaluate(copied, NEW)
        with pytest.raises(BundleError, match="the hashes of the training rows cannot be read"):
            read_row_hashes(copied, manifest)
        return
    else:
        hashes = read_row_hashes(copied, manifest)
        assert hashes is not None
        content = (copied / ROW_HASHES).read_bytes().replace(hashes.probe.encode(), b"0" * 16)
        (copied / ROW_HASHES).write_bytes(content)
        from textune.files import hash_file

        update_manifest(copied, files=dict(manifest.files) | {ROW_HASHES: hash_file(copied / ROW_HASHES)})
    with pytest.warns(SeenRowsWarning, match=NO_HASHES[:40]):
        found = textune.evaluate(copied, NEW).seen  # type: ignore[attr-defined]
    assert not found.checked and found.unseen is None
    with pytest.raises(SystemExit) as caught:
        main(["evaluate", str(copied), str(write_csv(copied.parent / "new.csv", NEW))])
    assert not caught.value.code and capsys.readouterr().out.startswith("this run keeps no hashes")


def write_csv(path: Path, rows: list[dict[str, str]]) -> Path:
    lines = [f'"{row["text"]}",{row["label"]}' for row in rows]
    path.write_text("\n".join(["text,label", *lines]) + "\n", encoding="utf-8")
    return path


def test_the_command_says_it_first(copied: Path, finished: Run, tmp_path: Path, capsys: Any) -> None:
    train = as_rows(split(finished).train)
    data = write_csv(tmp_path / "rows.csv", [*train, *NEW])
    with pytest.raises(SystemExit) as caught:
        main(["evaluate", str(copied), str(data), "--output", str(tmp_path / "out")])
    assert not caught.value.code
    first, second, *_ = capsys.readouterr().out.splitlines()
    assert first == f"the run was trained on {len(train)} of these {len(train) + len(NEW)} rows ({len(train)} exact)"
    assert second.startswith("accuracy ") and f"on the other {len(NEW)} rows" in second
    with pytest.raises(SystemExit):
        main(["evaluate", str(copied), str(data), "--json"])
    told = capsys.readouterr()
    found = json.loads(told.out)
    assert found["seen_rows"]["training_exact"] == len(train) and "the run was trained on" in told.err
    stored = read_json(tmp_path / "out" / "metrics.json", "the figures")
    assert stored["seen_rows"] == found["seen_rows"] and stored["accuracy"] == found["accuracy"]
    assert (tmp_path / "out" / "predictions.parquet").is_file()


def test_a_runs_own_figures_say_what_its_test_shares_with_training(tmp_path: Path, backbone: Path) -> None:
    rows = [{"text": text, "label": label} for text, label in make_rows(40)]
    test = [*rows[:8], *NEW]
    run = textune.train(
        rows, test=test, backbone=str(backbone), epochs=1, max_length=32, device="cpu", precision="fp32", threads=1,
        runs_dir=str(tmp_path), name="run", validation_fraction=0.2,
    )  # fmt: skip
    found = run.metrics["seen_rows"]
    assert found["training_exact"] + found["validation_exact"] == 8
    assert found["unseen"]["rows"] == len(NEW)
    same_figures(found["unseen"], evaluate(run, NEW).to_dict())
    said = [w for w in run.metrics["warnings"] if f"on the other {len(NEW)} rows" in w]
    assert len(said) == 1 and said[0].split(":")[0] in run.report.read_text(encoding="utf-8")
    kinds = [kind for kind in ("training", "validation") if found[f"{kind}_exact"]]
    assert said[0].startswith(f"without the test rows that are {' or '.join(kinds)} rows, too: ")
    both = textune.train(
        rows, test=test, validation=test, backbone=str(backbone), epochs=1, max_length=32, device="cpu", threads=1,
        precision="fp32", runs_dir=str(tmp_path), name="both",
    )  # fmt: skip
    told = [w for w in both.metrics["warnings"] if "validation set" in w or "rows, too: " in w]
    assert len(told) == 2 and told[0].startswith("test rows that also appear in the validation set: 20 exact")
    assert told[1].startswith("without the test rows that are training or validation rows, too: all 20 rows were seen")


def test_the_hashes_are_small_and_may_be_left_out(finished: Run, tmp_path: Path, backbone: Path) -> None:
    data = split(finished)
    rows = len(data.train) + len(data.validation or ())
    assert (finished.folder / ROW_HASHES).stat().st_size <= 24 * rows + 1_000
    assert ROW_HASHES in finished.manifest.files
    records = [{"text": text, "label": label} for text, label in make_rows(40)]
    common = {"backbone": str(backbone), "epochs": 1, "max_length": 32, "device": "cpu", "precision": "fp32",
              "threads": 1, "runs_dir": str(tmp_path), "validation_fraction": 0.2}  # fmt: skip
    without = textune.train(records, name="without", row_hashes=False, **common)
    assert not (without.folder / ROW_HASHES).exists() and "seen_rows" not in without.metrics
    assert not evaluate(without, records).seen.checked
    first = textune.train(records, name="first", **common)
    more = textune.train(NEW * 4, name="more", init=str(first.folder), runs_dir=str(tmp_path), epochs=1)
    assert evaluate(first, records).seen.seen == 32 and first.manifest.metrics["rows"] == 8
    found, new = evaluate(more, records).seen, evaluate(more, NEW).seen  # the weights come from the first run
    assert found.training_exact == 24 and found.validation_exact == 8 and new.training_exact > 0
    blind = textune.train(NEW * 4, name="blind", init=str(without.folder), runs_dir=str(tmp_path), epochs=1)
    assert "the rows of the run that this one was built on (init=) are not known" in evaluate(blind, records).seen.notes


@pytest.mark.parametrize(
    ("rows", "kept", "settings"),
    [
        (70, 40, {}), (30, 0, {}), (70, 40, {"costs": "negative:positive=3"}),
        (70, 70, {"threshold_for": "precision:0.6", "threshold_label": "positive"}),
    ],
)  # fmt: skip
def test_only_rows_that_the_run_of_init_has_not_seen_calibrate(
    rows: int, kept: int, settings: dict[str, Any], backbone: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Answers to rows that the earlier run learned by heart are right, and would make the model sure of everything."""
    held_out, progress = list[HeldOut](), StopAt()

    def watch(task: Any, found: HeldOut, *more: Any) -> Calibration:
        held_out.append(found)
        return fit_calibration(task, found, *more)

    monkeypatch.setattr("textune.run.calibrate.fit_calibration", watch)
    table = [{"text": text, "label": label} for text, label in make_rows(90)]
    common = {"backbone": str(backbone), "epochs": 1, "max_length": 32, "device": "cpu", "precision": "fp32",
              "threads": 1, "contrast_steps": 0, "runs_dir": str(tmp_path)}  # fmt: skip
    first = textune.train(table[:30], name="first", test=table[70:], **common)
    again = textune.train(
        table[:rows], name="again", test=table[20:90], init=str(first.folder), progress=progress, **common | settings
    )
    assert not any("init=" in warning for warning in first.metrics["warnings"])
    assert [len(found.targets) for found in held_out] == [len(found.logits) for found in held_out] == [30, kept]
    assert any("not calibrated: the run of init=" in line for line in progress.said) == (kept == 0)
    assert any("30 of the 70 rows that decisions are tuned on" in line for line in progress.warnings) == (kept == 70)
    told = "test: the run of init= was trained on 10 of the 70 rows; scores will be too optimistic"
    assert told in again.metrics["warnings"]


@pytest.mark.parametrize(("copies", "kept"), [(0, 40), (15, 25), (30, 0), (40, 0)])
def test_copies_of_training_rows_do_not_calibrate(
    copies: int, kept: int, backbone: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    held_out, progress = list[HeldOut](), StopAt()
    monkeypatch.setattr(
        "textune.run.calibrate.fit_calibration",
        lambda task, found, *more: held_out.append(found) or fit_calibration(task, found, *more),
    )
    table = [{"text": f"{text} {i}", "label": label} for i, (text, label) in enumerate(make_rows(120))]
    textune.train(
        table[:40], validation=table[:copies] + table[40 : 80 - copies], test=table[80:], backbone=str(backbone),
        epochs=1, max_length=32, device="cpu", precision="fp32", threads=1, runs_dir=str(tmp_path), progress=progress,
    )  # fmt: skip
    assert [len(found.targets) for found in held_out] == [kept]
    assert any("not calibrated: training has seen all" in line for line in progress.said) == (kept == 0)


def test_rows_that_the_run_of_init_only_validated_on_calibrate_again(
    backbone: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    held_out = list[HeldOut]()
    monkeypatch.setattr(
        "textune.run.calibrate.fit_calibration",
        lambda task, found, *more: held_out.append(found) or fit_calibration(task, found, *more),
    )
    table = [{"text": f"{text} {i}", "label": label} for i, (text, label) in enumerate(make_rows(120))]
    common = {"backbone": str(backbone), "epochs": 1, "max_length": 32, "device": "cpu", "precision": "fp32",
              "threads": 1, "runs_dir": str(tmp_path), "validation_fraction": 0.25}  # fmt: skip
    first = textune.train(table, name="first", **common)
    textune.train(table, name="more", init=str(first.folder), **common)
    assert len(held_out) == 2 and len(held_out[0].targets) == len(held_out[1].targets) >= 20


def test_the_estimators_score_says_what_it_was_trained_on(backbone: Path) -> None:
    from textune.sklearn import TextClassifier

    texts, labels = zip(*make_rows(40), strict=True)
    more = {"device": "cpu", "precision": "fp32", "threads": 1, "contrast_steps": 0}
    model = TextClassifier(backbone=str(backbone), epochs=1, validation_fraction=0.2, settings=more).fit(texts, labels)
    new, their = [row["text"] for row in NEW], [row["label"] for row in NEW]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        alone = model.score(new, their)
    words = rf"trained on 32 of these 52 rows .* accuracy {alone:.1%} on the other 12 rows"
    with pytest.warns(SeenRowsWarning, match=words):
        both = model.score([*texts, *new], [*labels, *their])
    assert both == pytest.approx((model.predict([*texts, *new]) == [*labels, *their]).mean())


@pytest.mark.parametrize(
    ("changes", "chosen"),
    [
        ({"temperature": 1.0}, ()),
        ({"temperature": 1.5}, ("temperature",)),
        ({"temperature": 1.0, "thresholds": (0.2, 0.7)}, ("thresholds",)),
        ({"temperature": 1.0, "thresholds": (0.5, 0.5)}, ()),
        (
            {"temperature": 1.0, "decisions": {"cutoff": 0.3, "quantiles": {"0.9": 0.1}}},
            ("threshold", "sets of labels"),
        ),
        ({"temperature": 2.0, "decisions": {"abstain_below": 0.6}}, ("temperature", "confidence to abstain below")),
    ],
)
def test_what_the_validation_rows_chose_is_what_the_run_records(
    changes: dict[str, Any], chosen: tuple[str, ...], finished: Run, tmp_path: Path
) -> None:
    manifest = replace(finished.manifest, **{"decisions": {}, "thresholds": None} | changes)
    first_look, last_look = {"kind": "evaluation", "step": 0}, {"kind": "evaluation", "step": 4}
    step = {"kind": "step", "step": 4}
    for lines, first in (([first_look, step, last_look], ("checkpoint",)), ([step], ()), ([first_look], ())):
        log = "".join(json.dumps(line) + "\n" for line in lines)
        (tmp_path / "metrics.jsonl").write_text(log, encoding="utf-8")
        assert list_chosen(tmp_path, manifest) == (*first, *chosen)


def test_own_figures_have_a_place_for_seen_rows(finished: Run) -> None:
    """Those of a task that is added need none."""
    seen = evaluate(finished, NEW).seen
    assert attach_seen(finished.manifest, seen) is finished.manifest  # type: ignore[type-var]
    for figures in (Evaluation, MultiLabelEvaluation, GenerationEvaluation):
        assert "seen" in {field.name for field in fields(figures)}
