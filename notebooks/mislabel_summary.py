# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Which claims about wrong labels hold here?
#
# **In short.** In {glue:text}`num_settings` settings, the AUROC of curvature ranges from
# {glue:text}`worst:.3f` ({glue:text}`worst_setting`; {glue:text}`worst_unseen:.0%` of the
# unseen images right) to {glue:text}`best:.3f` ({glue:text}`best_setting`;
# {glue:text}`best_unseen:.0%` right). In the same two settings, the cumulative loss, which
# costs next to nothing, reaches {glue:text}`loss_worst:.3f` and {glue:text}`loss_best:.3f`.
# It beats curvature in {glue:text}`loss_ahead` of the {glue:text}`num_settings` settings.
# {numref}`fig-settings` shows each setting with the accuracy of its networks.

# %% tags=["hide-input"]
from curvlib.book import Page, figures
from curvlib.scores import SCORES
from curvlib.studies import published
from curvlib.studies import wrong_label_claims as judge

# %% tags=["parameters"]
reference = "curvature_norm"  # the score that stands for curvature in the claims
records: list = None  # records to put together, such as digits/mislabelled
results = "results/scratch/mislabel_summary"  # not used: nothing is measured here

# %% tags=["hide-input"]
page = Page.begin(In)
shown = page.records()
wrong = judge.of_study(shown, "mislabelled")
settings = judge.by_setting(wrong)
page.tell(**judge.summary(settings, reference))

# %% mystnb={"figure": {"caption": "Curvature finds more wrong labels where networks generalise well. AUROC at 10% wrong labels, or at the share that the data have; the settings whose networks get most unseen images right come first.", "name": "fig-settings"}, "image": {"alt": "Dots of the AUROC of five scores, one row for each setting, sorted by the accuracy of its networks on unseen images."}}
few = [reference, "cumulative_loss", "aum", "in_confidence_max_last", "random"]
_ = figures.auroc_by_setting(
    judge.at_main_share(settings), {name: SCORES[name].label for name in few}
)

# %% [markdown]
# *Six minutes to read. Read first: [which score finds wrong labels
# best?](/book/pages/mislabelled)*
#
# **After this page you can**
#
# - say which findings about wrong labels depend on the data set and on the network;
# - judge a claim from a few seeds, and say when it stays undecided;
# - choose what to use on your own images.
#
# ## How far can you trust an AUROC?
#
# A *setting* is a data set with one kind and one share of wrong labels. We show every AUROC
# next to the accuracy of its networks on unseen images. A network that is right on half of
# them memorises many correct labels, and to every score these look like wrong ones. So a
# low AUROC may be due to the network. Over the settings, the Spearman correlation between
# that accuracy and the AUROC of curvature is {glue:text}`correlation:.2f`. [When does
# curvature find wrong labels?](/book/pages/regime) has more.

# %%
short = judge.short_table(settings)
percent = dict.fromkeys(["right on unseen images", "wrong labels learned"], "{:.0%}")
figures.table(short, formats=percent)

# %% [markdown]
# A planted copy and its original are one image under two labels, so no network can learn
# both. The next table has every score. The mean rank is taken over the settings in which
# all scores were run.

# %%
all_of = judge.together(wrong)
figures.sortable_table(
    *judge.whole_table(*judge.aurocs(all_of.found)),
    caption="AUROC, mean ± standard deviation over seeds; the number after the kind is "
    "the share of wrong labels in %.",
)

# %% [markdown]
# ## The paper's claims
#
# Its arXiv abstract says that curvature finds mislabelled images "with high AUROC values",
# and its ICML abstract that it "outperforms existing approaches" {cite}`garg2024`. The paper
# replaces labels at random, so we judge these claims on symmetric noise. The published
# values are those of the re-run by Ravikumar et al. {cite}`ravikumar2025`.
#
# A claim about two scores holds if Student's 95% interval of their difference, seed by
# seed, lies above zero. It fails if the interval lies below zero, and is undecided
# otherwise. With one seed there is no interval.

