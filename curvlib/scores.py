r"""Scores: one number for each sample, computed from a trace.

Every function here is a formula. Most take one column of a trace, an array [E, N] of
scored epochs by samples, and return [N]. The scored epochs may be every k-th epoch of
training. Means, sums and counts use the scored epochs only. To use some of them, select
rows first: ``el2n(errors[trace.epochs <= 20])``.

Samples that a network fits with full confidence can tie exactly: in float32 their loss
is 0, their probability is 1, and their curvature underflows. A metric must not depend
on their order in the data set.

CONTRIBUTING.md says how to add a score.
"""

import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:  # pandas takes half a second to load; the formulas need none
    import pandas as pd

    from curvlib.trace import Trace


def curvature_square(squared_frobenius_norm: np.ndarray) -> np.ndarray:
    """Input loss curvature of the paper: mean over epochs of the estimate of tr(H²).

    Garg, Ravikumar, Roy (2024). High is suspect.

    Args:
        squared_frobenius_norm: Mean over probes of ‖Hv‖², shape [E, N], in squared
            loss per input unit to the fourth.

    Returns:
        Scores, shape [N], same unit.

    Raises:
        ValueError: If the array is not [E, N] or not finite.
    """
    return _checked(squared_frobenius_norm=squared_frobenius_norm).mean(0)


def curvature_norm(mean_hvp_norm: np.ndarray) -> np.ndarray:
    """Mean over epochs of E‖Hv‖, as in the code released with the paper.

    From the code of Garg, Ravikumar, Roy (2024). High is suspect. Within one epoch it
    ranks samples almost as the square does. Over epochs, a single peak has less weight.

    Args:
        mean_hvp_norm: Mean over probes of ‖Hv‖, shape [E, N], in loss per squared
            input unit.

    Returns:
        Scores, shape [N], same unit.

    Raises:
        ValueError: If the array is not [E, N] or not finite.
    """
    return _checked(mean_hvp_norm=mean_hvp_norm).mean(0)


def curvature_last(squared_frobenius_norm: np.ndarray) -> np.ndarray:
    """Curvature at the last scored epoch only, which the paper argues against.

    Garg, Ravikumar, Roy (2024). High is suspect. The loss of an overfitted network is
    flat around memorised samples, so a single late checkpoint no longer shows them.

    Args:
        squared_frobenius_norm: Mean over probes of ‖Hv‖², shape [E, N].

    Returns:
        Scores, shape [N], same unit: squared loss per input unit to the fourth.

    Raises:
        ValueError: If the array is not [E, N] or not finite.
    """
    return _checked(squared_frobenius_norm=squared_frobenius_norm)[-1]


def curvature_peak(squared_frobenius_norm: np.ndarray) -> np.ndarray:
    """Curvature at the scored epoch with the largest mean curvature.

    Garg, Ravikumar, Roy (2024) show this peak, which comes before the network overfits.
    High is suspect.

    Args:
        squared_frobenius_norm: Mean over probes of ‖Hv‖², shape [E, N].

    Returns:
        Scores, shape [N], same unit: squared loss per input unit to the fourth.

    Raises:
        ValueError: If the array is not [E, N] or not finite.

    Example:
        >>> curvature_peak(np.array([[0.0, 1.0], [4.0, 2.0], [1.0, 0.0]]))
        array([4., 2.])
    """
    values = _checked(squared_frobenius_norm=squared_frobenius_norm)
    return values[values.mean(1).argmax()]


def cumulative_loss(loss: np.ndarray) -> np.ndarray:
    """Cumulative sample loss (CSL): the loss summed over training.

    Ravikumar et al. (2025), *Towards Memorization Estimation: Fast, Formal and Free*.
    High is suspect.

    Args:
        loss: Cross-entropy with the given label, shape [E, N], in nats.

    Returns:
        Scores, shape [N], in nats; they grow with the number of scored epochs.

    Raises:
        ValueError: If the array is not [E, N] or not finite.

    Example:
        >>> cumulative_loss(np.array([[2.0, 1.0], [0.5, 0.0]]))  # E=2, N=2
        array([2.5, 1. ])
    """
    return _checked(loss=loss).sum(0)


def cumulative_gradient(gradient_norm: np.ndarray) -> np.ndarray:
    """Cumulative sample gradient: squared input-gradient norm summed over training.

    *Memorization Through the Lens of Sample Gradients* (ICLR 2026), by the group that
    wrote the paper. High is suspect.

    Args:
        gradient_norm: ‖∇ₓL‖, not squared, shape [E, N], in loss per input unit.

    Returns:
        Scores, shape [N], in squared loss per squared input unit.

    Raises:
        ValueError: If the array is not [E, N] or not finite.
    """
    return np.square(_checked(gradient_norm=gradient_norm)).sum(0)


