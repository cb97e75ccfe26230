"""What a run's folder holds is tokenized by transformers as by textune, whatever the checkpoint's files leave out."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import transformers

import textune
from textune.backbones import resolve_backbone
from textune.bundle import read_manifest
from textune.files import hash_files
from textune.run.save import update_manifest, write_tokenizer
from textune.tokens import load_tokenizer
from tiny import FAMILIES, train_tiny

TEXTS = ("the film was GOOD", "Good", "naïve É", "a  b\u00a0c", "ｆｕｌｌ width", "don't, e\u0301")


@pytest.mark.parametrize("left_out", ["nothing", "do_lower_case", "tokenizer_class", "tokenizer_config.json"])
@pytest.mark.parametrize("cased", [False, True], ids=["uncased", "cased"])
@pytest.mark.parametrize(
    "family", ["bert", "albert", "electra", "mpnet", "deberta-v2", "distilbert", "roberta", "qwen2"]
)
def test_transformers_reads_what_textune_reads(
    family: str, cased: bool, left_out: str, backbones: dict[str, Path], tmp_path: Path
) -> None:
    assert family in FAMILIES
    source, folder = tmp_path / "source", tmp_path / "run"
    shutil.copytree(backbones[family], source)
    folder.mkdir()
    if cased:
        content = json.loads((source / "tokenizer.json").read_text(encoding="utf-8"))
        content["normalizer"] = {"type": "NFC"}
        (source / "tokenizer.json").write_text(json.dumps(content), encoding="utf-8")
    path = source / "tokenizer_config.json"
    settings = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    settings.pop(left_out, None)
    path.write_text(json.dumps(settings), encoding="utf-8")
    if left_out == "tokenizer_config.json":
        path.unlink()
    backbone = resolve_backbone(str(source))
    write_tokenizer(backbone, folder, 32)
    shutil.copyfile(source / "config.json", folder / "config.json")
    read = transformers.AutoTokenizer.from_pretrained(str(folder), local_files_only=True)
    mine = load_tokenizer(folder)
    assert [read(text)["input_ids"] for text in TEXTS] == [mine.encode(text).ids for text in TEXTS]
    given = read(list(TEXTS), padding=True, truncation=True, return_tensors="pt")
    assert ("token_type_ids" in given) <= (backbone.padding.token_types or "token_type_ids" in read.model_input_names)
    assert given["input_ids"].shape == given["attention_mask"].shape


def test_the_merged_model_of_an_older_run_reads_capitals(
    reviews: Path, backbones: dict[str, Path], tmp_path: Path
) -> None:
    """Its folder keeps the checkpoint's settings, in which nothing says that the tokenizer is cased."""
    source = tmp_path / "source"
    shutil.copytree(backbones["bert"], source)
    content = json.loads((source / "tokenizer.json").read_text(encoding="utf-8")) | {"normalizer": None}
    (source / "tokenizer.json").write_text(json.dumps(content), encoding="utf-8")
    run = train_tiny(reviews, source, tmp_path / "run")
    settings = json.loads((run.folder / "tokenizer_config.json").read_text(encoding="utf-8"))
    settings |= {"tokenizer_class": "BertTokenizer"}
    settings.pop("do_lower_case", None)
    (run.folder / "tokenizer_config.json").write_text(json.dumps(settings), encoding="utf-8")
    files = dict(read_manifest(run.folder, verify=False).files) | hash_files(run.folder, ["tokenizer_config.json"])
    update_manifest(run.folder, files=files)
    folder = textune.export(run.folder, tmp_path / "merged")
    read = transformers.AutoTokenizer.from_pretrained(str(folder), local_files_only=True)
    assert [read(text)["input_ids"] for text in TEXTS] == [load_tokenizer(folder).encode(text).ids for text in TEXTS]
