import hashlib
import json
import logging
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from manyheads.data import tables
from manyheads.errors import DataError, IntegrityError
from manyheads.heads import Categorical, Regression
from manyheads.paths import Paths
from manyheads.preprocessing import splitting
from manyheads.stages import split
from real import ARCHIVE, SKIP_REASON

ROOT = Path(__file__).parents[2]
CORAL = ROOT / "data/lists/coral"

HEADS = {
    "age": Regression(name="age", unit="marks", minimum=0, maximum=116, bins=(10, 20, 30, 40, 50, 60, 80)),
    "race": Categorical(name="race", kind="categorical", classes=("red", "yellow", "green", "blue", "violet")),
    "gender": Categorical(name="gender", kind="categorical", classes=("rows", "columns")),
}
CLEAN = {"train": 0.7, "validation": 0.1, "test": 0.2}
ARTICLE = {"train": 0.49, "validation": 0.21, "test": 0.3}
ARTICLE_SHARES = ["split.train=0.49", "split.validation=0.21", "split.test=0.3"]
WORDS = {0: "red", 1: "yellow", 2: "green", 3: "blue", 4: "violet"}


def make_samples(n: int, seed: int = 0, conflicting: float = 0.1) -> pd.DataFrame:
    """Return n samples in groups of one to three, some groups with conflicting ages, in no order."""
    rng = np.random.default_rng(seed)
    group = np.sort(rng.integers(0, max(1, n // 2), n))
    age, race, gender = (rng.integers(0, size, n)[group] for size in (117, 5, 2))
    age = np.where(rng.random(n) < conflicting / 2, (age + 30) % 117, age)
    order = rng.permutation(n)
    frame = pd.DataFrame(
        {
            "row": np.arange(n),
            "path": [f"cards/{age[i]}_{gender[i]}_{race[i]}_{i:05d}.png" for i in range(n)],
            "age": age,
            "race": race,
            "gender": gender,
            # Half of a group is byte-identical, half is near-identical.
            "sha256": [hashlib.sha256(f"{group[i]} {i % 2}".encode()).hexdigest() for i in range(n)],
            "group": [f"g{group[i]:05d}" for i in range(n)],
            "note": "",
        }
    )
    return frame.iloc[order].reset_index(drop=True)


def single_samples(races: list[int], ages: list[int] | None = None) -> pd.DataFrame:
    """Return samples without duplicates that have the given labels."""
    n = len(races)
    names = [f"{i:05d}" for i in range(n)]
    frame = pd.DataFrame({"row": range(n), "path": [f"cards/{name}.png" for name in names]})
    frame = frame.assign(age=ages or [5] * n, race=races, gender=[i % 2 for i in range(n)])
    return frame.assign(sha256=[f"{name:0>64}" for name in names], group=names, note="")


@pytest.fixture
def run_split(tmp_path, make_config):
    """Run the stage on samples; return the table of subsets and the counts."""

    def run(samples: pd.DataFrame, *overrides: str) -> tuple[pd.DataFrame, dict]:
        layout = Paths(tmp_path)
        tables.write_table(layout.samples, samples)
        split.run(make_config(*overrides), layout, layout)
        return tables.read_splits(layout.splits), json.loads(layout.split_counts.read_text(encoding="utf-8"))

    return run


def listed_overrides(**paths: str) -> list[str]:
    return ["split=listed", *(f"+split.files.{subset}={path}" for subset, path in paths.items())]


def write_names(path: Path, names) -> str:
    path.write_text("\n".join(names) + "\n", encoding="utf-8")
    return path.name


# clean


def crossing(splits: pd.DataFrame, column: str) -> int:
    in_subsets = splits[splits["subset"] != "excluded"]
    return int(in_subsets[[column, "subset"]].drop_duplicates()[column].duplicated().sum())


@settings(max_examples=12, deadline=None)
@given(n=st.integers(100, 250), seed=st.integers(0, 2**31 - 1))
def test_clean_keeps_groups_whole_and_assigns_every_sample(n, seed):
    samples = make_samples(n, seed)
    assigned = splitting.clean(samples, HEADS, CLEAN, seed)
    splits = samples.assign(subset=assigned.subset, rule=assigned.rule)
    assert crossing(splits, "sha256") == 0
    assert crossing(splits, "group") == 0
    assert set(assigned.subset) <= {*splitting.SUBSETS, "excluded"}
    np.testing.assert_array_equal(assigned.subset == "excluded", assigned.rule == "conflicting_labels")
    # Excluded are the groups with two label tuples, all of each and no others.
    tuples = samples[["group", "age", "race", "gender"]].drop_duplicates()["group"]
    conflicting = set(tuples[tuples.duplicated()])
    assert set(splits.loc[splits["subset"] == "excluded", "group"]) == conflicting
    assert conflicting.isdisjoint(splits.loc[splits["subset"] != "excluded", "group"])
    splitting.check_rows(samples, splits)
    splitting.check_duplicates(splits)


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 2**31 - 1), shuffle=st.randoms(use_true_random=False))
def test_subsets_do_not_depend_on_the_order_of_rows(seed, shuffle):
    samples = make_samples(200, seed)
    order = list(range(200))
    shuffle.shuffle(order)
    lists = {"train": set(samples["path"].str[6:][:150]), "test": set(samples["path"].str[6:][150:180])}
    for assign in (
        lambda frame: splitting.clean(frame, HEADS, CLEAN, seed),
        lambda frame: splitting.random(frame, ARTICLE, seed),
        lambda frame: splitting.from_lists(frame, HEADS, lists, 0.1, seed),
    ):
        np.testing.assert_array_equal(assign(samples).subset[order], assign(samples.iloc[order]).subset)


def test_clean_keeps_sizes_and_label_proportions():
    rng = np.random.default_rng(3)
    n = 6000
    samples = single_samples(list(rng.choice(5, n, p=[0.43, 0.19, 0.15, 0.16, 0.07])), list(rng.integers(0, 117, n)))
    subset = splitting.clean(samples, HEADS, CLEAN, 1).subset
    for name, share in (("train", 0.7), ("validation", 0.1), ("test", 0.2)):
        assert (subset == name).sum() == round(n * share)
        for head_name, head in HEADS.items():
            strata = head.strata(samples[head_name].to_numpy())
            everywhere = np.bincount(strata) / n
            here = np.bincount(strata[subset == name], minlength=len(everywhere)) / (subset == name).sum()
            assert np.abs(here - everywhere).max() < 0.01


def test_seed_decides_the_subsets():
    samples = make_samples(300)
    for assign in (
        lambda seed: splitting.clean(samples, HEADS, CLEAN, seed),
        lambda seed: splitting.random(samples, ARTICLE, seed),
    ):
        assert (assign(1).subset == assign(1).subset).all()
        assert (assign(1).subset != assign(2).subset).any()


def test_rare_strata_are_pooled_over_bins_then_classes():
    # 30 groups of red in one bin; 12 of blue in 12 bins; 6 of green; 2 of violet.
    races = [0] * 30 + [3] * 12 + [2] * 6 + [4] * 2
    ages = [5] * 30 + [9 * i for i in range(12)] + [5] * 8
    groups = single_samples(races, ages).assign(gender=0).set_index("group")
    stratum = splitting.strata(groups, HEADS, needed=5).to_numpy()
    sizes = pd.Series(stratum).groupby(races).agg(["nunique", "first"])
    assert sizes["nunique"].tolist() == [1, 1, 1, 1]
    assert sizes.loc[4, "first"] == sizes.loc[0, "first"]  # too few for a stratum of their own: with the largest
    assert sizes["first"].nunique() == 3
    # With five violet groups or more, counted over both genders, the class is a stratum of its own.
    races, ages = [*races, 4, 4, 4], [*ages, 5, 5, 5]
    groups = single_samples(races, ages).set_index("group")
    stratum = splitting.strata(groups, HEADS, needed=5).to_numpy()
    assert set(stratum[np.equal(races, 4)]).isdisjoint(stratum[np.not_equal(races, 4)])


@settings(max_examples=100, deadline=None)
@given(
    labels=st.lists(st.tuples(st.integers(0, 116), st.integers(0, 4)), min_size=3, max_size=60),
    cuts=st.tuples(st.integers(1, 98), st.integers(1, 98)).filter(lambda cuts: sum(cuts) < 100),
    seed=st.integers(0, 1000),
)
def test_any_mixture_of_labels_is_split_when_every_subset_gets_a_group(labels, cuts, seed):
    ages, races = map(list, zip(*labels, strict=True))
    shares = {"train": cuts[0] / 100, "validation": cuts[1] / 100, "test": 1 - sum(cuts) / 100}
    sizes = [round(len(labels) * share) for share in sorted(shares.values())[:2]]
    samples = single_samples(races, ages)
    if min(*sizes, len(labels) - sum(sizes)) < 1:
        with pytest.raises(DataError, match=r"split\.\w+ gets none of"):
            splitting.assign_groups(samples, HEADS, shares, seed)
    else:
        subset = splitting.assign_groups(samples, HEADS, shares, seed)
        assert set(subset) == set(splitting.SUBSETS)
        for name, share in shares.items():
            assert abs((subset == name).sum() - len(labels) * share) <= 1


@pytest.mark.parametrize("seed", range(5))
def test_a_class_with_just_enough_groups_is_in_every_subset(seed):
    samples = single_samples([0] * 55 + [1] * 15 + [2] * 10 + [3] * 10 + [4] * 10, [i % 117 for i in range(100)])
    subset = splitting.clean(samples, HEADS, CLEAN, seed).subset
    assert splitting.check_subsets(samples, HEADS, subset) == []


def test_too_small_class_is_an_error(run_split):
    with pytest.raises(DataError, match=r"race: class 'violet' has 0 samples in the validation subset and 2 in all"):
        run_split(single_samples([i % 4 for i in range(98)] + [4, 4]))
    with pytest.raises(DataError, match=r"race: class 'violet' has 0 samples in the train subset and 0 in all"):
        run_split(single_samples([i % 4 for i in range(100)]))


def test_a_class_of_duplicates_names_their_group(run_split):
    samples = single_samples([i % 4 for i in range(70)] + [4] * 30)
    samples.loc[70:, "group"] = "e" * 16
    with pytest.raises(DataError, match=r"'violet' has 0 samples.* 0 in all subsets: 30 are excluded, such as by"):
        run_split(samples)
    samples.loc[70:, "gender"] = 1
    with pytest.raises(DataError, match=f"'violet' has 0 .* 30 in all .*1 duplicate group, .*{'e' * 16} with 30"):
        run_split(samples)


def test_too_few_groups_are_errors(run_split):
    with pytest.raises(DataError, match=r"split\.validation gets none of 4 duplicate groups"):
        run_split(single_samples([0, 1, 2, 3]))
    conflicting = single_samples([0, 1] * 30).assign(group="g")
    with pytest.raises(DataError, match="none of 0 duplicate groups"):
        run_split(conflicting)


def test_identical_images_in_two_groups_are_refused(run_split):
    samples = single_samples([i % 5 for i in range(200)]).assign(sha256="f" * 64)
    with pytest.raises(IntegrityError, match=r"sha256 are in two subsets.*pack"):
        run_split(samples)


def test_a_sample_without_a_subset_is_refused():
    samples = make_samples(20)
    splits = samples.assign(subset="train", rule="")
    splitting.check_rows(samples, splits)
    for damaged in (
        splits.iloc[1:],
        splits.assign(subset="excluded"),
        splits.assign(rule="conflicting_labels"),
    ):
        with pytest.raises(IntegrityError):
            splitting.check_rows(samples, damaged)


def test_table_and_counts_of_a_clean_split(run_split):
    samples = make_samples(600)
    splits, counts = run_split(samples)
    assert splits["path"].tolist() == sorted(samples["path"])
    assert list(splits.columns) == ["path", "sha256", "group", "subset", "rule"]
    everything = splits.merge(samples, on=["path", "sha256", "group"], validate="one_to_one")
    assert len(everything) == 600
    for name in (*splitting.SUBSETS, "excluded"):
        assert counts["samples"][name] == (splits["subset"] == name).sum()
    assert counts["samples"]["all"] == 600 == sum(counts["samples"][name] for name in (*splitting.SUBSETS, "excluded"))
    excluded = everything[everything["subset"] == "excluded"]
    assert counts["excluded"] == {"conflicting_labels": len(excluded)}
    assert counts["conflicting"] == {"groups": excluded["group"].nunique(), "samples": len(excluded)}
    assert len(excluded) > 0
    assert counts["leaked"] == {"sha256": 0, "group": 0}
    test = everything[everything["subset"] == "test"]
    assert counts["labels"]["test"]["race"] == test["race"].map(WORDS).value_counts().to_dict()
    assert counts["labels"]["test"]["age"] == {
        "mean": pytest.approx(test["age"].mean(), abs=1e-3),
        "median": test["age"].median(),
    }


@pytest.mark.parametrize(
    ("overrides", "digest"),
    [
        (["split=clean"], "25a44405dbb699312b2c86655bf24d8c3c80d246eafb7881c0ea68a627d086b3"),
        (["split=random", *ARTICLE_SHARES], "17d41f48ed204f4cdff91f8ef4f67e67c077182efed4ebd93535567d0ce70f42"),
    ],
    ids=["clean", "random"],
)
def test_subsets_of_a_seed_are_the_same_everywhere(run_split, tmp_path, overrides, digest):
    # Published splits depend on this: a new NumPy, scikit-learn or platform must give the same subsets.
    numbers = range(500)
    samples = single_samples([i // 2 % 5 for i in numbers], [i // 2 * 37 % 117 for i in numbers]).assign(
        gender=[1 if i % 22 == 0 else i // 10 % 2 for i in numbers], group=[f"g{i // 2:03d}" for i in numbers]
    )
    run_split(samples, *overrides, "split.seed=7")
    assert hashlib.sha256(Paths(tmp_path).splits.read_bytes()).hexdigest() == digest


# article


@pytest.mark.parametrize("n", [100, 23704])
def test_article_cuts_as_the_article(n):
    samples = single_samples([i % 5 for i in range(n)])
    assigned = splitting.random(samples, ARTICLE, 5)
    pool = int(n * 0.7)
    train = int(pool * 0.7)
    sizes = {name: int((assigned.subset == name).sum()) for name in splitting.SUBSETS}
    assert sizes == {"train": train, "validation": pool - train, "test": n - pool}
    assert not assigned.rule.any()


def test_article_keeps_conflicts_and_counts_leaks(run_split, caplog):
    samples = make_samples(600)
    splits, counts = run_split(samples, "split=random")
    assert counts["samples"]["excluded"] == 0
    assert counts["conflicting"]["samples"] > 0
    subset = dict(zip(splits["path"], splits["subset"], strict=True))
    for column in ("sha256", "group"):
        seen = {value for path, value in zip(samples["path"], samples[column], strict=True) if subset[path] != "test"}
        leaked = sum(
            subset[path] == "test" and value in seen
            for path, value in zip(samples["path"], samples[column], strict=True)
        )
        assert counts["leaked"][column] == leaked > 0
    assert f"{counts['leaked']['group']} test samples have a duplicate" in caplog.text


# listed


def test_listed_follows_the_lists(run_split, tmp_path, caplog):
    samples = make_samples(300)
    names = [path.removeprefix("cards/") for path in samples["path"]]
    train = write_names(tmp_path / "train.txt", [*names[:150], "absent_1.png", "absent_2.png"])
    validation = write_names(tmp_path / "validation.txt", names[150:200])
    test = write_names(tmp_path / "test.txt", [*names[200:280], "absent_3.png"])
    splits, counts = run_split(samples, *listed_overrides(train=train, validation=validation, test=test))
    expected = ["train"] * 150 + ["validation"] * 50 + ["test"] * 80 + ["excluded"] * 20
    assert dict(zip(splits["path"], splits["subset"], strict=True)) == dict(zip(samples["path"], expected, strict=True))
    assert counts["excluded"] == {"not_listed": 20}
    assert counts["missing"] == {"train": 2, "validation": 0, "test": 1}
    assert counts["leaked"]["group"] > 0
    assert "2 names of the train list are not in the data: absent_1.png, absent_2.png" in caplog.text


def test_validation_is_taken_from_the_train_list_by_group(run_split, tmp_path):
    samples = make_samples(900, conflicting=0)
    names = [path.removeprefix("cards/") for path in samples["path"]]
    train, test = (
        write_names(tmp_path / "train.txt", names[:700]),
        write_names(tmp_path / "test.txt", names[700:]),
    )
    splits, counts = run_split(samples, *listed_overrides(train=train, test=test), "split.validation=0.2")
    assert set(splits.loc[splits["subset"] == "test", "path"]) == set(samples["path"][700:])
    learned = splits[splits["subset"] != "test"]
    assert crossing(learned, "group") == 0
    assert counts["groups"]["validation"] == round(0.2 * learned["group"].nunique())
    assert counts["samples"]["train"] + counts["samples"]["validation"] == 700
    groups = learned.merge(samples[["path", "race"]], on="path").drop_duplicates("group")
    for race in WORDS:
        in_validation = groups.loc[groups["race"] == race, "subset"].eq("validation")
        assert in_validation.mean() == pytest.approx(0.2, abs=0.03)


def test_conflicting_groups_stay_in_listed_subsets(run_split, tmp_path):
    samples = make_samples(400, conflicting=0.5)
    names = [path.removeprefix("cards/") for path in samples["path"]]
    train, test = (
        write_names(tmp_path / "train.txt", names[:300]),
        write_names(tmp_path / "test.txt", names[300:]),
    )
    _, counts = run_split(samples, *listed_overrides(train=train, test=test))
    assert counts["conflicting"]["samples"] > 0
    assert counts["samples"]["excluded"] == 0


def test_a_clean_split_given_as_lists_is_the_same_split(run_split, tmp_path):
    samples = make_samples(600)
    published, _ = run_split(samples, "seed=3")
    (tmp_path / "published.csv").write_bytes(Paths(tmp_path).splits.read_bytes())
    overrides = listed_overrides(**dict.fromkeys(splitting.SUBSETS, "published.csv"))
    again, counts = run_split(samples, *overrides, "seed=99")
    assert again["subset"].tolist() == published["subset"].tolist()
    assert counts["missing"] == dict.fromkeys(splitting.SUBSETS, 0)
    # A split that was published without its validation subset still has the same test subset.
    again, _ = run_split(samples, *listed_overrides(train="published.csv", test="published.csv"))
    assert ((again["subset"] == "test") == (published["subset"] == "test")).all()


@pytest.mark.parametrize(
    ("file_name", "text"),
    [
        ("list.csv", "file\na.png\nb .png\n"),
        ("list.csv", "\ufefffile\r\na.png\r\nb .png\r\n"),
        ("list.csv", ',file,age\n0,a.png,3\n1,"b .png",4\n'),
        ("list.csv", "path,sha256,subset\nUTKFace/a.png,00,train\nUTKFace/b .png,00,train\nc.png,00,test\n"),
        ("list.txt", "a.png\nb .png"),
        ("list.txt", "\n  faces/a.png  \r\n\r\nfaces\\b .png\n\n"),
        ("list", "path\na.png\nb .png\n"),
    ],
)
def test_formats_of_lists(tmp_path, file_name, text):
    (tmp_path / file_name).write_bytes(text.encode())
    assert splitting.read_list(tmp_path / file_name, "train") == {"a.png", "b .png"}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, r"split\.files\.train: .*list\.csv is missing"),
        (b"", r"split\.files\.train: .*list\.csv names no train samples"),
        (b"file\n", r"split\.files\.train: .*list\.csv names no train samples"),
        (b"file,subset\na.png,test\n", r"split\.files\.train: .*list\.csv names no train samples"),
        (
            b"name,age\na.png,3\n",
            r"split\.files\.train: .*list\.csv has no column 'file' or 'path' \(name, age\)",
        ),
        (b"\xff\xd8\xff\xe0", r"split\.files\.train: .*list\.csv cannot be read as UTF-8"),
        (b"file\n" + b"x" * 200_000, r"split\.files\.train: .*list\.csv cannot be read"),
    ],
)
def test_unusable_lists_are_named(tmp_path, content, message):
    path = tmp_path / "list.csv"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(DataError, match=message):
        splitting.read_list(path, "train")