def aum(margin: np.ndarray) -> np.ndarray:
    r"""Area under the margin: mean over epochs of the logit margin.

    Pleiss et al. (2020). **Low** is suspect: a negative margin means that the network
    prefers a class other than the given one. The authors use the logits computed during
    training. A trace has the logits of clean images after each scored epoch.

    .. math:: \frac1E \sum_e \left( z_{ei,y_i} - \max_{c \ne y_i} z_{ei,c} \right)

    Args:
        margin: Logit of the given label minus the largest other logit, shape [E, N].

    Returns:
        Scores, shape [N], in logits (nats).

    Raises:
        ValueError: If the array is not [E, N] or not finite.

    Example:
        >>> aum(np.array([[1.0, -3.0], [5.0, 1.0]]))
        array([ 3., -1.])
    """
    return _checked(margin=margin).mean(0)


def aum_softmax(softmax_margin: np.ndarray) -> np.ndarray:
    """Mean over epochs of the margin between probabilities, instead of logits.

    Pleiss et al. (2020) with softmax outputs. They are bounded, so no epoch outweighs
    the others. **Low** is suspect.

    Args:
        softmax_margin: Probability of the given label minus the largest other one,
            shape [E, N].

    Returns:
        Scores, shape [N], in [-1, 1].

    Raises:
        ValueError: If the array is not [E, N] or not finite.

    Example:
        >>> aum_softmax(np.array([[0.25, -0.5], [0.75, 0.0]]))
        array([ 0.5 , -0.25])
    """
    return _checked(softmax_margin=softmax_margin).mean(0)


def el2n(errors: np.ndarray) -> np.ndarray:
    """Error L2 norm ‖p − onehot(label)‖₂, averaged over epochs.

    Paul et al. (2021). High is suspect. To choose samples to prune, the authors use
    early epochs only and average over ten initialisations. We use all scored epochs of
    one run, so that every score uses the same trace.

    Args:
        errors: The norm at each epoch, shape [E, N], between 0 and √2.

    Returns:
        Scores, shape [N], dimensionless.

    Raises:
        ValueError: If the array is not [E, N] or not finite.
    """
    return _checked(el2n=errors).mean(0)


def grand(last_layer_gradient: np.ndarray) -> np.ndarray:
    r"""Norm of the gradient by the last layer's weights, averaged over epochs.

    GraNd of Paul et al. (2021), restricted to the last linear layer, where it has a
    closed form: the error times the norm of the features :math:`h`. High is suspect.
    The authors use all weights, early epochs, and ten initialisations.

    .. math:: \frac1E \sum_e \| p_{ei} - \mathrm{onehot}(y_i) \|_2
        \sqrt{\| h_{ei} \|^2 + 1}

    Args:
        last_layer_gradient: With respect to weights and bias of the last layer, shape
            [E, N].

    Returns:
        Scores, shape [N], in nats per unit of weight.

    Raises:
        ValueError: If the array is not [E, N] or not finite.

    Example:
        >>> grand(np.array([[1.0, 0.0], [3.0, 1.0]]))
        array([2. , 0.5])
    """
    return _checked(last_layer_gradient=last_layer_gradient).mean(0)


def forgetting_events(correct: np.ndarray) -> np.ndarray:
    r"""How often a sample went from right to wrong; E if it was never right.

    Toneva et al. (2019). High is suspect. As in the authors' ranking, samples that were
    never learned come after all others. They get E, which no count can reach, because
    each event takes two scored epochs. The authors check a sample each time it is in a
    batch. We check after scored epochs, and miss an event between two of them.

    .. math:: \sum_{e>1} [\,\mathrm{right}_{e-1,i} \wedge \mathrm{wrong}_{ei}\,]

    Args:
        correct: Whether the given label was predicted, shape [E, N], bool or 0 and 1.

    Returns:
        Counts, shape [N], int64.

    Raises:
        ValueError: If the array is not [E, N], or holds anything but 0 and 1.

    Example:
        >>> right = np.array([[1, 1, 0], [0, 1, 0], [1, 1, 0], [0, 1, 0]])  # E=4, N=3
        >>> forgetting_events(right)  # forgotten twice, never forgotten, never right
        array([2, 0, 4])
    """
    correct = _checked_bool(correct=correct)
    events = (correct[:-1] & ~correct[1:]).sum(0)
    return np.where(correct.any(0), events, len(correct))