# %%
symmetric = {n: r for n, r in wrong.items() if judge.is_symmetric(r)}
others = {n: r for n, r in wrong.items() if n not in symmetric}
page.claim(
    "Curvature finds mislabelled images with high AUROC values.",
    **judge.by_record(symmetric, judge.high, reference),
    published=published.claim("high-auroc").published,
    name="high-auroc",
)
page.claim(
    "Curvature outperforms existing approaches at identifying mislabelled examples.",
    **judge.by_record(symmetric, judge.beats_existing, reference),
    published=published.claim("beats-other-scores").published,
    name="beats-other-scores",
)
page.claim(
    "Curvature comes within 0.01 of the published AUROC.",
    **judge.by_record(symmetric, judge.as_high_as_published, reference),
    published="re-run by Ravikumar et al. (2025)",
    name="reaches-published-auroc",
)

# %% [markdown]
# ## What the paper does not claim
#
# Labels that people got wrong, labels that are always the next class, and planted
# duplicates may be harder to find: such labels surprise a network less.

# %%
page.claim(
    "Curvature finds other kinds of wrong labels with high AUROC values, too.",
    **judge.by_record(others, judge.high, reference),
    name="high-auroc-other-labels",
)
page.claim(
    "The cumulative loss has a higher AUROC than curvature.",
    **judge.by_record(wrong, judge.named("loss")),
    published="as in the re-run by Ravikumar et al. (2025)",
    name="loss-beats-curvature",
)

# %% [markdown]
# ## What would you do in practice?
#
# You need not train a network to clean labels. A pretrained network turns images into
# feature vectors. A logistic regression then gives the probability of each image's label,
# from a model that never saw the image (*out of fold*). Where we measured this, the table
# compares it with scores of a small head on the same features. [Which tool finds wrong
# labels?](/book/pages/wrong_label_tools) has the details.

# %%
practice = judge.in_practice(judge.of_study(shown, "wrong_label_tools"))
figures.table(practice, formats={"right on unseen images": "{:.0%}"}) if len(
    practice
) else None

# %% [markdown]
# ## A check on the intervals
#
# Random numbers should have an AUROC of one half. The 95% bootstrap interval of the random
# score should contain one half in 95% of the draws.

# %%
inside, draws = judge.chance_intervals(all_of.found)
page.claim(
    "The bootstrap interval of the random score contains one half in most draws.",
    inside > draws / 2,
    ours=f"{inside} of {draws} different draws",
    tolerance="more than half of the draws",
    name="chance-intervals",
)

# %% [markdown]
# ## Exercises
#
# ```{exercise} Votes
# :label: summary-votes
# Two settings share their images and seeds, and a claim holds in both. Why does this say
# less than two independent experiments would?
# ```
#
# ```{solution} summary-votes
# :class: dropdown
# The same seed gives the same first weights and the same order of images. At a lower
# share, the wrong labels are among those of the higher share. So both settings share the
# same luck.
# ```
#
# ```{exercise} The square
# :label: summary-square
# The paper's formula averages the square of ‖Hv‖, the released code the norm. Judge the
# claim about existing approaches for the square. Which verdicts change?
# ```
#
# ```{solution-start} summary-square
# :class: dropdown
# ```

# %% tags=["solution"]
of_square = judge.by_record(symmetric, judge.beats_existing, "curvature_square")
of_norm = judge.by_record(symmetric, judge.beats_existing, "curvature_norm")
{
    name: (of_norm["holds"][name], mark)
    for name, mark in of_square["holds"].items()
    if mark is not of_norm["holds"][name]
}

# %% [markdown]
# Each entry shows the verdict for the norm, then that for the square. An empty answer
# means that no verdict changes.
#
# ```{solution-end}
# ```
#
# Read next: [when does curvature find wrong labels?](/book/pages/regime), and [check your
# own images](/book/pages/own_data).