def test_a_folder_or_an_empty_text_file_is_no_list(tmp_path):
    with pytest.raises(DataError, match=r"split\.files\.test: .* cannot be read"):
        splitting.read_list(tmp_path, "test")
    (tmp_path / "empty.txt").write_text("\n \n", encoding="utf-8")
    with pytest.raises(DataError, match=r"split\.files\.test: .*empty\.txt names no test samples"):
        splitting.read_list(tmp_path / "empty.txt", "test")


def test_a_name_in_two_subsets_is_an_error(tmp_path):
    write_names(tmp_path / "train.txt", ["a.png", "b.png"])
    write_names(tmp_path / "test.txt", ["c.png", "elsewhere/b.png"])
    with pytest.raises(DataError, match=r"1 names .*'b\.png' in train\.txt \(train\) and test\.txt \(test\)"):
        splitting.read_lists(tmp_path, {"train": "train.txt", "test": "test.txt"})


def test_lists_of_another_dataset_are_an_error(run_split, tmp_path):
    train, test = write_names(tmp_path / "a.txt", ["x.png"]), write_names(tmp_path / "b.txt", ["y.png"])
    with pytest.raises(DataError, match=r"none of the 2 listed names is in the data .*'x\.png'.*'\d+_\d_\d_"):
        run_split(make_samples(50), *listed_overrides(train=train, test=test))


