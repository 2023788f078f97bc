r"""Scores: what a trace says about each sample, one number a sample.

Every function here is a formula: arrays [E, N] of scored epochs by samples in, [N] out.
Scored epochs may be every k-th epoch of training; means, sums and counts run over the
scored ones. For other epochs select rows first: ``el2n(errors[trace.epochs <= 20])``.

Samples that a network fits without any doubt can tie exactly: in float32 their loss is
0, their probability 1, and their curvature underflows. Metrics must not let the order
of the data set decide between them.

To add a score: one function, one closed-form test, one row in ``SCORES``.
"""

import warnings
from collections.abc import Callable
from functools import cache
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:  # pandas costs half a second, and the formulas do without
    import pandas as pd

    from curvlib.trace import Trace


def curvature_square(squared_frobenius_norm: np.ndarray) -> np.ndarray:
    r"""Input loss curvature of the paper: mean over epochs of the estimate of tr(H²).

    Garg, Ravikumar, Roy (2024). High is suspect.

    .. math:: \frac1E \sum_e \widehat{\|H_{ei}\|_F^2}

    Args:
        squared_frobenius_norm: Mean over probes of ||Hv||², shape [E, N], in squared
            loss per input unit to the fourth.

    Returns:
        Scores, shape [N], same unit.
    """
    return _checked(squared_frobenius_norm=squared_frobenius_norm).mean(0)


def curvature_norm(mean_hvp_norm: np.ndarray) -> np.ndarray:
    r"""Mean over epochs of E||Hv||, what the code released with the paper averages.

    Garg, Ravikumar, Roy (2024), their code. High is suspect. Within one epoch it ranks
    almost as the square does; over epochs it gives less weight to a single peak.

    .. math:: \frac1E \sum_e \frac1K \sum_k \|H_{ei} v_k\|

    Args:
        mean_hvp_norm: Mean over probes of ||Hv||, shape [E, N], in loss per squared
            input unit.

    Returns:
        Scores, shape [N], same unit.
    """
    return _checked(mean_hvp_norm=mean_hvp_norm).mean(0)


def curvature_last(squared_frobenius_norm: np.ndarray) -> np.ndarray:
    """Curvature at the last scored epoch alone: what the paper argues against.

    Garg, Ravikumar, Roy (2024). High is suspect. An overfitted network is flat around
    the samples it has memorised, so that one late checkpoint no longer shows them.

    Args:
        squared_frobenius_norm: Mean over probes of ||Hv||², shape [E, N].

    Returns:
        Scores, shape [N], same unit: squared loss per input unit to the fourth.
    """
    return _checked(squared_frobenius_norm=squared_frobenius_norm)[-1]


def curvature_peak(squared_frobenius_norm: np.ndarray) -> np.ndarray:
    """Curvature at the one scored epoch at which its mean over the samples is largest.

    Garg, Ravikumar, Roy (2024) show the peak, before the network overfits. High is
    suspect.

    Args:
        squared_frobenius_norm: Mean over probes of ||Hv||², shape [E, N].

    Returns:
        Scores, shape [N], same unit: squared loss per input unit to the fourth.

    Example:
        >>> curvature_peak(np.array([[0.0, 1.0], [4.0, 2.0], [1.0, 0.0]]))
        array([4., 2.])
    """
    values = _checked(squared_frobenius_norm=squared_frobenius_norm)
    return values[values.mean(1).argmax()]


def cumulative_loss(loss: np.ndarray) -> np.ndarray:
    r"""Cumulative sample loss (CSL): the loss summed over training.

    Ravikumar et al. (2025), *Towards Memorization Estimation: Fast, Formal and Free*.
    High is suspect.

    .. math:: \sum_e \ell_{ei}

    Args:
        loss: Cross-entropy with the label given, shape [E, N], in nats.

    Returns:
        Scores, shape [N], in nats; grows with the number of scored epochs.

    Example:
        >>> cumulative_loss(np.array([[2.0, 1.0], [0.5, 0.0]]))  # E=2, N=2
        array([2.5, 1. ])
    """
    return _checked(loss=loss).sum(0)


