"""Rank correlations between the trials of a quick sweep and full trainings of the same settings.

    python benchmarks/rank_correlation.py reports/sweeps/QUICK/trials.csv reports/sweeps/FULL/trials.csv

Trials with the same loss weights are one setting, and their seeds are averaged. A correlation of few settings says
little, so the share of all orders with a correlation as high is printed beside it.
"""

import argparse
from pathlib import Path

import pandas as pd
from scipy.stats import permutation_test, spearmanr


def candidates(path):
    table = pd.read_csv(path)
    table = table[table["status"] == "FINISHED"]
    weights = [column for column in table if column.startswith("loss.weights.")]
    metrics = ["best/val/score", *(column for column in table if column.startswith("best/val/"))]
    return table.groupby(weights)[list(dict.fromkeys(metrics))].mean()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("quick", type=Path, help="trials.csv of the quick sweep")
    parser.add_argument("full", type=Path, help="trials.csv of the full trainings")
    options = parser.parse_args()
    quick, full = candidates(options.quick), candidates(options.full)
    both = quick.merge(full, left_index=True, right_index=True, suffixes=(" quick", " full"))
    print(f"{len(both)} settings in both tables\n")
    for metric in sorted({column.rsplit(" ", 1)[0] for column in both}):
        if f"{metric} quick" not in both or f"{metric} full" not in both:
            continue
        quick, full = both[f"{metric} quick"], both[f"{metric} full"]
        found = permutation_test(
            (quick,), lambda order, full=full: spearmanr(order, full).statistic, permutation_type="pairings",
            alternative="greater", n_resamples=9999, rng=0,
        )  # fmt: skip
        print(f"{metric:<28} Spearman {found.statistic:+.2f}, as high by chance in {found.pvalue:.1%} of orders")


if __name__ == "__main__":
    main()
