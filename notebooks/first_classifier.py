# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # From labelled text to a classifier, step by step
#
# Film-review sentences, a small pretrained model and LoRA: tokens, the model before tuning, training, a report, the
# errors, predictions, one plain model to take away. It runs on your own machine as it is, and in Colab once the first cell
# knows where textune is; on CUDA, Apple silicon or a CPU. On two CPU cores it takes a few minutes. Model and data come as packages: after the first cell
# nothing is downloaded.

# %% [markdown]
# ## Install
#
# Nothing happens here where textune can be imported already. Otherwise it is installed from the checkout that the notebook
# lies in, or, in Colab, from where `SOURCE` says: the address of the repository (`git+https://...`), or an uploaded archive.

# %%
import importlib.util
import os
import subprocess
import sys
from pathlib import Path

SOURCE = os.environ.get("TEXTUNE_SOURCE", "")

if importlib.util.find_spec("textune") is None:
    checkout = next((folder for folder in (Path.cwd(), Path.cwd().parent) if (folder / "src/textune").is_dir()), None)
    source = SOURCE or (str(checkout) if checkout else "")
    if not source:
        raise RuntimeError("textune is not installed: write into SOURCE where it is, then run this cell again")
    wanted = f"textune[demo] @ {source}" if "://" in source else f"{source}[demo]"
    subprocess.run([sys.executable, "-m", "pip", "install", "--quiet", wanted], check=True)

# %%
import textune
from textune.inference import choose_device

ROWS = int(os.environ.get("TEXTUNE_NOTEBOOK_ROWS", "2000"))  # to train on; half as many judge
SEED = 42
DEVICE = choose_device("auto")
WORK = Path("runs")
print(f"textune {textune.__version__} on {DEVICE}, {ROWS:,} training rows")

# %% [markdown]
# ## Data
#
# The 8,530 sentences of Rotten Tomatoes. Some are drawn for training, others for the test; what is drawn for the test is
# looked at twice only: before tuning and at the end.

# %%
import polars as pl
from textune.data import read_table

