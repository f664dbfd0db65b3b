"""Whether a quick sweep ranks settings as full trainings do: rank correlations between two tables of points.

    python benchmarks/rank_correlation.py reports/sweeps/QUICK/trials.csv reports/sweeps/FULL/trials.csv

Points belong together when all loss weights are the same; seeds are averaged. With few points a correlation says
little, so each stands beside the share of all orders that would give one as high by chance.
"""

import argparse
from pathlib import Path

import pandas as pd
from scipy.stats import permutation_test, spearmanr


def candidates(path):
    table = pd.read_csv(path)
    table = table[table["status"] == "FINISHED"]
    weights = [column for column in table if column.startswith("loss.weights.")]
    judged = ["best/val/score", *(column for column in table if column.startswith("best/val/"))]
    return table.groupby(weights)[list(dict.fromkeys(judged))].mean()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("quick", type=Path, help="trials.csv of the quick sweep")
    parser.add_argument("full", type=Path, help="trials.csv of the full trainings")
    options = parser.parse_args()
    quick, full = candidates(options.quick), candidates(options.full)
    both = quick.merge(full, left_index=True, right_index=True, suffixes=(" quick", " full"))
    print(f"{len(both)} settings in both tables\n")
    for figure in sorted({column.rsplit(" ", 1)[0] for column in both}):
        if f"{figure} quick" not in both or f"{figure} full" not in both:
            continue
        quick, full = both[f"{figure} quick"], both[f"{figure} full"]
        found = permutation_test(
            (quick,), lambda order, full=full: spearmanr(order, full).statistic, permutation_type="pairings",
            alternative="greater", n_resamples=9999, rng=0,
        )  # fmt: skip
        print(f"{figure:<28} Spearman {found.statistic:+.2f}, as high by chance in {found.pvalue:.1%} of orders")


if __name__ == "__main__":
    main()