@pytest.mark.parametrize("empty", ["train", "validation", "test"])
def test_an_empty_listed_subset_is_an_error(run_split, tmp_path, empty):
    samples = make_samples(60)
    names = np.array_split([path.removeprefix("cards/") for path in samples["path"]], 3)
    paths = {
        subset: write_names(tmp_path / f"{subset}.txt", ["absent.png"] if subset == empty else names[i])
        for i, subset in enumerate(splitting.SUBSETS)
    }
    with pytest.raises(DataError, match=f"the {empty} subset is empty"):
        run_split(samples, *listed_overrides(**paths))


def test_a_class_that_listed_subsets_lack_is_a_warning(run_split, tmp_path, caplog):
    samples = single_samples([i % 4 for i in range(100)])
    names = [Path(path).name for path in samples["path"]]
    train, test = write_names(tmp_path / "a.txt", names[:60]), write_names(tmp_path / "b.txt", names[60:])
    with caplog.at_level(logging.WARNING):
        _, counts = run_split(samples, *listed_overrides(train=train, test=test))
    assert "race: class 'violet' has 0 samples in the test subset" in caplog.text
    assert counts["labels"]["test"]["race"]["violet"] == 0


# The CORAL lists


def test_coral_lists_parse():
    lists = splitting.read_lists(CORAL, {"train": "utk_train.csv", "test": "utk_test.csv"})
    assert {subset: len(names) for subset, names in lists.items()} == {"train": 13_147, "test": 3_287}


