"""The linear probe: regularized logistic regression on frozen features, solved directly instead of by small steps.

At the learning rate of the other layers, a new head learns slowly. Solved first, it is as good as frozen features
allow, and tuning starts from there (Kumar et al. 2022, arXiv:2202.10054). Features are standardized for the solver, and
the scaling is folded into the weights, so the result is an ordinary linear layer.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from textune.data import keep_together
from textune.evaluation.calibration import search_temperature
from textune.tasks import ProbeLoss

Floats = NDArray[np.float32]
Targets = NDArray[Any]

STRENGTHS = (1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 1e-1, 3e-1, 1.0)
"""scikit-learn's C, from strong to weak regularization, for features of variance 1."""
FOLDS = 3
MOST_ROWS_TO_CHOOSE = 5_000
STRENGTH_UNJUDGED = 1e-2
"""The C where no row can judge one, such as with one row per class."""
_STEPS_TO_CHOOSE, _STEPS_TO_SOLVE = 40, 200
_WORSE_BEFORE_STOPPING = 2
_LEARNED = 0.97
"""Of the loss of constant class shares: above it, nothing was learned so far, and a stronger C may still learn."""
_ROWS_AT_ONCE = 4_096
_ROWS_OF_COMMON_SCALE = 500
"""Weight, in rows, of the scale common to all features when each feature is standardized. With few rows the variance of
a single feature is noisy, and dividing by it costs half a point of accuracy (docs/explanation.md)."""


@dataclass(frozen=True)
class Probe:
    """A solved head. weight: float32 [classes, width]. bias: float32 [classes].

    Both are divided by the best temperature for held-out rows. strength: the C that cross-validation chose.
    losses: mean log loss of held-out rows for each C that was tried, at its best temperature.
    rows, out_of_fold: the training rows that cross-validation judged by, int64 [chosen], and their out-of-fold logits
    at the chosen C, float32 [chosen, classes]. names: how many class names it learned from besides.
    """

    weight: Floats
    bias: Floats
    strength: float
    losses: dict[float, float]
    rows: NDArray[np.int64]
    out_of_fold: Floats
    names: int = 0

    @property
    def judged(self) -> str:
        """By what C was chosen, in words."""
        return f"by {FOLDS}-fold cross-validation" if self.losses else "fixed, for want of rows to cross-validate on"


def solve_probe(
    features: Floats,
    targets: Targets,
    classes: int,
    loss: ProbeLoss,
    seed: int,
    *,
    strength: float | None = None,
    names: int = 0,
) -> Probe:
    """Solve the head; cross-validation on at most 5,000 rows chooses C.

    features: float32 [rows, width]. targets: as the task encodes them. strength: a fixed C, without cross-validation.
    names: how many rows at the end are class names, which every fold learns from and none is judged by.
    Without an intercept in the loss, features are scaled but not centered.
    """
    mean, scale = _measure_scale(features)
    mean = mean if loss.intercept else np.zeros_like(mean)
    standard = features - mean.astype(np.float32)
    standard /= scale.astype(np.float32)
    if strength is None:
        choice = _choose_strength(standard, targets, classes, loss, seed, names)
    else:
        choice = _Choice(strength, 1.0, {}, np.zeros(0, np.int64), np.zeros((0, classes), np.float32))
    strength = choice.strength
    solution = _Solver(standard, targets, classes, loss).solve(strength, None, _STEPS_TO_SOLVE).astype(np.float64)
    solution /= choice.temperature
    weight = solution[:-1].T / scale
    bias = solution[-1] - weight @ mean
    return Probe(
        weight.astype(np.float32), bias.astype(np.float32), strength, choice.losses, choice.rows, choice.logits, names
    )