def cumulative_gradient(gradient_norm: np.ndarray) -> np.ndarray:
    r"""Cumulative sample gradient: squared input-gradient norm summed over training.

    *Memorization Through the Lens of Sample Gradients* (ICLR 2026), by the group that
    wrote the paper. High is suspect.

    .. math:: \sum_e \|\nabla_x \ell_{ei}\|^2

    Args:
        gradient_norm: Not squared, shape [E, N], in loss per input unit.

    Returns:
        Scores, shape [N], in squared loss per squared input unit.
    """
    return np.square(_checked(gradient_norm=gradient_norm)).sum(0)


def aum(margin: np.ndarray) -> np.ndarray:
    r"""Area under the margin: mean over epochs of the logit margin.

    Pleiss et al. (2020). **Low** is suspect: a negative margin means that the network
    prefers another class than the one given. The authors use the logits met in
    training; a trace has those after each scored epoch, of clean images.

    .. math:: \frac1E \sum_e \left( z_{ei,y_i} - \max_{c \ne y_i} z_{ei,c} \right)

    Args:
        margin: Logit of the label given minus the largest other logit, shape [E, N].

    Returns:
        Scores, shape [N], in logits (nats).

    Example:
        >>> aum(np.array([[1.0, -3.0], [5.0, 1.0]]))
        array([ 3., -1.])
    """
    return _checked(margin=margin).mean(0)


def aum_softmax(softmax_margin: np.ndarray) -> np.ndarray:
    r"""Mean over epochs of the margin between probabilities instead of logits.

    Pleiss et al. (2020) with softmax outputs, bounded, so that no epoch outweighs the
    others. **Low** is suspect.

    .. math:: \frac1E \sum_e \left( p_{ei,y_i} - \max_{c \ne y_i} p_{ei,c} \right)

    Args:
        softmax_margin: Probability of the label given minus the largest other one,
            shape [E, N].

    Returns:
        Scores, shape [N], in [-1, 1].

    Example:
        >>> aum_softmax(np.array([[0.25, -0.5], [0.75, 0.0]]))
        array([ 0.5 , -0.25])
    """
    return _checked(softmax_margin=softmax_margin).mean(0)


def el2n(errors: np.ndarray) -> np.ndarray:
    r"""Error L2 norm, averaged over epochs.

    Paul et al. (2021). High is suspect. The authors take early epochs only, averaged
    over ten initialisations, to choose what to prune; one run and all its scored epochs
    are used here, so that every score sees the same trace.

    .. math:: \frac1E \sum_e \| p_{ei} - \mathrm{onehot}(y_i) \|_2

    Args:
        errors: ||p - onehot(y)||_2 at each epoch, shape [E, N], between 0 and √2.

    Returns:
        Scores, shape [N], without unit.
    """
    return _checked(el2n=errors).mean(0)


def grand(last_layer_gradient: np.ndarray) -> np.ndarray:
    r"""Norm of the loss gradient by the last layer's weights, averaged over epochs.

    GraNd of Paul et al. (2021), held to the last linear layer, where it has a closed
    form: the error times the length of the features :math:`h`. High is suspect. The
    authors take all weights, early epochs, and ten initialisations.

    .. math:: \frac1E \sum_e \| p_{ei} - \mathrm{onehot}(y_i) \|_2
        \sqrt{\| h_{ei} \|^2 + 1}

    Args:
        last_layer_gradient: By weights and bias of the last layer, shape [E, N].

    Returns:
        Scores, shape [N], in nats per unit of weight.

    Example:
        >>> grand(np.array([[1.0, 0.0], [3.0, 1.0]]))
        array([2. , 0.5])
    """
    return _checked(last_layer_gradient=last_layer_gradient).mean(0)


def forgetting_events(correct: np.ndarray) -> np.ndarray:
    r"""How often a sample went from right to wrong; E if it was never right.

    Toneva et al. (2019). High is suspect. As the authors sort them, samples that were
    never learned come after all others: they get E, which no count can reach, since
    each event takes two scored epochs. The authors look each time a sample is in a
    batch; between two scored epochs an event may pass unseen here.

    .. math:: \sum_{e>1} [\,\mathrm{right}_{e-1,i} \wedge \mathrm{wrong}_{ei}\,]

    Args:
        correct: Whether the label given was predicted, shape [E, N], bool or 0 and 1.

    Returns:
        Counts, shape [N], int64.

    Example:
        >>> right = np.array([[1, 1, 0], [0, 1, 0], [1, 1, 0], [0, 1, 0]])  # E=4, N=3
        >>> forgetting_events(right)  # forgotten twice, never forgotten, never right
        array([2, 0, 4])
    """
    correct = _checked_bool(correct=correct)
    events = (correct[:-1] & ~correct[1:]).sum(0)
    return np.where(correct.any(0), events, len(correct))