def learning_time(correct: np.ndarray) -> np.ndarray:
    r"""First scored epoch from which a sample stays correct until the end.

    Maini et al. (2022), who call it first-split learning time. High is suspect. The
    time counts scored epochs from 1, so ``trace.epochs[time - 1]`` is the epoch of
    training. A sample that is wrong in the last scored epoch was not learned, and gets
    E + 1. (Published re-runs gave such samples time 0, as if they were learned first,
    and reversed the sign of the score.)

    .. math:: \min \{\, t : \mathrm{right}_{ei} \text{ for all } e \ge t \,\}

    Args:
        correct: Whether the given label was predicted, shape [E, N], bool or 0 and 1.

    Returns:
        Times in 1, ..., E + 1, shape [N], int64.

    Raises:
        ValueError: If the array is not [E, N], or holds anything but 0 and 1.

    Example:
        >>> right = np.array([[1, 1, 0], [1, 0, 1], [1, 1, 0]])  # E=3, N=3
        >>> learning_time(right)  # at once, after a relapse, never
        array([1, 3, 4])
    """
    correct = _checked_bool(correct=correct)
    right_until_end = np.logical_and.accumulate(correct[::-1])  # from the last epoch
    return len(correct) + 1 - right_until_end.sum(0)


def in_confidence_last(probability: np.ndarray) -> np.ndarray:
    """One minus the probability of the given label, in the last scored epoch.

    As in the text of Ravikumar et al. (2025). High is suspect. Confident predictions
    tie at 0, because float32 rounds a probability above 1 - 3e-8 to 1.

    Args:
        probability: Probability of the given label, shape [E, N].

    Returns:
        Scores, shape [N], in [0, 1].

    Raises:
        ValueError: If the array is not [E, N] or not finite.
    """
    return 1 - _checked(probability=probability)[-1]


def in_confidence_mean(probability: np.ndarray) -> np.ndarray:
    """One minus the mean over epochs of the probability of the given label.

    Swayamdipta et al. (2020), *Dataset Cartography*, whose confidence is that mean.
    High is suspect.

    Args:
        probability: Probability of the given label, shape [E, N].

    Returns:
        Scores, shape [N], in [0, 1].

    Raises:
        ValueError: If the array is not [E, N] or not finite.
    """
    return 1 - _checked(probability=probability).mean(0)


def in_confidence_max_last(max_probability: np.ndarray) -> np.ndarray:
    """One minus the largest probability of any class, in the last scored epoch.

    The re-run released by Ravikumar et al. (2025) computes in-confidence this way.
    Their text uses the probability of the given label. High is suspect, but a network
    that is confident of a *different* class goes unnoticed.

    Args:
        max_probability: Largest softmax output, shape [E, N].

    Returns:
        Scores, shape [N], in [0, 1 - 1/C].

    Raises:
        ValueError: If the array is not [E, N] or not finite.
    """
    return 1 - _checked(max_probability=max_probability)[-1]


def entropy(entropies: np.ndarray) -> np.ndarray:
    """Entropy of the prediction, averaged over epochs; it ignores the label.

    High is suspect.

    Args:
        entropies: Entropy of the softmax at each epoch, shape [E, N], in nats.

    Returns:
        Scores, shape [N], in nats, at most log C.

    Raises:
        ValueError: If the array is not [E, N] or not finite.
    """
    return _checked(entropy=entropies).mean(0)


def final_loss(loss: np.ndarray) -> np.ndarray:
    """Loss in the last scored epoch; confident predictions tie at 0.

    High is suspect, as long as the network has not fitted the wrong labels too.

    Args:
        loss: Cross-entropy with the given label, shape [E, N], in nats.

    Returns:
        Scores, shape [N], in nats.

    Raises:
        ValueError: If the array is not [E, N] or not finite.
    """
    return _checked(loss=loss)[-1]


