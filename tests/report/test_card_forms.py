"""The card of another form of a run: only its front matter and its lines change; what a person wrote stays."""

from __future__ import annotations

import pytest

from textune.report.card_forms import change_card, name_published, split_card

CARD = """---
library_name: peft
license: mit
---

# reviews

````python
## How to load
```
# not a heading
````

My own words: *fine*.

## How to load

```python
## How to load
folder = "reviews"  # the path of this folder, or its id on the hub
```

### More

old words

## Results on 10 test rows

| a |
"""


def test_only_the_section_on_loading_is_replaced() -> None:
    changed = change_card(CARD, {"library_name": "onnx", "license": None, "tags": ["onnx"]}, "new words")
    front, body = split_card(changed)
    assert front == {"library_name": "onnx", "tags": ["onnx"]}
    assert "My own words: *fine*." in body and "# not a heading" in body and "| a |" in body
    assert "new words" in body and "old words" not in body and 'folder = "reviews"' not in body
    assert body.index("My own words") < body.index("new words") < body.index("## Results")
    assert change_card(changed, {}, "new words") == changed


@pytest.mark.parametrize(
    "card",
    ["", "# mine", "---\n: [\n---\n# mine", "---\nnot: closed\n# mine", "---\n- list\n---\n\n# mine\n\n## Also\n\nx\n"],
)
def test_any_card_gets_the_section(card: str) -> None:
    front, body = split_card(change_card(card, {"library_name": "onnx"}, "the lines"))
    assert front == {"library_name": "onnx"} and "## How to load\n\nthe lines" in body
    assert "# mine" in body or not card
    if "## Also" in card:
        assert body.index("the lines") < body.index("## Also")


def test_a_published_card_names_the_hub() -> None:
    card = name_published(CARD, "owner/name")
    assert 'folder = "owner/name"\n' in card and "the path of this folder" not in card
    by_textune = CARD.replace("folder =", "import textune\nfolder =")
    assert 'snapshot_download("owner/name")' in name_published(by_textune, "owner/name")
    assert name_published("nothing to name", "owner/name") == "nothing to name"