def learning_time(correct: np.ndarray) -> np.ndarray:
    r"""First scored epoch from which on a sample stays right until the end.

    Maini et al. (2022), who call it first-split learning time. High is suspect. Counted
    in scored epochs from 1, so ``trace.epochs[time - 1]`` is the epoch of training. A
    sample that is wrong in the last scored epoch was not learned and gets E + 1, later
    than every other. (Published re-runs gave such samples time 0, as if they had been
    learned first of all, and reversed the sign of the score.)

    .. math:: \min \{\, t : \mathrm{right}_{ei} \text{ for all } e \ge t \,\}

    Args:
        correct: Whether the label given was predicted, shape [E, N], bool or 0 and 1.

    Returns:
        Times in 1, ..., E + 1, shape [N], int64.

    Example:
        >>> right = np.array([[1, 1, 0], [1, 0, 1], [1, 1, 0]])  # E=3, N=3
        >>> learning_time(right)  # at once, after a relapse, never
        array([1, 3, 4])
    """
    correct = _checked_bool(correct=correct)
    right_until_end = np.logical_and.accumulate(
        correct[::-1]
    )  # from the last epoch back
    return len(correct) + 1 - right_until_end.sum(0)


def in_confidence_last(probability: np.ndarray) -> np.ndarray:
    """One minus the probability of the label given, in the last scored epoch.

    As the text of Ravikumar et al. (2025) has it. High is suspect. Ties at 0 once the
    network is sure: float32 rounds a probability above 1 - 3e-8 to 1.

    Args:
        probability: Of the label given, shape [E, N].

    Returns:
        Scores, shape [N], in [0, 1].
    """
    return 1 - _checked(probability=probability)[-1]


def in_confidence_mean(probability: np.ndarray) -> np.ndarray:
    """One minus the mean over epochs of the probability of the label given.

    Swayamdipta et al. (2020), *Dataset Cartography*, whose confidence is that mean.
    High is suspect.

    Args:
        probability: Of the label given, shape [E, N].

    Returns:
        Scores, shape [N], in [0, 1].
    """
    return 1 - _checked(probability=probability).mean(0)


def in_confidence_max_last(max_probability: np.ndarray) -> np.ndarray:
    """One minus the largest probability of any class, in the last scored epoch.

    As the re-run released by Ravikumar et al. (2025) computes in-confidence, where
    their text says the probability of the label given. High is suspect, but a network
    that is sure of *another* class than the given one looks as if nothing were wrong.

    Args:
        max_probability: Largest softmax output, shape [E, N].

    Returns:
        Scores, shape [N], in [0, 1 - 1/C].
    """
    return 1 - _checked(max_probability=max_probability)[-1]


def entropy(entropies: np.ndarray) -> np.ndarray:
    r"""Entropy of the prediction, averaged over epochs; the label plays no part.

    High is suspect.

    .. math:: -\frac1E \sum_e \sum_c p_{eic} \log p_{eic}

    Args:
        entropies: Entropy of the softmax at each epoch, shape [E, N], in nats.

    Returns:
        Scores, shape [N], in nats, at most log C.
    """
    return _checked(entropy=entropies).mean(0)


def final_loss(loss: np.ndarray) -> np.ndarray:
    """Loss in the last scored epoch; ties at 0 where the network is sure.

    High is suspect, as long as the network has not fitted the wrong labels too.

    Args:
        loss: Cross-entropy with the label given, shape [E, N], in nats.

    Returns:
        Scores, shape [N], in nats.
    """
    return _checked(loss=loss)[-1]


