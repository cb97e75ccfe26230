"""What holds for the whole tree: layers, light imports, short files, no pickles, nothing of one machine."""

from __future__ import annotations

import ast
import graphlib
import importlib
import json
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from textune.backbones import MINILM

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src" / "textune"
LINES_AT_MOST = 400

LAYERS = (
    "version", "lazy", "printable", "errors", "registry", "progress", "files", "cache", "process", "config",
    "evaluation", "data", "bundle", "tokens", "backbones", "tasks", "methods", "engine", "training", "inference",
    "explain", "report", "run", "export", "peft_import", "compare", "search", "plan", "sklearn", "app", "cli",
    "__main__",
)  # fmt: skip
"""Lowest first: a module or package imports only what stands before it."""
ORDER = {name: position for position, name in enumerate(LAYERS)}

LISTING_IS_LIGHT = ("textune", "textune.cli.app", "textune.cli")
"""What a command line starts with: none of the heavy libraries may come with it."""
HEAVY = (
    "torch", "transformers", "peft", "accelerate", "datasets", "tokenizers", "huggingface_hub", "pandas", "polars",
    "pyarrow", "sklearn", "scipy", "matplotlib", "numpy", "jinja2", "yaml", "rensa", "streamlit", "rich.console",
)  # fmt: skip
TORCH_FREE = (
    "config.defaults", "bundle", "data", "tokens.batches", "evaluation", "backbones", "tasks", "methods", "report",
    "inference.files", "run.evaluate", "run.other_rows", "run", "search.sweep", "sklearn", "cli.sweep", "cli.train",
    "cli.predict",
)  # fmt: skip
"""Data, settings, evaluation and reports are there without torch; importing the others costs nothing before a call."""

MACHINE_PATH = re.compile(r"(?<![\w.~$}-])/(?:work|root|home|Users|opt)/\w")
INDEX_HOST = re.compile(r"pypi[.]org|python[h]osted|download[.]pytorch|[.]nvidia[.]com")


def list_sources() -> list[Path]:
    return sorted(SOURCE.rglob("*.py"))


def unit_of(path: Path) -> str:
    """Return the module or package right under textune that a file belongs to."""
    return path.relative_to(SOURCE).parts[0].removesuffix(".py")