NAMES = {"0": "negative", "1": "positive"}
table = pl.from_arrow(read_table("embedded:rotten_tomatoes").arrow).with_columns(pl.col("label").replace(NAMES))
drawn = table.unique("text", maintain_order=True).sample(ROWS + ROWS // 2, seed=SEED, shuffle=True)
train, test = drawn.head(ROWS), drawn.tail(ROWS // 2)
print(train["label"].value_counts(sort=True))
train.head(5)

# %% [markdown]
# ## Tokens
#
# A model reads numbers. The tokenizer cuts a text into known pieces, gives each its number, and puts a mark at the beginning
# and at the end.

# %%
from textune.backbones import resolve_backbone
from textune.tokens import load_tokenizer

backbone = resolve_backbone("minilm")
tokenizer = load_tokenizer(backbone.folder)
encoding = tokenizer.encode("An unpretentious, heartwarming film.")
pl.DataFrame({"token": encoding.tokens, "id": encoding.ids})

# %% [markdown]
# ## The model before tuning
#
# MiniLM has read much text, but its new head is drawn at random: it stands near chance. This is the mark to leave behind.

# %%
import numpy as np
import torch
from textune.backbones import load_classifier

LABELS = ("negative", "positive")


def predict_plainly(model, texts, size=64):
    """Returns the class of each text, with nothing but transformers' own forward pass."""
    tokenizer.enable_truncation(256)
    tokenizer.enable_padding(pad_id=backbone.pad_token_id)
    answers = []
    for begin in range(0, len(texts), size):
        batch = tokenizer.encode_batch(texts[begin : begin + size])
        ids, mask = (torch.tensor([getattr(e, name) for e in batch]) for name in ("ids", "attention_mask"))
        with torch.inference_mode():
            logits = model(input_ids=ids.to(DEVICE), attention_mask=mask.to(DEVICE)).logits
        answers += [LABELS[i] for i in logits.argmax(-1).tolist()]
    return np.array(answers)


torch.manual_seed(SEED)
base, new_modules = load_classifier(backbone, LABELS)
base = base.to(DEVICE).eval()
truth = test["label"].to_numpy()
before = float((predict_plainly(base, test["text"].to_list()) == truth).mean())
print(f"new, and random still: {', '.join(new_modules)}")
print(f"accuracy before tuning: {before:.1%}")

# %% [markdown]
# ## LoRA
#
# LoRA leaves every weight $W$ as it is and learns the update $\frac{\alpha}{r}BA$ beside it, of rank $r$. What is left open (rate,
# epochs, batch size) is decided by rule from the rows, and told. A tenth of the training rows chooses the best epoch.

# %%
run = textune.train(
    train, test=test, text="text", label="label", labels=",".join(LABELS), backbone="minilm",
    method={"name": "lora", "r": 8, "alpha": 16}, seed=SEED, name="notebook", runs_dir=str(WORK), overwrite=True,
)
trained, total = run.manifest.trainable_parameters, run.manifest.total_parameters
print(f"{trained:,} of {total:,} numbers were trained: {trained / total:.1%}")

# %% [markdown]
# ## Report
#
# The same test rows, given to the majority class, to TF-IDF with logistic regression, to logistic
# regression on frozen embeddings, to the model before tuning and to the tuned one. The intervals tell how far a figure would wander with other rows of the same kind.

# %%
models = run.metrics["models"]
pl.DataFrame(
    {
        "model": list(models),
        "accuracy": [round(m["accuracy"], 3) for m in models.values()],
        "low": [round(m["intervals"]["accuracy"]["low"], 3) for m in models.values()],
        "high": [round(m["intervals"]["accuracy"]["high"], 3) for m in models.values()],
        "macro F1": [round(m["macro"]["f1"], 3) for m in models.values()],
    }
)

# %%
from html import escape

from IPython.display import HTML

page = escape(run.report.read_text(encoding="utf-8"))
HTML(f'<div><iframe srcdoc="{page}" width="100%" height="600" style="border: 1px solid #ccc"></iframe></div>')

# %% [markdown]
# ## Confusion matrix

# %%
import matplotlib.pyplot as plt
from sklearn.metrics import ConfusionMatrixDisplay

tuned = models["tuned"]
shown = ConfusionMatrixDisplay(np.array(tuned["confusion"])[: len(LABELS), : len(LABELS)], display_labels=LABELS)
shown.plot(cmap="Blues", colorbar=False)
plt.title(f"{tuned['rows']:,} test rows, accuracy {tuned['accuracy']:.1%}")
plt.show()

# %% [markdown]
# ## Errors
#
# The wrong answers that the model was surest of come first: some show what it cannot read, some are wrong labels. Then by
# length: which sentences are hard?

# %%
rows = pl.read_parquet(run.folder / "evaluation" / "predictions.parquet")
wrong = rows.filter(pl.col("label") != pl.col("predicted_label")).sort("probability", descending=True)
print(f"{len(wrong):,} of {len(rows):,} are wrong")
with pl.Config(fmt_str_lengths=100, tbl_width_chars=160):
    print(wrong.select("text", "label", "predicted_label", pl.col("probability").round(3)).head(8))

# %%
length = (pl.col("text").str.split(" ").list.len() // 10 * 10).alias("words from")
right = (pl.col("label") == pl.col("predicted_label")).mean().round(3).alias("accuracy")
rows.group_by(length).agg(pl.len().alias("rows"), right).sort("words from")

# %% [markdown]
# ## Predictions: one text, a list of your own, many
#
# Change the list and run the cell again.

# %%
model = run.load()
print(model.predict(["A warm, funny and beautifully acted film."])[0])

# %%
MINE = [
    "The plot makes no sense and the jokes fall flat.",
    "It is not a bad film, but I would not watch it twice.",
    "I laughed, I cried, and I want to see it again.",
]
for text, answer in zip(MINE, model.classify(MINE), strict=True):
    print(f"{answer.label:9} {answer.probability:6.1%}  {text}")

# %%
many = table.sample(min(2_000, ROWS), seed=SEED + 1)
probabilities = model.predict_proba(many["text"].to_list())
scored = many.with_columns(pl.Series("probability of positive", probabilities[:, LABELS.index("positive")]).round(4))
scored.write_csv(WORK / "scored.csv")
print(f"{len(scored):,} texts in {WORK / 'scored.csv'}")
scored.head(5)

# %% [markdown]
# ## Export
#
# The update is added into the weights: one plain Hugging Face model that needs neither textune nor peft, with the same
# answers.

# %%
from textune.export.merged import export_merged
from transformers import pipeline

folder = export_merged(run.folder, WORK / "notebook-merged", overwrite=True)
classify = pipeline("text-classification", str(folder), truncation=True)
assert [answer["label"] for answer in classify(MINE)] == list(model.predict(MINE))
print(f"{sum(p.stat().st_size for p in folder.iterdir() if p.is_file()) / 1e6:.1f} MB in {folder}")