def random(index: np.ndarray, *, seed: int = 0) -> np.ndarray:
    """A score that knows nothing, for tables: uniform on [0, 1) and fixed by sample.

    A sample's value depends on the seed and its index alone, so that a subset, another
    order, or a second run of the same data set gives it the same value.

    Args:
        index: Places in the original data set, shape [N], integers from 0.
        seed: Of the stream whose value number ``index`` is taken.

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
    places, which = np.unique(index, return_inverse=True)
    stream = np.random.default_rng(seed)
    if places[-1] < 10 * len(places) + 1_000_000:
        return stream.random(int(places[-1]) + 1)[index]
    # The same values one by one, jumping over those between: an index may be 10^13.
    steps = np.diff(places.astype(object), prepend=-1) - 1
    jump = stream.bit_generator.advance
    return np.array([(jump(int(n)), stream.random())[1] for n in steps])[which]


class Score(NamedTuple):
    """How a score is made from a trace and read."""

    function: Callable[..., np.ndarray]
    fields: tuple[str, ...]  # of the trace, in the order of the arguments
    sign: int  # +1: high is suspect, -1: low is suspect
    source: str  # citation key in the book's bibliography, "" for what needs none


# In the order in which tables show them.
SCORES: dict[str, Score] = {
    "curvature_square": Score(
        curvature_square, ("squared_frobenius_norm",), +1, "garg2024"
    ),
    "curvature_norm": Score(curvature_norm, ("mean_hvp_norm",), +1, "garg2024"),
    "curvature_last": Score(
        curvature_last, ("squared_frobenius_norm",), +1, "garg2024"
    ),
    "curvature_peak": Score(
        curvature_peak, ("squared_frobenius_norm",), +1, "garg2024"
    ),
    "cumulative_loss": Score(cumulative_loss, ("loss",), +1, "ravikumar2025"),
    "cumulative_gradient": Score(
        cumulative_gradient, ("gradient_norm",), +1, "ravikumar2026"
    ),
    "aum": Score(aum, ("margin",), -1, "pleiss2020"),
    "aum_softmax": Score(aum_softmax, ("softmax_margin",), -1, "pleiss2020"),
    "el2n": Score(el2n, ("el2n",), +1, "paul2021"),
    "grand": Score(grand, ("last_layer_gradient",), +1, "paul2021"),
    "forgetting_events": Score(forgetting_events, ("correct",), +1, "toneva2019"),
    "learning_time": Score(learning_time, ("correct",), +1, "maini2022"),
    "in_confidence_last": Score(
        in_confidence_last, ("probability",), +1, "ravikumar2025"
    ),
    "in_confidence_mean": Score(
        in_confidence_mean, ("probability",), +1, "swayamdipta2020"
    ),
    "in_confidence_max_last": Score(
        in_confidence_max_last, ("max_probability",), +1, "ravikumar2025"
    ),
    "entropy": Score(entropy, ("entropy",), +1, ""),
    "final_loss": Score(final_loss, ("loss",), +1, ""),
    "random": Score(random, (), +1, ""),  # made from the index, see compute
}


def compute(trace: "Trace", split: str = "train", *, seed: int = 0) -> "pd.DataFrame":
    """All scores of one split of a trace, by the formulas of their authors.

    Every field of a trace was measured after a scored epoch, in evaluation mode, on
    clean images. Some authors measure otherwise: AUM's take the logits met in training;
    EL2N's, early epochs over several initialisations; forgetting events are counted at
    each presentation in a minibatch. The book's page on the method lists all of these.

    Args:
        trace: A run; every field is read once.
        split: One of ``curvlib.trace.SPLITS``.
        seed: Of the random score.

    Returns:
        One row a sample, in index order: index, label (the one given), then the columns
        of ``SCORES``, in that order. Scores that need a column that the trace lacks are
        left out, and a warning names them.

    Raises:
        ValueError: If a field of the trace is not finite or of another shape than
            scored epochs × samples.
    """
    from curvlib.trace import NotRecordedError  # loads pandas, as the trace has by now

    read = cache(lambda field: trace.read(field, split=split))
    samples = trace.samples(split)[["index", "label"]]
    index = samples["index"].to_numpy()
    shape = (len(trace.epochs), len(samples))
    columns, lacking = {}, {}
    for name, score in SCORES.items():
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
    if lacking:
        warnings.warn(
            f"left out {', '.join(lacking)}: not every epoch of the trace has the "
            f"columns {', '.join(dict.fromkeys(lacking.values()))}",
            stacklevel=2,
        )
    return samples.assign(**columns)


def suspicion(frame: "pd.DataFrame") -> "pd.DataFrame":
    """Turn scores so that high is suspect in every column.

    Args:
        frame: Any of the columns of ``SCORES``; index and label stay as they are.

    Returns:
        A new frame with every score times its sign.

    Raises:
        ValueError: If a column is no known score, so that its direction is unknown.
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
    """The one array given, as float64, if it is finite scored epochs × samples."""
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
