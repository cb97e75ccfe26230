"""Runs on texts longer than max_length: read in training, after a reload, a resume and an export as was said once."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from textune.bundle import read_manifest
from textune.bundle.checks import compute_digest
from textune.config import LongText
from textune.engine import LeanEngine, Precision, ReferenceEngine
from textune.errors import BundleError, ConfigError
from textune.export.merged import export_merged
from textune.inference import Predictor, load
from textune.run import Run, resume, train
from textune.tokens.batches import Batch, Padding, collate
from tiny import NEUTRAL, StopAt, as_words, call_textune, hash_weights, make_rows, settings_for, train_tiny


def write_long_reviews(path: Path, rows: int = 40) -> Path:
    """Write reviews of quite unequal length, the longest of several windows of 16 tokens."""
    lines = [f"{text} {' '.join(NEUTRAL * (i % 4))},{label}" for i, (text, label) in enumerate(make_rows(rows))]
    path.write_text("\n".join(["text,label", *lines]) + "\n", encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def long_reviews(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_long_reviews(tmp_path_factory.mktemp("long") / "reviews.csv")


@pytest.fixture(scope="module")
def windowed(tmp_path_factory: pytest.TempPathFactory, backbone: Path, long_reviews: Path) -> Run:
    """A finished run that reads long texts in windows of 16 tokens."""
    place = tmp_path_factory.mktemp("windowed") / "windowed"
    return train_tiny(long_reviews, backbone, place, max_length=16, long_text="window", max_windows=5)


@pytest.fixture(scope="module")
def predictor(windowed: Run) -> Predictor:
    return windowed.load(precision="fp32", device="cpu")


def test_training_never_takes_more_windows_at_once_than_a_step_has_rows(
    tmp_path: Path, backbone: Path, long_reviews: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[int] = []
    original = LeanEngine.forward

    def watch(self: LeanEngine, batch: Batch) -> torch.Tensor:
        if batch.targets is not None and self.training:
            seen.append(len(batch.input_ids))
        return original(self, batch)

    monkeypatch.setattr(LeanEngine, "forward", watch)
    train_tiny(long_reviews, backbone, tmp_path / "run", max_length=16, long_text="window", batch_size=8, epochs=1,
               contrast_steps=0)  # fmt: skip
    assert seen and max(seen) <= 8


def test_one_window_each_trains_to_the_very_weights_of_truncate(
    tmp_path: Path, backbone: Path, long_reviews: Path
) -> None:
    runs = [train_tiny(long_reviews, backbone, tmp_path / form, max_length=64, epochs=1, long_text=form)
            for form in ("truncate", "window")]  # fmt: skip
    assert hash_weights(runs[0].folder) == hash_weights(runs[1].folder)
    first, second = (run.load(device="cpu", precision="fp32").predict_logits(["a good film"]) for run in runs)
    assert np.array_equal(first, second)


def test_windowed_run_gives_the_mean_of_the_plain_model_on_the_windows(predictor: Predictor) -> None:
    import transformers

    tokenizer = transformers.PreTrainedTokenizerFast(
        tokenizer_object=load_tokenizer_of(predictor), cls_token="[CLS]", sep_token="[SEP]", pad_token="[PAD]"
    )
    text = "the film was a good story with its actors and its music " * 4
    windows = tokenizer(text, truncation=True, max_length=16, stride=4, return_overflowing_tokens=True)["input_ids"]
    assert 2 < len(windows) <= 5
    with torch.inference_mode():
        logits = [predictor.model(input_ids=torch.tensor([ids])).logits[0].numpy() for ids in windows]
    np.testing.assert_allclose(predictor.predict_logits([text])[0], np.mean(logits, 0), atol=1e-5)


def test_windows_of_equal_length_are_put_together_again(predictor: Predictor) -> None:
    texts = ["the film was a good story with its actors " * n for n in (3, 1, 5, 2)]
    read = predictor.encode(texts)
    assert read.count_windows().max() > 2
    batch = collate(read, range(4), Padding(0))
    engines = (ReferenceEngine(predictor.model, Precision("fp32", "test"), equal_lengths=e) for e in (False, True))
    with torch.inference_mode():
        together, apart = (engine(batch).numpy() for engine in engines)
    assert apart.shape == (4, 2)
    np.testing.assert_allclose(together, apart, atol=1e-5)


def load_tokenizer_of(predictor: Predictor) -> Any:
    from tokenizers import Tokenizer

    return Tokenizer.from_str(predictor._tokenizer.to_str())


@given(st.lists(st.lists(st.sampled_from(NEUTRAL), min_size=1, max_size=70).map(" ".join), min_size=1, max_size=7))
@settings(max_examples=25)
def test_a_batch_equals_its_texts_alone(predictor: Predictor, texts: list[str]) -> None:
    together = predictor.predict_logits(texts)
    alone = np.concatenate([predictor.predict_logits([text]) for text in texts])
    np.testing.assert_allclose(together, alone, atol=1e-5)


def test_the_run_says_how_it_reads_and_does_so_ever_after(windowed: Run, predictor: Predictor) -> None:
    assert windowed.manifest.long_text == LongText("window", 4, 5)
    assert "longer texts are read in windows that share 4 tokens" in windowed.metrics["summary"]["max_length"]
    assert "of the texts are longer than max_length 16 and read in up to" in windowed.metrics["data"]["tokens"]
    text = " ".join(NEUTRAL) + " "
    assert predictor.encode([text * 3]).count_windows().tolist() == [4]
    changed = predictor.predict_logits([text * 3 + "awful " * 8])
    assert not np.allclose(predictor.predict_logits([text * 3]), changed), "what stands far behind is not read"


@pytest.mark.parametrize(
    "long_text",
    [{"form": "sliding"}, {"form": "window", "overlap": -1}, {"form": "window", "max_windows": 0}, {"a": 1}, 3,
     {"form": "window", "max_windows": "many"}, {"form": "head_tail", "head_fraction": 2}],
)  # fmt: skip
def test_older_manifest_means_truncate_and_an_unknown_form_is_refused(
    windowed: Run, tmp_path: Path, long_text: Any
) -> None:
    shutil.copytree(windowed.folder, tmp_path / "run")
    path = tmp_path / "run" / "textune.json"
    content = json.loads(path.read_text(encoding="utf-8"))
    wrong = content | {"long_text": long_text}
    path.write_text(json.dumps(wrong | {"digest": compute_digest(wrong)}), encoding="utf-8")
    with pytest.raises(BundleError, match="the manifest is damaged"):
        read_manifest(tmp_path / "run")
    del content["long_text"]
    path.write_text(json.dumps(content | {"digest": compute_digest(content)}), encoding="utf-8")
    assert read_manifest(tmp_path / "run").long_text == LongText()


@pytest.mark.parametrize("form", ["head_tail", "window"])
def test_pairs_are_refused_before_a_folder_is_made(form: str, tmp_path: Path, backbone: Path) -> None:
    (tmp_path / "pairs.csv").write_text("a,b,label\n" + "one,two,x\nthree,four,y\n" * 10, encoding="utf-8")
    with pytest.raises(ConfigError, match=f"long_text={form}: does not support text pairs"):
        train_tiny(tmp_path / "pairs.csv", backbone, tmp_path / "run", text="a", text_pair="b", long_text=form)
    assert not (tmp_path / "run").exists()


def test_a_run_that_cuts_much_says_what_would_read_more(tmp_path: Path, backbone: Path, long_reviews: Path) -> None:
    run = train_tiny(long_reviews, backbone, tmp_path / "run", max_length=16, epochs=1)
    (warning,) = [w for w in run.metrics["warnings"] if "long_text=window" in w]
    assert "longer than max_length 16 and truncated" in warning
    assert "long_text=window" in run.report.read_text(encoding="utf-8")


def test_export_leaves_the_windows_behind_and_says_so(windowed: Run, tmp_path: Path) -> None:
    done = call_textune("export", str(windowed.folder), "--output", str(tmp_path / "merged"), cwd=tmp_path)
    assert "long_text=window is not exported" in done.stderr and "after 16 tokens" in done.stderr.replace("\n", " ")
    assert json.loads((tmp_path / "merged" / "tokenizer_config.json").read_text())["model_max_length"] == 16
    export_merged(windowed.folder, tmp_path / "again")


def test_resume_goes_on_in_windows_and_refuses_another_form(
    tmp_path: Path, backbone: Path, long_reviews: Path, windowed: Run
) -> None:
    from textune.process.interrupt import RunInterrupted

    given = {"max_length": 16, "long_text": "window", "max_windows": 5}
    with pytest.raises(RunInterrupted):
        train_tiny(long_reviews, backbone, tmp_path / "run", StopAt(3), **given)
    shutil.copytree(tmp_path / "run", tmp_path / "changed")
    settings_file = tmp_path / "changed" / "config.yaml"
    settings_file.write_text(settings_file.read_text().replace("max_windows: 5", "max_windows: 4"))
    with pytest.raises(BundleError, match="max_windows: 5 when the run began, 4 now"):
        resume(tmp_path / "changed")
    assert hash_weights(resume(tmp_path / "run").folder) == hash_weights(windowed.folder)


def test_a_run_built_on_another_reads_as_that_one(windowed: Run, long_reviews: Path, tmp_path: Path) -> None:
    given: dict[str, Any] = {"init": str(windowed.folder), "runs_dir": str(tmp_path), "epochs": 1, "threads": 1,
                             "precision": "fp32", "device": "cpu"}  # fmt: skip
    same = train(str(long_reviews), name="same", **given)
    assert same.manifest.long_text == windowed.manifest.long_text and same.manifest.max_length == 16
    other = train(str(long_reviews), name="other", long_text="head_tail", **given)
    assert other.manifest.long_text == LongText("head_tail", head_fraction=0.25)
    assert load(other.folder).predict(["a good film " * 20])


def test_command_line_trains_and_predicts_in_windows(tmp_path: Path, backbone: Path, long_reviews: Path) -> None:
    words = as_words(
        settings_for(long_reviews, backbone, tmp_path / "run", max_length=16, long_text="window", epochs=1)
    )
    done = call_textune("train", *(w for w in words if not w.startswith("data=")), f"data={long_reviews}", cwd=tmp_path)
    assert "window_overlap: 4 (a quarter of max_length)" in done.stderr + done.stdout
    told = call_textune("predict", str(tmp_path / "run"), "a good film " * 30, "--json", cwd=tmp_path).stdout
    assert '"positive":' in told
    shown = call_textune("inspect", str(long_reviews), f"backbone={backbone}", "max_length=16", "long_text=window",
                         cwd=tmp_path).stdout  # fmt: skip
    assert "and read in up to" in shown