@pytest.mark.slow
@pytest.mark.skipif(ARCHIVE is None, reason=SKIP_REASON)
def test_coral_lists_fit_the_real_names(make_config):
    from manyheads.datasets import archives, utkface

    config = make_config("experiment=hour", "split=coral")
    parsed = {path: utkface.parse_name(path) for path in archives.names(ARCHIVE)}
    rows = [{"path": path, "group": path, **name.labels} for path, name in parsed.items() if hasattr(name, "labels")]
    samples = pd.DataFrame(rows)
    lists = splitting.read_lists(ROOT, config.split.files)
    assigned = splitting.from_lists(samples, config.data.heads, lists, config.split.validation, config.seed)
    sizes = {name: int((assigned.subset == name).sum()) for name in splitting.SUBSETS}
    missing = {subset: len(names) for subset, names in splitting.missing_names(samples, lists).items()}

    # Old copies of the archive lack up to a sixth of the names; the full one has them all.
    assert sizes["test"] + missing["test"] == 3_287
    assert sizes["train"] + sizes["validation"] + missing["train"] == 13_147
    assert missing["test"] / 3_287 < 0.17
    assert missing["train"] / 13_147 < 0.17
    assert sizes["validation"] == round(0.1 * (sizes["train"] + sizes["validation"]))
    assert samples.loc[assigned.subset != "excluded", "age"].between(21, 60).all()
    assert splitting.check_subsets(samples, config.data.heads, assigned.subset) == []
