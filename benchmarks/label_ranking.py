"""How well the audit ranks wrong labels, measured on photographs that are in the archive several times.

    python -m manyheads params experiment=probe && dvc repro split && python benchmarks/label_ranking.py

Copies of a photograph whose labels differ are known conflicts. `split=clean` keeps them out of every subset, so no
model has seen them. The models are those of the audit, one without each fold, and each label is judged by one of them
that has not seen the photograph. Copies in the test subset are left out.

The labels of all copies are ranked by their disagreement with the prediction. Two comparisons tell chance from skill: a
random order, and the predictions of other photographs. The second knows which labels are rare, but not the photograph.
"""

import argparse
from dataclasses import replace
from functools import partial

import numpy as np
import pandas as pd
import results
from scipy.stats import spearmanr
from sklearn.metrics import average_precision_score

from manyheads.config.loading import read_params
from manyheads.data.subsets import load_subset
from manyheads.paths import Paths, project_root
from manyheads.runtime import tensorflow
from manyheads.training.out_of_fold import fold_checkpoint, fold_of, subsets_for_folds, train_without

FIRST = (25, 50, 100, 200)
RANDOM_ORDERS = 1000
SHUFFLES = 100


def together(first, second):
    """Return the samples of two subsets as one."""
    return replace(
        first,
        rows=np.concatenate([first.rows, second.rows]),
        paths=first.paths + second.paths,
        labels={name: np.concatenate([labels, second.labels[name]]) for name, labels in first.labels.items()},
        groups=first.groups + second.groups,
    )


def judged(config, layout):
    """Return the samples outside of test and each head's outputs for them, from models that have not seen them."""
    train, validation, excluded = (
        load_subset(layout, config.data.heads, config.inputs, name) for name in ("train", "validation", "excluded")
    )
    others = together(validation, excluded)
    learned, unseen = subsets_for_folds(config, train, others)
    selecting = unseen.take(np.arange(len(validation)))
    fold, fold_of_others = (fold_of(part.groups, config.audit.folds, config.seed) for part in (train, others))
    judged_by = np.concatenate([fold, fold_of_others])
    found = {}
    for number in range(config.audit.folds):
        predictor = train_without(config, layout, learned, fold == number, selecting, number)
        fold_checkpoint(config, layout, number).unlink()
        of_fold = predictor(learned.inputs, learned.rows[fold == number])
        of_others = predictor(unseen.inputs, unseen.rows[fold_of_others == number])
        for name in config.data.heads:
            outputs = np.concatenate([of_fold[name], of_others[name]])
            of_all = found.setdefault(name, np.empty((len(judged_by), outputs.shape[1]), np.float32))
            of_all[judged_by == number] = outputs
    return together(train, others), found


def conflicting(groups, labels):
    """Return whether the copies of a sample have more than one label, shape (n,)."""
    return pd.Series(labels).groupby(groups).transform("nunique").to_numpy() > 1


def difference(groups, labels):
    """Return the difference between the largest and the smallest label of the copies of a sample, shape (n,)."""
    grouped = pd.Series(labels).groupby(groups)
    return (grouped.transform("max") - grouped.transform("min")).to_numpy()


def majorities(groups, labels):
    """Return the rows and the label of most copies, for each photograph with different labels and such a label."""
    found = []
    for rows in pd.Series(np.arange(len(labels))).groupby(groups).agg(list):
        values, counts = np.unique(labels[rows], return_counts=True)
        if len(values) > 1 and 2 * counts.max() > len(rows):
            found.append((np.array(rows), values[counts.argmax()]))
    return found


def minority_first(labels, majority, disagreement):
    """Return the share of photographs whose label of the largest disagreement is not the majority's."""
    return np.mean([labels[rows[disagreement[rows].argmax()]] != label for rows, label in majority])


def among_first(conflict, k, disagreement):
    """Return the share of conflicts among the k labels of the largest disagreement."""
    return conflict[np.argsort(-disagreement, kind="stable")[:k]].mean()


def measures(head, groups, labels):
    """Return functions of the disagreement, shape (n,), by their names."""
    found = {}
    if head.class_names:
        conflict = conflicting(groups, labels)
        found |= {f"known conflicts among the first {k}": partial(among_first, conflict, k) for k in FIRST}
        found["area under precision and recall"] = partial(average_precision_score, conflict)
    else:
        apart = difference(groups, labels)
        found["rank correlation with the difference of the labels"] = lambda each: spearmanr(each, apart).statistic
    if majority := majorities(groups, labels):
        found[f"the minority's label first, {len(majority)} photographs"] = partial(minority_first, labels, majority)
    return found


def measured(head, groups, labels, outputs):
    """Return a row of the table for each measure of a head."""
    generator = np.random.default_rng(0)
    disagreement = head.disagreement(labels, outputs)
    random_orders = [generator.random(len(labels)) for _ in range(RANDOM_ORDERS)]
    shuffled = [head.disagreement(labels, generator.permutation(outputs)) for _ in range(SHUFFLES)]
    rows = []
    for name, measure in measures(head, groups, labels).items():
        low, middle, high = np.percentile([measure(each) for each in random_orders], [2.5, 50, 97.5]).round(2) + 0.0
        others = np.mean([measure(each) for each in shuffled])
        chance = f"{middle:.2f} ({low:.2f} to {high:.2f})"
        rows.append([head.name, name, f"{measure(disagreement):.2f}", chance, f"{others:.2f}"])
    return rows


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.parse_args()
    tensorflow.require_tensorflow()
    layout = Paths(project_root())
    config = read_params(layout.root / "params.yaml")
    samples, outputs = judged(config, layout)
    groups = np.array(samples.groups)
    several = pd.Series(groups).groupby(groups).transform("size").to_numpy() > 1
    rows, conflicts = [], []
    for name, head in config.data.heads.items():
        labels = samples.labels[name][several]
        rows += measured(head, groups[several], labels, outputs[name][several])
        photographs = len(set(groups[several][conflicting(groups[several], labels)]))
        conflicts.append(f"{photographs} of them with different labels of {name}")
    results.write(
        "label_ranking",
        "python benchmarks/label_ranking.py",
        ["head", "measure", "audit", "random order (95 %)", "predictions of other photographs"],
        rows,
        f"{several.sum():,} copies of {len(set(groups[several]))} photographs, {', '.join(conflicts)}. "
        f"{config.audit.folds} folds, {config.audit.epochs} epochs, encoder {config.model.encoder}.",
    )


if __name__ == "__main__":
    main()