def _measure_scale(features: Floats) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return mean and scale of each feature, float64 [width]; constant features get an infinite scale, so no weight."""
    mean, parts = features.mean(0, dtype=np.float64), range(0, len(features), _ROWS_AT_ONCE)
    squares = (((features[start : start + _ROWS_AT_ONCE] - mean) ** 2).sum(0) for start in parts)
    variance = np.asarray(sum(squares, np.zeros_like(mean))) / max(len(features), 1)
    varies = variance > 1e-12 * max(float(variance.max(initial=0.0)), 1e-24)
    common = float(np.median(variance[varies])) if varies.any() else 1.0
    rows = len(features)
    shrunk = (_ROWS_OF_COMMON_SCALE * common + rows * variance) / (_ROWS_OF_COMMON_SCALE + rows)
    return mean, np.where(varies, np.sqrt(shrunk), np.inf)


@dataclass(frozen=True)
class _Choice:
    """The best C, its temperature, the held-out loss by C, the rows used, and their out-of-fold logits."""

    strength: float
    temperature: float
    losses: dict[float, float]
    rows: NDArray[np.int64]
    logits: Floats


def _choose_strength(
    features: Floats,
    targets: Targets,
    classes: int,
    loss: ProbeLoss,
    seed: int,
    names: int,
) -> _Choice:
    """Return the C with the lowest loss on held-out rows.

    Losses are compared at the best temperature, since C also changes the scale of the logits, and weighted as in
    training. As long as no C has learned anything, as where the signal is in small principal components, the next one
    is tried. Rows that no fold can be judged by (`find_judged`) are learned from only; without any others, C is fixed.
    """
    texts = len(features) - names
    always, drawn = np.arange(texts, len(features)), draw_judged(targets[:texts], loss, seed, targets[texts:])
    rows, fold_of, judged = drawn.rows, drawn.fold_of, drawn.judged
    if not judged.any():
        return _Choice(STRENGTH_UNJUDGED, 1.0, {}, rows[:0], np.zeros((0, classes), np.float32))
    parts = []
    for fold in np.unique(fold_of):
        training, held_out = np.concatenate([rows[fold_of != fold], always]), fold_of == fold
        parts.append((held_out, _Solver(features[training], targets[training], classes, loss)))
    asked, weights = targets[rows][judged], loss.weigh_rows(targets[rows][judged], classes)
    learned = _LEARNED * measure_constant(asked, classes, weights)
    starts: list[Floats | None] = [None] * len(parts)
    losses: dict[float, float] = {}
    best, best_temperature, best_logits, worse = STRENGTHS[0], 1.0, np.zeros((len(rows), classes), np.float32), 0
    for strength in STRENGTHS:
        logits = np.zeros((len(rows), classes), np.float32)
        for fold, (held_out, solver) in enumerate(parts):
            starts[fold] = solution = solver.solve(strength, starts[fold], _STEPS_TO_CHOOSE)
            logits[held_out] = features[rows[held_out]] @ solution[:-1] + solution[-1]
        temperature, losses[strength] = search_temperature(logits[judged], asked, weights=weights)
        if strength == best or losses[strength] < losses[best]:
            best, best_temperature, best_logits, worse = strength, temperature, logits / temperature, 0
        else:
            worse += losses[best] < learned
            if worse == _WORSE_BEFORE_STOPPING:
                break
    if weights is not None:  # probabilities are of the rows as they are
        plain = search_temperature(best_logits[judged], asked)[0]
        best_temperature, best_logits = best_temperature * plain, best_logits / plain
    return _Choice(best, best_temperature, losses, rows[judged], best_logits[judged])


def measure_constant(targets: Targets, classes: int, weights: Targets | None = None) -> float:
    """Return the log loss of always giving each class its share. weights: of each row, or of each row and label."""
    several = targets.ndim == 2
    cells = targets > 0 if several else np.eye(classes, dtype=bool)[targets]
    weighed = np.ones(cells.shape if several else (len(cells), 1)) if weights is None else weights
    weighed = weighed.reshape(len(cells), -1).astype(np.float64)
    shares = np.clip((weighed * cells).sum(0) / weighed.sum(0), 1e-12, 1 - 1e-12)
    losses = -np.log(np.where(cells, shares, 1 - shares)) if several else -np.log(shares)[targets][:, None]
    return float((weighed * losses).sum() / weighed.sum())


@dataclass(frozen=True)
class Drawn:
    """Rows for cross-validation, int64 [drawn], the fold of each, int64, and whether it is judged by, bool."""

    rows: NDArray[np.int64]
    fold_of: NDArray[np.int64]
    judged: NDArray[np.bool_]


def draw_judged(targets: Targets, loss: ProbeLoss, seed: int, always: Targets | None = None) -> Drawn:
    """Draw at most 5,000 rows for cross-validation. always: targets that every fold learns from."""
    rows = np.random.default_rng(seed).permutation(len(targets))[:MOST_ROWS_TO_CHOOSE]
    part = loss.take(rows)
    fold_of = part.fold_of
    if fold_of is None:
        fold_of = assign_folds(targets[rows], seed, by_class=loss.folds_by_class, texts=part.texts)
    return Drawn(rows, fold_of, find_judged(targets[rows], fold_of, part.texts, always))


def assign_folds(
    targets: Targets, seed: int, *, by_class: bool, texts: NDArray[np.int64] | None = None
) -> NDArray[np.int64]:
    """Return each row's fold, int64 [rows]. by_class: targets are class numbers, and folds are stratified by them.

    texts: a number for each row's text; rows with the same are in one fold.
    """
    order = np.random.default_rng([seed, 1]).permutation(len(targets))
    if by_class:
        order = order[np.argsort(targets[order], kind="stable")]
    folds = np.empty(len(targets), np.int64)
    folds[order] = np.arange(len(targets)) % FOLDS
    return keep_together(folds, texts)


def find_judged(
    targets: Targets,
    fold_of: NDArray[np.int64],
    texts: NDArray[np.int64] | None = None,
    always: Targets | None = None,
) -> NDArray[np.bool_]:
    """Return which rows say how good the models of the other folds are: bool [rows].

    These models have learned a row's class, where it has one class, and not its text. A row of a class that its model
    never saw is wrong whatever the model is like, and would make all models look too sure. Where only one class has
    rows left, none says anything. always: targets that every fold learns from. texts: a number for each row's text.
    """
    judged, one_class = np.ones(len(targets), bool), targets.ndim == 1
    for fold in np.unique(fold_of):
        inside, outside = fold_of == fold, fold_of != fold
        judged[inside] &= bool(outside.any())
        if one_class:
            learned = targets[outside] if always is None else np.concatenate([targets[outside], always])
            judged[inside] &= np.isin(targets[inside], learned)
        if texts is not None:
            judged[inside] &= ~np.isin(texts[inside], texts[outside])
    if one_class and len(np.unique(targets[judged])) < 2:
        judged[:] = False
    return judged


class _Solver:
    """Solves the head for these rows, once for each C.

    L-BFGS runs in the features' principal axes, scaled so that the loss has a similar curvature along each. The
    solution is the same, in a third of the steps.
    """

    def __init__(self, features: Floats, targets: Targets, classes: int, loss: ProbeLoss) -> None:
        import torch

        self._inputs, self._classes, self._loss = torch.from_numpy(features), classes, loss
        self._cells, self._weights = loss.spread(targets, classes)
        self._variances, self._axes = torch.linalg.eigh(self._inputs.T @ self._inputs / len(features))

    def solve(self, strength: float, start: Floats | None, steps: int) -> Floats:
        """Return weights and, in the last row, biases: float32 [width + 1, classes]. Biases are not regularized."""
        import torch

        loss, axes, (rows, width) = self._loss, self._axes, self._inputs.shape
        decay = 1 / (strength * max(rows, 1))
        stretch = (self._variances.clamp_min(0) * loss.curvature(self._classes) + decay).rsqrt()[:, None]
        rotated, penalty = self._inputs @ (axes * stretch.T), decay * stretch**2
        parameters = torch.zeros(width + 1, self._classes)
        if start is not None:
            initial = torch.from_numpy(start)
            parameters[:-1], parameters[-1] = axes.T @ initial[:-1] / stretch, initial[-1]
        parameters.requires_grad_(True)
        parameters.grad = torch.empty_like(parameters)
        optimizer = torch.optim.LBFGS(
            [parameters],
            max_iter=steps,
            history_size=8,
            tolerance_grad=1e-5,
            tolerance_change=1e-8,
            line_search_fn="strong_wolfe",
        )

        @torch.no_grad()
        def evaluate() -> torch.Tensor:
            slopes, d_parameters = parameters[:-1], parameters.grad
            assert d_parameters is not None
            value, gradient = loss.measure(torch.addmm(parameters[-1], rotated, slopes), self._cells, self._weights)
            gradient /= rows
            torch.mm(rotated.T, gradient, out=d_parameters[:-1])
            d_parameters[:-1].addcmul_(penalty, slopes)
            d_parameters[-1] = gradient.sum(0) if loss.intercept else 0.0
            total: torch.Tensor = value / rows + 0.5 * (penalty * slopes**2).sum()
            return total

        optimizer.step(evaluate)  # type: ignore[no-untyped-call]
        solved = parameters.detach()
        result: Floats = torch.cat([axes @ (solved[:-1] * stretch), solved[-1:]]).numpy()
        return result