def random(index: np.ndarray, *, seed: int = 0) -> np.ndarray:
    """A random score for comparison: uniform on [0, 1), fixed for each sample.

    A sample's value depends only on the seed and its index. A subset, another order, or
    a second run on the same data set gives it the same value.

    Args:
        index: Positions in the original data set, shape [N], integers from 0.
        seed: Seed of the stream; a sample gets its value number ``index``.

    Returns:
        Scores, shape [N].

    Raises:
        ValueError: If the index is not a vector of non-negative integers.

    Example:
        >>> few, many = random(np.array([7])), random(np.arange(100))
        >>> bool(few[0] == many[7])
        True
    """
    index = np.asarray(index)
    if index.ndim != 1 or index.size == 0 or not np.issubdtype(index.dtype, np.integer):
        raise ValueError(
            f"index must be a vector of integers, got {index.dtype} of shape "
            f"{index.shape}"
        )
    if index.min() < 0:
        raise ValueError(f"index counts from 0, got {index.min()}")
    if index.max() < 10_000_000:
        return np.random.default_rng(seed).random(index.max() + 1)[index]
    streams = (np.random.PCG64(seed).advance(place) for place in index.tolist())
    return np.array([np.random.Generator(stream).random() for stream in streams])


class Score(NamedTuple):
    """What the library knows about a score.

    Attributes:
        function: The formula; None if a trace is not enough to compute it.
        label: Its name in tables and figures.
        fields: Columns of the trace, in the order of the function's arguments; empty if
            a trace is not enough to compute it.
        sign: +1 if high is suspect, -1 if low is.
        source: Citation key in the book's bibliography; "" if it needs none.
        needs: What must be measured at each scored epoch: ``"logits"``, ``"input
            gradient"`` or ``"curvature"``; or after the run: ``"second training"`` or
            ``"Gauss-Newton"``; ``"index"`` for the random score.
        last_only: Whether it uses the last epoch only.
    """

    function: Callable[..., np.ndarray] | None
    label: str
    fields: tuple[str, ...]
    sign: int
    source: str
    needs: str
    last_only: bool = False


_SQUARE, _NORM = ("squared_frobenius_norm",), ("mean_hvp_norm",)
# In the order of the tables. The last three need more than a trace:
# curvlib.runs.halves measures them.
# fmt: off
SCORES: dict[str, Score] = {
    "curvature_square": Score(
        curvature_square, "mean curvature (square)", _SQUARE, +1, "garg2024",
        "curvature"),
    "curvature_norm": Score(
        curvature_norm, "mean curvature (norm)", _NORM, +1, "garg2024", "curvature"),
    "curvature_last": Score(
        curvature_last, "curvature at the last epoch", _SQUARE, +1, "garg2024",
        "curvature", last_only=True),
    "curvature_peak": Score(
        curvature_peak, "curvature at its peak", _SQUARE, +1, "garg2024", "curvature"),
    "cumulative_loss": Score(
        cumulative_loss, "cumulative loss", ("loss",), +1, "ravikumar2025", "logits"),
    "cumulative_gradient": Score(
        cumulative_gradient, "cumulative input gradient", ("gradient_norm",), +1,
        "ravikumar2026", "input gradient"),
    "aum": Score(
        aum, "area under the margin (AUM)", ("margin",), -1, "pleiss2020", "logits"),
    "aum_softmax": Score(
        aum_softmax, "AUM of probabilities", ("softmax_margin",), -1, "pleiss2020",
        "logits"),
    "el2n": Score(el2n, "error norm (EL2N)", ("el2n",), +1, "paul2021", "logits"),
    "grand": Score(
        grand, "last-layer gradient (GraNd)", ("last_layer_gradient",), +1, "paul2021",
        "logits"),
    "forgetting_events": Score(
        forgetting_events, "forgetting events", ("correct",), +1, "toneva2019",
        "logits"),
    "learning_time": Score(
        learning_time, "learning time", ("correct",), +1, "maini2022", "logits"),
    "in_confidence_last": Score(
        in_confidence_last, "1 − probability at the last epoch", ("probability",), +1,
        "ravikumar2025", "logits", last_only=True),
    "in_confidence_mean": Score(
        in_confidence_mean, "1 − mean probability", ("probability",), +1,
        "swayamdipta2020", "logits"),
    "in_confidence_max_last": Score(
        in_confidence_max_last, "1 − largest probability at the last epoch",
        ("max_probability",), +1, "ravikumar2025", "logits", last_only=True),
    "entropy": Score(entropy, "mean entropy", ("entropy",), +1, "", "logits"),
    "final_loss": Score(
        final_loss, "loss at the last epoch", ("loss",), +1, "", "logits",
        last_only=True),
    "random": Score(random, "random", (), +1, "", "index"),
    "confident_learning": Score(
        None, "confident learning", (), +1, "northcutt2021",
        "second training"),
    "second_split_forgetting": Score(
        None, "second-split forgetting time", (), -1, "maini2022",
        "second training"),
    "gauss_newton": Score(
        None, "exact curvature (Gauss-Newton)", (), +1, "", "Gauss-Newton",
        last_only=True),
}
# fmt: on
FROM_TRACE = tuple(  # names of the scores that need only a trace
    name for name, score in SCORES.items() if score.fields or score.needs == "index"
)