def list_imports(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Yield line and dotted name of every import, also those inside functions and under TYPE_CHECKING."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"line {node.lineno}: textune's imports are absolute"
            module = node.module or ""
            # `from textune import cache` names a module; `from textune.data import Table` does not.
            yield from ((node.lineno, f"{module}.{a.name}" if module == "textune" else module) for a in node.names)


def list_calls(tree: ast.AST) -> Iterator[tuple[ast.Call, str]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            yield node, ast.unparse(node.func)


def list_tracked() -> list[Path]:
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    if listed.returncode:
        pytest.skip("not a git checkout")
    return [ROOT / name for name in listed.stdout.split("\0") if name and (ROOT / name).is_file()]


def import_fresh(module: str, watched: tuple[str, ...]) -> list[str]:
    """Return which of the watched modules an import of `module` brings along, in a new interpreter."""
    code = f"import json, sys, {module}; print(json.dumps([m for m in {list(watched)!r} if m in sys.modules]))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return list(json.loads(done.stdout))


def test_tests_mirror_the_source() -> None:
    """A folder of tests has the name of the package that it tests, or of a folder beside src."""
    folders = {path.relative_to(ROOT).parts[1] for path in (ROOT / "tests").glob("*/**/test_*.py")}
    others = {path.parent.relative_to(ROOT).parts[0] for path in list_tracked() if path.parent != ROOT}
    strange = sorted(folders - {unit_of(path) for path in list_sources()} - others)
    assert not strange, f"{strange}: tests of textune.NAME lie in tests/NAME"


def test_every_module_has_a_layer() -> None:
    units = {unit_of(path) for path in list_sources()} - {"__init__"}
    new, gone = sorted(units - ORDER.keys()), sorted(ORDER.keys() - units)
    assert not new, f"{new}: say in LAYERS (tests/test_architecture.py) and docs/architecture.md where it belongs"
    assert not gone, f"{gone}: listed in LAYERS, but there is no such module"


def test_imports_point_down() -> None:
    wrong = []
    for path in list_sources():
        unit = unit_of(path)
        if unit == "__init__":
            continue  # the front door hands names out lazily: the import budget below watches it
        for line, name in list_imports(ast.parse(path.read_text(encoding="utf-8"))):
            top, _, rest = name.partition(".")
            target = rest.partition(".")[0]
            if top == "textune" and target != unit and ORDER.get(target, len(ORDER)) > ORDER[unit]:
                wrong.append(f"{path.relative_to(SOURCE)}:{line}: {unit} imports {target or 'textune itself'}")
    assert not wrong, "\n".join(wrong)


def test_files_of_a_package_import_each_other_in_no_circle() -> None:
    modules = {name_module(path): path for path in list_sources()}
    graph = {
        module: {target for target in list_module_imports(path, modules) if same_package(module, target)} - {module}
        for module, path in modules.items()
    }
    with pytest.raises(graphlib.CycleError):
        graphlib.TopologicalSorter({"a": {"b"}, "b": {"a"}}).prepare()
    try:
        graphlib.TopologicalSorter(graph).prepare()
    except graphlib.CycleError as error:
        pytest.fail(" <- ".join(error.args[1]))


def name_module(path: Path) -> str:
    name = ".".join(("textune", *path.relative_to(SOURCE).with_suffix("").parts))
    return name.removesuffix(".__init__")


def same_package(module: str, other: str) -> bool:
    return module != "textune" and other.split(".")[:2] == module.split(".")[:2]


def list_module_imports(path: Path, modules: Mapping[str, Path]) -> Iterator[str]:
    """Yield the modules of textune that a file imports, also inside functions: names are looked up in `modules`."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in modules)
        elif isinstance(node, ast.ImportFrom) and node.module in modules:
            inside = [f"{node.module}.{alias.name}" for alias in node.names]
            yield from (name for name in inside if name in modules)
            if any(name not in modules for name in inside):
                yield node.module


def test_start_up_is_light() -> None:
    assert import_fresh(", ".join(LISTING_IS_LIGHT), HEAVY) == []


def test_torch_comes_with_the_first_call_that_needs_it() -> None:
    assert import_fresh(", ".join(f"textune.{name}" for name in TORCH_FREE), ("torch", "transformers", "peft")) == []


def test_files_are_short() -> None:
    lengths = {path: len(path.read_text(encoding="utf-8").splitlines()) for path in list_sources()}
    long = [f"{path.relative_to(SOURCE)}: {lines} lines" for path, lines in lengths.items() if lines > LINES_AT_MOST]
    assert not long, f"{long}: split them by what their parts are about"


def test_no_pickle_is_read_or_written() -> None:
    wrong = [f"{path.relative_to(SOURCE)}: {found}" for path in list_sources() for found in list_pickles(path)]
    assert not wrong, "\n".join(wrong)


def list_pickles(path: Path) -> Iterator[str]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    modules = {"pickle", "cPickle", "cloudpickle", "dill", "joblib", "marshal", "shelve"}
    yield from (f"line {line}: import {name}" for line, name in list_imports(tree) if name.partition(".")[0] in modules)
    for call, name in list_calls(tree):
        arguments = {keyword.arg: ast.unparse(keyword.value) for keyword in call.keywords}
        if name in ("torch.load", "torch.save") or name.endswith((".save_state", ".load_state", ".read_pickle")):
            yield f"line {call.lineno}: {name}"
        if name.endswith("np.load") and arguments.get("allow_pickle") != "False":
            yield f"line {call.lineno}: {name} without allow_pickle=False"


def test_no_module_is_called_utils() -> None:
    vague = {"utils", "util", "helpers", "common", "misc", "tools"}
    assert not [path for path in list_sources() if path.stem in vague or path.parent.name in vague]


def test_nothing_names_a_machine_or_an_index() -> None:
    found = []
    for path in list_tracked():
        try:
            text = path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue  # a picture
        for number, line in enumerate(text.splitlines(), 1):
            if MACHINE_PATH.search(line) or INDEX_HOST.search(line):
                found.append(f"{path.relative_to(ROOT)}:{number}: {line.strip()[:100]}")
    assert not found, "\n".join(found)


TASK_NAMES = frozenset({"single_label", "multi_label", "generation", "SINGLE", "MULTI", "GENERATION"})
MAY_COMPARE_TASKS = ("tasks/", "data/roles.py", "data/label_sets.py")
"""Where task names may be compared: label_sets.py has one line, which says whether a cell holds a set of labels."""


def test_only_tasks_ask_which_task_it_is() -> None:
    assert len(list(find_task_checks(ast.parse(TASK_CHECKS)))) == 9
    wrong = []
    for path in list_sources():
        name = path.relative_to(SOURCE).as_posix()
        found = list(find_task_checks(ast.parse(path.read_text(encoding="utf-8"))))
        if not name.startswith(MAY_COMPARE_TASKS):
            wrong += [f"{name}:{line}: {text}" for line, text in found]
        elif name == "data/label_sets.py":
            assert len(found) <= 1, found
    for path in sorted(SOURCE.rglob("*.j2")):
        if re.search(r"\b(single_label|multi_label|generation)\b", path.read_text(encoding="utf-8")):
            wrong.append(f"{path.relative_to(SOURCE)}: names a task")
    assert not wrong, "\n".join([*wrong, "ask the task instead: give `textune.tasks.Task` a method or a property"])


def find_task_checks(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Yield what decides by the name or the class of a task: comparisons, match cases, dict keys and isinstance."""
    for node in ast.walk(tree):
        parts: list[ast.expr] = []
        if isinstance(node, ast.Compare):
            parts = [node.left, *node.comparators]
        elif isinstance(node, ast.MatchValue):
            parts = [node.value]
        elif isinstance(node, ast.Dict):
            parts = [key for key in node.keys if key is not None]
        elif isinstance(node, ast.Call) and ast.unparse(node.func) in ("isinstance", "issubclass"):
            if TASK_CLASSES & {ast.unparse(n).rpartition(".")[2] for n in ast.walk(node) if isinstance(n, NAMES)}:
                yield node.lineno, ast.unparse(node)
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith((".startswith", ".endswith", ".get")):
            parts = list(node.args)
        if TASK_NAMES & {name for part in parts for name in list_words(part)}:
            yield node.lineno, ast.unparse(node)[:80]


NAMES = (ast.Name, ast.Attribute)
TASK_CLASSES = frozenset(
    {"SingleLabel", "MultiLabel", "Generation", "MultiLabelEvaluation", "GenerationEvaluation", "LabelFigures"}
)
TASK_CHECKS = """
a = task == "multi_label", MULTI != task, task in ("single_label", "multi_label"), task in (data.SINGLE,)
b = {"single_label": 1}[task]
c = isinstance(e, MultiLabelEvaluation), isinstance(task, (int, tasks.MultiLabel)), task.startswith("multi_label")
match task:
    case "multi_label":
        d = Task(task="single_label")
"""


def list_words(part: ast.expr) -> Iterator[str]:
    """Yield string constants and names inside an expression."""
    for node in ast.walk(part):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value
        elif isinstance(node, NAMES):
            yield ast.unparse(node).rpartition(".")[2]


MOST_PARAMETERS = 7
MOST_UNFORMATTED = 10


def test_functions_take_few_parameters() -> None:
    """Commands take one parameter per option, and scikit-learn wants an estimator's in its signature."""
    wrong = []
    for path in list_sources():
        if unit_of(path) in ("cli", "sklearn"):
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                arguments = node.args
                names = [a.arg for a in (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs)]
                count = len([name for name in names if name not in ("self", "cls")])
                if count > MOST_PARAMETERS:
                    wrong.append(f"{path.relative_to(SOURCE)}:{node.lineno}: {node.name} takes {count}")
    assert not wrong, "\n".join(wrong)


def test_the_formatter_is_on() -> None:
    marks = [path for path in list_sources() for line in path.read_text().splitlines() if "# fmt: " in line]
    assert len(marks) <= MOST_UNFORMATTED, marks


def test_private_names_stay_private() -> None:
    sources = {path: ast.parse(path.read_text(encoding="utf-8")) for path in list_sources()}
    private = {
        (name_module(path), node.name): {f.name for f in node.body if isinstance(f, ast.FunctionDef)}
        for path, tree in sources.items()
        for node in ast.walk(tree)
        if isinstance(node, ast.ClassDef)
    }
    wrong = [
        f"{path.relative_to(SOURCE)}:{found}"
        for path, tree in sources.items()
        for found in list_trespasses(tree, name_module(path).split(".")[1:2], private)
    ]
    assert not wrong, "\n".join(wrong)


def list_trespasses(tree: ast.AST, package: list[str], methods: Mapping[tuple[str, str], set[str]]) -> Iterator[str]:
    """Yield imports of another file's private names, uses of a private attribute, and overridden private methods."""
    known = {"_asdict", "_replace", "_fields"}
    known |= {n.name for n in ast.walk(tree) if isinstance(n, ast.FunctionDef | ast.ClassDef)}
    known |= {n.attr for n in ast.walk(tree) if isinstance(n, ast.Attribute) and isinstance(n.ctx, ast.Store)}
    homes: dict[str, str] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("textune"):
            homes |= {alias.asname or alias.name: node.module or "" for alias in node.names}
            yield from (f"{node.lineno}: imports {a.name}" for a in node.names if is_private(a.name))
        elif isinstance(node, ast.Attribute) and is_private(node.attr) and node.attr not in known:
            if node.attr not in THIRD_PARTY:
                yield f"{node.lineno}: uses {ast.unparse(node)}"
        elif isinstance(node, ast.ClassDef):
            bases = {ast.unparse(base) for base in node.bases}
            inherited = {
                method
                for (module, name), names in methods.items()
                if name in bases and module.split(".")[1:2] != package
                for method in names
            }
            own = {f.name for f in node.body if isinstance(f, ast.FunctionDef) and is_private(f.name)}
            yield from (f"{node.lineno}: {node.name} overrides {name}" for name in sorted(own & inherited))


def is_private(name: str) -> bool:
    return name.startswith("_") and not name.startswith("__")


THIRD_PARTY = frozenset(
    {"_shared_state", "_reset_state", "_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks"}
    | {
        "_version",
        "_softmax_backward_data",
        "_linear_pointwise",
        "_reorder_linear_weight",
        "_is_mkldnn_bf16_supported",
        "_exit",
        "_Hash",
    }
    | {"_study_id", "_trial_id"}
)
"""Private names of other libraries that textune uses where there is no public way."""


def test_dependencies_are_what_the_source_imports() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    needed, extras = project["dependencies"], project["optional-dependencies"]
    called = {"pyyaml": "yaml", "scikit-learn": "sklearn"}
    names = {re.split(r"[<>=\[]", line)[0] for line in needed}
    declared = {called.get(name, name.replace("-", "_")) for name in names}
    optional = {
        re.split(r"[<>=\[]", line)[0] for name in ("app", "onnx", "qlora", "ray", "smollm") for line in extras[name]
    }
    imported = {
        name.partition(".")[0]
        for path in list_sources()
        for _, name in list_imports(ast.parse(path.read_text("utf-8")))
    }
    foreign = imported - set(sys.stdlib_module_names) - {"textune"}
    for_transformers = {"protobuf", "sentencepiece"}  # which it needs to read the vocabulary of DeBERTa-v3 and others
    embedded = {MINILM.module}  # the base model that is taken where none is named: a plain install trains
    assert foreign - optional == declared - for_transformers - embedded, "declare what is imported, and only that"
    assert for_transformers < declared and MINILM.requirement in needed
    assert {"polars", "matplotlib", "pandas"}.isdisjoint(foreign), "a person's frames are read without their libraries"


def test_packages_with_lazy_exports_hand_out_all_they_name() -> None:
    lazy = [path for path in list_sources() if "export_lazily(__name__" in path.read_text(encoding="utf-8")]
    assert {name_module(path) for path in lazy} == {"textune", "textune.engine", "textune.explain"}
    for path in list_sources():
        assert path in lazy or "def __getattr__(name" not in path.read_text(encoding="utf-8"), "use textune.lazy"
    for path in lazy:
        package = importlib.import_module(name_module(path))
        homes = dict(package._HOMES)
        assert dir(package) == package.__all__ == sorted(package.__all__)
        assert set(package.__all__) - {"__version__"} == homes.keys()
        assert homes == dict(list_type_checked_imports(path, package.__name__)), "what a type checker is told"
        for name in package.__all__:
            assert getattr(package, name) is not None, name
        with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
            package.nothing


def list_type_checked_imports(path: Path, package: str) -> Iterator[tuple[str, str]]:
    """Yield the name and the module of each import under TYPE_CHECKING, as `_HOMES` has them."""
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.If):
            for line in node.body:
                assert isinstance(line, ast.ImportFrom) and line.module is not None
                yield from ((alias.name, line.module.removeprefix(f"{package}.")) for alias in line.names)
