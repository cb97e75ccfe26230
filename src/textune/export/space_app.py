"""The page of a Space, as its app.py: it runs where gradio is installed and textune is not."""

from __future__ import annotations

GRADIO = "6.31.0"
"""The version that the page was tested with."""


def write_page(title: str) -> str:
    """Return app.py. title: what the page is called, shown as text."""
    return _PAGE.replace("TITLE_HERE", repr(title))


_PAGE = '''"""A page that classifies texts with the model in this folder: python app.py"""

from __future__ import annotations

import html
from pathlib import Path
from typing import Any

from predict import Classifier, holds_text

TITLE = TITLE_HERE
MOST_CHARACTERS = 20_000
MOST_BARS = 10

classifier = Classifier(Path(__file__).parent)


def answer(text: str | None, second: str | None = None) -> tuple[str, dict[str, float]]:
    """Return the label, or the labels, of a text or a pair, and the probability of every label."""
    texts = [text or "", second or ""][: 1 + classifier.pairs]
    if not all(map(holds_text, texts)):
        return "Type two texts." if classifier.pairs else "Type a text.", {}
    if any(len(each) > MOST_CHARACTERS for each in texts):
        return f"Type at most {MOST_CHARACTERS:,} characters.", {}
    try:
        found: dict[str, Any] = classifier.classify(*texts)
    except UnicodeEncodeError:
        return "The text holds half a character. Type it again.", {}
    labels = found["labels"] if "labels" in found else [found["label"]]
    return ", ".join(labels) or "no label", found["probabilities"]


def build_page() -> Any:
    """Return the page: one text, or two, the answer and a bar for each label."""
    import gradio as gr

    with gr.Blocks(title=TITLE) as page:
        gr.HTML(f"<h1>{html.escape(TITLE)}</h1>")
        names = ["First text", "Second text"] if classifier.pairs else ["Text"]
        texts = [gr.Textbox(label=name, lines=3, max_length=MOST_CHARACTERS) for name in names]
        button = gr.Button("Classify", variant="primary")
        shown = [gr.Textbox(label="Answer"), gr.Label(label="Probabilities", num_top_classes=MOST_BARS)]
        button.click(answer, texts, shown, api_name="classify")
        texts[-1].submit(answer, texts, shown, api_name="submit")
    return page


if __name__ == "__main__":
    build_page().launch()
'''