def compute(trace: "Trace", split: str = "train", *, seed: int = 0) -> "pd.DataFrame":
    """Compute all scores of one split that need only a trace, by the authors' formulas.

    Every column of a trace was measured after a scored epoch, in evaluation mode, on
    clean images. Some authors measure differently; each function says how.

    Args:
        trace: A run; every column is read once.
        split: One of ``curvlib.trace.SPLITS``.
        seed: Seed of the random score.

    Returns:
        One row for each sample, in index order: index, label (the given one), then the
        columns ``FROM_TRACE``, in that order. A score is left out if the trace lacks a
        column that it needs, and a warning names it.

    Raises:
        ValueError: If a field of the trace is not finite or of another shape than
            scored epochs × samples.
    """
    from curvlib.trace import NotRecordedError  # loads pandas, as the trace has by now

    # A field takes 4 bytes for each sample and epoch: it goes when no score is left
    # that needs it.
    kept: dict[str, np.ndarray] = {}

    def read(field: str) -> np.ndarray:
        if field not in kept:
            kept[field] = trace.read(field, split=split)
        return kept[field]

    samples = trace.samples(split)[["index", "label"]]
    index = samples["index"].to_numpy()
    shape = (len(trace.epochs), len(samples))
    columns, lacking = {}, {}
    for name in FROM_TRACE:
        score = SCORES[name]
        try:
            for field in score.fields:
                read(field)
        except NotRecordedError:
            lacking[name] = field
            continue
        for field in score.fields:
            if read(field).shape != shape:
                raise ValueError(
                    f"{field!r} of the trace must have shape {shape}, scored epochs × "
                    f"samples, got {read(field).shape}; is the run complete?"
                )
        columns[name] = (
            score.function(*map(read, score.fields))
            if score.fields
            else score.function(index, seed=seed)
        )
        later = FROM_TRACE[FROM_TRACE.index(name) + 1 :]
        needed = {field for other in later for field in SCORES[other].fields}
        for field in kept.keys() - needed:
            del kept[field]
    if lacking:
        warnings.warn(
            f"left out {', '.join(lacking)}: not every epoch of the trace has the "
            f"columns {', '.join(dict.fromkeys(lacking.values()))}",
            stacklevel=2,
        )
    return samples.assign(**columns)


def suspicion(frame: "pd.DataFrame") -> "pd.DataFrame":
    """Change signs so that a high value is suspect in every column.

    Args:
        frame: Any of the columns of ``SCORES``; index and label stay as they are.

    Returns:
        A new frame with every score times its sign.

    Raises:
        ValueError: If a column is not a known score, so its direction is unknown.
    """
    scores = [name for name in frame.columns if name not in ("index", "label")]
    unknown = [name for name in scores if name not in SCORES]
    if unknown:
        raise ValueError(
            f"no direction is known for {unknown}; drop them first, or add a row to "
            f"SCORES, which has {list(SCORES)}"
        )
    return frame.assign(**{name: frame[name] * SCORES[name].sign for name in scores})


def _checked(**named: np.ndarray) -> np.ndarray:
    """The given array as float64, if it is finite and scored epochs × samples."""
    ((name, values),) = named.items()
    values = np.asarray(values)
    if values.ndim != 2 or values.size == 0:
        raise ValueError(
            f"{name} must be scored epochs × samples, with at least one of each, got "
            f"shape {values.shape}"
        )
    values = values.astype(np.float64, copy=False)  # float32 sums of 200 epochs drift
    bad = np.argwhere(~np.isfinite(values))
    if len(bad):
        epoch, sample = bad[0]
        raise ValueError(
            f"{name} must be finite, got {values[epoch, sample]} at row {epoch}, "
            f"column {sample} (first of {len(bad)}); score again or drop that epoch"
        )
    return values


def _checked_bool(**named: np.ndarray) -> np.ndarray:
    values = _checked(**named)
    others = values[(values != 0) & (values != 1)]
    if others.size:
        raise ValueError(
            f"{next(iter(named))} must be bool, or hold 0 and 1 only, got {others[0]}"
        )
    return values.astype(bool)
