"""Linear models of features, solved to their optimum: what a head on a frozen network can reach."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np

from kerasft.errors import UserError

# Tried from the strong to the weak; half steps follow around the best.
STRENGTHS: tuple[float, ...] = (10.0, 1.0, 1e-1, 1e-2, 1e-3, 1e-4, 1e-5, 1e-6)
# The largest entry of the gradient at which L-BFGS stops, at the end and while strengths are
# compared, and the most steps that it takes.
TOLERANCE, ROUGHLY, MOST_STEPS = 1e-6, 1e-5, 1000
# The validation loss rose so many times in a row: weaker strengths are not tried.
RISES = 2
# A feature that varies by less than this share of its size, or of the widest, is a constant.
CONSTANT = 1e-6

# Of outputs and targets (rows of numbers, or the class of each example: rows of 0 and 1 would be as
# large as outputs): the loss of each example, and its gradient by the outputs.
Loss = Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]
Held = tuple[Any, Any] | tuple[Any, Any, Any]


@dataclass(frozen=True)
class Linear:
    """A kernel and a bias: `features @ kernel + bias`.

    Args:
        kernel: `float64[width, outputs]`, for the features as they are: what standardized them
            is folded in.
        bias: `float64[outputs]`.
        strength: That of the penalty on the kernel, for standardized features.
        losses: The loss on validation examples of each strength that was tried.
        gradient: The largest entry of the gradient where the solver stopped; 0 in closed form.
        model: What it is called.
    """

    kernel: np.ndarray
    bias: np.ndarray
    strength: float
    losses: dict[float, float] = field(default_factory=dict)
    gradient: float = 0.0
    model: str = "logistic regression"

    def __call__(self, features: Any) -> np.ndarray:
        """Return the outputs of features, `float64[N, outputs]`."""
        return np.asarray(features @ self.kernel) + self.bias


def logistic(
    features: Any, targets: Any, *, classes: int | None = None, weights: Any = None,
    strengths: Sequence[float] = STRENGTHS, validation: Held | None = None, folds: int = 5,
    seed: int = 0, standardize: bool = True, tolerance: float = TOLERANCE,
) -> Linear:
    """Fit multinomial logistic regression: one class an example.

    The weighted mean of the cross-entropy plus `strength / 2` times the squared kernel is
    minimized, by L-BFGS (Liu and Nocedal, 1989, https://doi.org/10.1007/BF01589116) in float64,
    without random numbers. scikit-learn's `C` is `1 / (strength * weights.sum())`.

    Args:
        features: `[N, width]`, dense or `scipy.sparse`.
        targets: `int[N]`, or `float[N, classes]` of probabilities.
        classes: How many outputs there are; by default as many as targets name.
        weights: `float[N]`; by default all 1.
        strengths: Those that are tried. Of one nothing is chosen.
        validation: `(features, targets)` or `(features, targets, weights)` that the strength is
            chosen on, by the loss; by cross-validation where there is none.
        folds: Of cross-validation, with as much of each class in each of them.
        seed: Of the folds.
        standardize: Whether features get mean 0 and deviation 1 first; not of sparse ones, whose
            zeros would be lost.
        tolerance: The largest entry of the gradient at which the solver stops.

    Returns:
        A `Linear` to logits.

    Raises:
        UserError: If a feature is no finite number.

    Example:
        >>> import numpy as np
        >>> points = np.array([[0.0], [1.0], [2.0], [3.0]])
        >>> found = logistic(points, [0, 0, 1, 1], strengths=[0.1])
        >>> found(points).argmax(axis=1)
        array([0, 0, 1, 1])
    """
    given = np.asarray(targets)
    classes = classes or (given.shape[1] if given.ndim == 2 else int(given.max()) + 1)
    return _fit(
        features, partial(_classes, units=classes), targets, _cross_entropy, weights, strengths,
        validation, folds, seed, standardize, tolerance, units=classes,
    )


def independent(
    features: Any, targets: Any, *, weights: Any = None,
    strengths: Sequence[float] = STRENGTHS, validation: Held | None = None, folds: int = 5,
    seed: int = 0, standardize: bool = True, tolerance: float = TOLERANCE,
) -> Linear:
    """Fit one binary logistic regression a class: any number of classes an example.

    Args:
        features: See `logistic`, as all that follows.
        targets: `[N, classes]` of 0 and 1, or of probabilities.

    Returns:
        A `Linear` to logits. One strength is chosen for all classes, by their mean loss.

    Raises:
        UserError: If a feature is no finite number.

    Example:
        >>> import numpy as np
        >>> points = np.array([[0.0], [1.0], [2.0], [3.0]])
        >>> found = independent(points, [[0, 1], [0, 1], [1, 0], [1, 0]], strengths=[0.01])
        >>> (found(points) > 0).astype(int).tolist()
        [[0, 1], [0, 1], [1, 0], [1, 0]]
    """
    return _fit(
        features, _columns, targets, _binary, weights, strengths, validation, folds, seed,
        standardize, tolerance,
    )


def ridge(
    features: Any, targets: Any, *, weights: Any = None,
    strengths: Sequence[float] = STRENGTHS, validation: Held | None = None, folds: int = 5,
    seed: int = 0, standardize: bool = True, tolerance: float = TOLERANCE,
) -> Linear:
    """Fit numbers by least squares with a penalty on the kernel.

    Half the weighted mean of the squared errors plus `strength / 2` times the squared kernel is
    minimized, of targets with mean 0 and deviation 1; in closed form where features are dense.

    Args:
        features: See `logistic`, as all that follows.
        targets: `float[N]` or `float[N, numbers]`.

    Returns:
        A `Linear` to the numbers.

    Raises:
        UserError: If a feature is no finite number.

    Example:
        >>> import numpy as np
        >>> points = np.array([[0.0], [1.0], [2.0]])
        >>> found = ridge(points, [1.0, 3.0, 5.0], strengths=[1e-9])
        >>> found(points).round(3).tolist()
        [[1.0], [3.0], [5.0]]
    """
    numbers = _columns(targets)
    share = _shares_of(weights, len(numbers))
    center = share @ numbers
    spread = np.sqrt(share @ (numbers - center) ** 2)
    spread = np.where(spread > 0, spread, 1.0)
    found = _fit(
        features, lambda given: (_columns(given) - center) / spread, targets, _squared, weights,
        strengths, validation, folds, seed, standardize, tolerance,
    )
    return Linear(
        found.kernel * spread, found.bias * spread + center, found.strength, found.losses,
        found.gradient, "ridge regression",
    )


def _classes(targets: Any, units: int) -> np.ndarray:
    """Return the class of each example, or its shares of classes where these are given."""
    given = np.asarray(targets)
    return given.astype("float64") if given.ndim == 2 else np.arange(units)[given.astype("int64")]


def _columns(targets: Any) -> np.ndarray:
    given = np.asarray(targets, "float64")
    return given if given.ndim == 2 else given[:, None]


def _cross_entropy(outputs: np.ndarray, targets: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    logs = outputs - outputs.max(axis=1, keepdims=True)
    logs -= np.log(np.exp(logs).sum(axis=1, keepdims=True))
    if targets.ndim == 1:
        own = np.arange(len(targets)), targets
        each, apart = -logs[own], np.exp(logs, out=logs)
        apart[own] -= 1.0
        return each, apart
    whole = targets.sum(axis=1, keepdims=True)
    return -(targets * logs).sum(axis=1), np.exp(logs) * whole - targets


def _binary(outputs: np.ndarray, targets: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    from scipy.special import expit

    return (np.logaddexp(0.0, outputs) - targets * outputs).sum(axis=1), expit(outputs) - targets


def _squared(outputs: np.ndarray, targets: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    apart = outputs - targets
    return (apart**2).sum(axis=1) / 2, apart


def _shares_of(weights: Any, count: int) -> np.ndarray:
    """Return weights that add up to 1."""
    given = np.ones(count) if weights is None else np.asarray(weights, "float64").ravel()
    return given / given.sum()


@dataclass
class _Problem:
    """Examples to fit, and those that a strength is judged by.

    Args:
        held: Features, targets and weights of the latter.
        solution: Where the last strength ended: the next one begins there.
    """

    features: Any
    targets: np.ndarray
    share: np.ndarray
    held: tuple[Any, np.ndarray, np.ndarray] | None
    solution: np.ndarray
    gradient: float = 0.0
    spectrum: Any = None

    def solve(self, loss: Loss, strength: float, tolerance: float) -> np.ndarray:
        """Return the kernel with the bias as its last row."""
        if loss is _squared and isinstance(self.features, np.ndarray):
            self.solution = self._in_closed_form(strength)
        else:
            self.solution = self._descend(loss, strength, tolerance)
        return self.solution

    def judge(self, loss: Loss, solution: np.ndarray) -> float:
        """Return the mean loss of the examples that were held back."""
        assert self.held is not None
        features, targets, share = self.held
        return float(share @ loss(_outputs(features, solution), targets)[0])

    def _descend(self, loss: Loss, strength: float, tolerance: float) -> np.ndarray:
        from scipy.optimize import minimize

        shape = self.solution.shape

        def penalized(flat: np.ndarray) -> tuple[float, np.ndarray]:
            now = flat.reshape(shape)
            each, weighted = loss(_outputs(self.features, now), self.targets)
            weighted *= self.share[:, None]
            gradient = np.vstack([self.features.T @ weighted, weighted.sum(axis=0)])
            gradient[:-1] += strength * now[:-1]
            value = self.share @ each + strength / 2 * (now[:-1] ** 2).sum()
            return float(value), gradient.ravel()

        found = minimize(
            penalized, self.solution.ravel(), jac=True, method="L-BFGS-B",
            options={"gtol": tolerance, "ftol": 0.0, "maxiter": MOST_STEPS,
                     "maxfun": 2 * MOST_STEPS, "maxcor": 10},
        )  # fmt: skip
        self.gradient = float(np.abs(found.jac).max())
        return found.x.reshape(shape)

    def _in_closed_form(self, strength: float) -> np.ndarray:
        """Solve all strengths from one decomposition, of whichever of the two sides is shorter."""
        center, middle = self.share @ self.features, self.share @ self.targets
        if self.spectrum is None:
            root = np.sqrt(self.share)[:, None]
            rows = root * (self.features - center)
            wide = rows.shape[1] > rows.shape[0]
            values, vectors = np.linalg.eigh(rows @ rows.T if wide else rows.T @ rows)
            aim = root * (self.targets - middle)
            self.spectrum = np.maximum(values, 0.0), vectors, vectors.T @ (
                aim if wide else rows.T @ aim
            ), rows.T if wide else None
        values, vectors, aimed, back = self.spectrum
        found = vectors @ (aimed / (values + strength)[:, None])
        kernel = found if back is None else back @ found
        return np.vstack([kernel, middle - center @ kernel])


def _outputs(features: Any, solution: np.ndarray) -> np.ndarray:
    return np.asarray(features @ solution[:-1]) + solution[-1]


def _fit(
    features: Any, encode: Callable[[Any], np.ndarray], targets: Any, loss: Loss, weights: Any,
    strengths: Sequence[float], validation: Held | None, folds: int, seed: int,
    standardize: bool, tolerance: float, *, units: int = 0,
) -> Linear:
    """Choose the strength, and solve for it; `units` where targets are encoded as classes."""
    given, encoded = _matrix(features), encode(targets)
    share = _shares_of(weights, len(encoded))
    center, spread = _moments(given, share if standardize else None)
    rows = _standardized(given, center, spread)
    start = np.zeros((given.shape[1] + 1, units or encoded.shape[1]))
    whole = _Problem(rows, encoded, share, None, start)
    problems = [whole]
    if len(strengths) > 1 and validation is not None:
        other, answers = _matrix(validation[0]), encode(validation[1])
        whole.held = (
            _standardized(other, center, spread), answers,
            _shares_of(validation[2] if len(validation) > 2 else None, len(answers)),
        )
    elif len(strengths) > 1:
        problems = [
            _Problem(rows[here], encoded[here], share[here] / share[here].sum(),
                     (rows[there], encoded[there], share[there] / share[there].sum()), start)
            for here, there in _folds(encoded, loss is _cross_entropy, folds, seed)
        ]  # fmt: skip
    losses: dict[float, float] = {}
    if len(strengths) == 1:
        strength = float(strengths[0])
    else:
        strength = _choose(problems, loss, strengths, losses, max(tolerance, ROUGHLY))
    solution = whole.solve(loss, strength, tolerance)
    kernel = solution[:-1] / spread[:, None]
    return Linear(kernel, solution[-1] - center @ kernel, strength, losses, whole.gradient)


def _choose(
    problems: Sequence[_Problem], loss: Loss, strengths: Sequence[float],
    losses: dict[float, float], tolerance: float,
) -> float:
    """Return the strength with the lowest mean loss; each problem keeps the solution of it."""
    reached: dict[float, list[np.ndarray]] = {}

    def judge(strength: float) -> float:
        reached[strength] = [problem.solve(loss, strength, tolerance) for problem in problems]
        found = [
            problem.judge(loss, solution)
            for problem, solution in zip(problems, reached[strength], strict=True)
        ]
        losses[strength] = float(np.mean(found))
        return losses[strength]

    rises, least = 0, np.inf
    for strength in sorted(map(float, strengths), reverse=True):
        now = judge(strength)
        rises = 0 if now < least else rises + 1
        least = min(now, least)
        if rises == RISES:
            break
    best = min(losses, key=losses.__getitem__)
    if tuple(strengths) == STRENGTHS:
        for strength in (best * 10**0.5, best / 10**0.5):
            for problem, solution in zip(problems, reached[best], strict=True):
                problem.solution = solution
            judge(strength)
        best = min(losses, key=losses.__getitem__)
    for problem, solution in zip(problems, reached[best], strict=True):
        problem.solution = solution
    return best


def _matrix(features: Any) -> Any:
    """Return features in float64, sparse ones as rows."""
    from scipy import sparse

    given = features
    given = given.tocsr().astype("float64") if sparse.issparse(given) else np.asarray(
        given, "float64"
    )
    if not np.isfinite(given.data if sparse.issparse(given) else given).all():
        raise UserError(
            "features must be finite numbers: some that the network computed are infinite or no "
            "numbers. Set precision=float32, or look for broken weights."
        )
    return given


def _moments(rows: Any, share: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
    """Return the weighted mean and deviation of each feature; 0 and 1 where there is no share."""
    if share is None or not isinstance(rows, np.ndarray):
        return np.zeros(rows.shape[1]), np.ones(rows.shape[1])
    center = share @ rows
    spread = np.sqrt(share @ (rows - center) ** 2)
    # A constant stays at 0, and its kernel with it.
    least = CONSTANT * np.maximum(np.abs(center), spread.max(initial=0.0))
    return center, np.where(spread > least, spread, np.inf)


def _standardized(rows: Any, center: np.ndarray, spread: np.ndarray) -> Any:
    return (rows - center) / spread if isinstance(rows, np.ndarray) else rows


def _folds(
    targets: np.ndarray, by_class: bool, folds: int, seed: int
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return rows to fit and rows to judge by, a pair a fold."""
    order = np.random.default_rng(seed).permutation(len(targets))
    if by_class:
        classes = targets if targets.ndim == 1 else targets.argmax(axis=1)
        order = order[np.argsort(classes[order], kind="stable")]
    fold = np.empty(len(targets), "int64")
    fold[order] = np.arange(len(targets)) % folds
    return [(np.flatnonzero(fold != i), np.flatnonzero(fold == i)) for i in range(folds)]
