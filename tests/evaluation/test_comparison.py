from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from manyheads import heads
from manyheads.errors import DataError
from manyheads.evaluation.comparison import compare
from manyheads.evaluation.trials import Trial
from manyheads.heads.metrics import Metric

MAIN = {
    "age": Metric(name="mae", greater_is_better=False),
    "race": Metric(name="accuracy"),
}


def trial(age=0.5, race=0.5, status="FINISHED", split="abc", overrides=(), experiment="", error="", **settings):
    """Return a trial with these skill scores; a setting's name is written with two underscores for a dot."""
    settings = {name.replace("__", "."): str(value) for name, value in settings.items()}
    metrics = {
        f"{which}/val/{name}": value
        for which in ("best", "last")
        for name, value in {
            "age/skill": age,
            "age/mae": 10 * (1 - age),
            "age/loss": 1.0,
            "race/skill": race,
            "race/accuracy": 0.4 + 0.6 * race,
            "score": age + race,
        }.items()
    }
    metrics |= {"best/epoch": 2, "wall_seconds": 9.5}
    name = " ".join(f"{key}={value}" for key, value in settings.items())
    return Trial(name, status, settings, metrics, split, f"run-{name}", error, tuple(overrides), experiment, MAIN)


def repeated(seed, skills, n=3, noise=0.02, **settings):
    generator = np.random.default_rng(seed)
    return [
        trial(*(skill + generator.normal(0, noise) for skill in skills), seed=i, **settings) for i in range(1, n + 1)
    ]


THREE = [
    *repeated(1, (0.50, 0.50), loss__weights__age=1),
    *repeated(2, (0.52, 0.50), loss__weights__age=2),
    *repeated(3, (0.20, 0.40), loss__weights__age=4),
]


def test_trials_that_differ_in_the_seed_alone_are_one_candidate():
    result = compare(THREE)
    assert [candidate.seeds for candidate in result.candidates] == [3, 3, 3]
    first = next(candidate for candidate in result.candidates if candidate.name == "age=1")
    assert first.score == pytest.approx(np.mean([p.metrics["best/val/score"] for p in THREE[:3]]))
    assert first.metrics["age"] == pytest.approx(10 * (1 - first.scores["age"]))
    assert result.varied == ("loss.weights.age",)


def test_noise_is_the_pooled_deviation_and_the_margin_is_tukeys():
    result = compare(THREE)
    groups = [[p.metrics["best/val/score"] for p in THREE[i : i + 3]] for i in (0, 3, 6)]
    assert result.noise.degrees == 6
    assert result.noise.scores["score"] == pytest.approx(np.sqrt(np.mean([np.var(g, ddof=1) for g in groups])))
    tukey = stats.tukey_hsd(*groups).confidence_interval(0.95)
    order = {"age=1": 0, "age=2": 1, "age=4": 2}
    best = order[result.candidates[0].name]
    for candidate in result.candidates[1:]:
        other = order[candidate.name]
        assert candidate.margin == pytest.approx((tukey.high - tukey.low)[best, other] / 2, rel=1e-4)
        assert candidate.within_noise == (tukey.low[best, other] < 0)
    assert [candidate.within_noise for candidate in result.candidates] == [True, True, False]
    assert [other.name for other in result.recommendation.within_noise] == [result.candidates[1].name]


def test_unequal_numbers_of_seeds_agree_with_tukey_kramer():
    trials = [*THREE[:3], *THREE[3:5], *THREE[6:]]
    groups = [[p.metrics["best/val/score"] for p in repeats] for repeats in (trials[:3], trials[3:5], trials[5:])]
    tukey = stats.tukey_hsd(*groups).confidence_interval(0.95)
    order = {"age=1": 0, "age=2": 1, "age=4": 2}
    result = compare(trials)
    best = order[result.candidates[0].name]
    for candidate in result.candidates[1:]:
        assert candidate.margin == pytest.approx((tukey.high - tukey.low)[best, order[candidate.name]] / 2, rel=1e-4)


def test_a_candidate_of_one_seed_is_compared_with_the_noise_of_the_others():
    result = compare([*THREE[:6], trial(0.9, 0.9, seed=1, loss__weights__age=9)])
    assert result.noise.degrees == 4
    assert result.candidates[0].seeds == 1
    assert [candidate.within_noise for candidate in result.candidates] == [True, False, False]


def test_without_repeated_seeds_nothing_is_called_better():
    result = compare([trial(0.5, seed=1, loss__weights__age=1), trial(0.9, seed=1, loss__weights__age=2)])
    assert result.noise is None
    assert [candidate.within_noise for candidate in result.candidates] == [None, None]
    assert result.recommendation.candidate.name == "age=2"
    assert result.recommendation.within_noise == ()


def test_the_same_seed_twice_is_no_repeat():
    result = compare([trial(0.5, seed=1), trial(0.7, seed=1)])
    assert result.noise is None
    (candidate,) = result.candidates
    assert (candidate.seeds, len(candidate.trials)) == (1, 2)
    assert candidate.scores["age"] == pytest.approx(0.6)


def test_the_front_has_what_no_other_trial_beats_for_every_head():
    skills = {1: (0.8, 0.2), 2: (0.5, 0.5), 3: (0.2, 0.8), 4: (0.5, 0.4), 5: (0.1, 0.1), 6: (0.8, 0.2)}
    result = compare([trial(*pair, loss__weights__age=w) for w, pair in skills.items()])
    assert {candidate.name for candidate in result.candidates if candidate.on_front} == {
        "age=1", "age=2", "age=3", "age=6"
    }  # fmt: skip


def test_slopes_are_those_of_the_additive_model():
    trials = [
        trial(0.1 + 0.03 * np.log2(a) - 0.02 * np.log2(r) + wiggle, 0.5, loss__weights__age=a, loss__weights__race=r)
        for (a, r), wiggle in zip(
            [(a, r) for a in (0.5, 1, 4) for r in (1, 2, 8)], np.tile([0.001, -0.002, 0.001], 3), strict=True
        )
    ]
    slopes = {(slope.setting, slope.outcome): slope for slope in compare(trials).slopes}
    age = slopes["loss.weights.age", "age"]
    assert age.slope == pytest.approx(0.03)
    assert age.low < 0.03 < age.high
    assert age.seen
    assert not slopes["loss.weights.age", "race"].seen
    one = stats.linregress(
        np.log2([float(p.settings["loss.weights.race"]) for p in trials[:3]]),
        [p.metrics["best/val/age/skill"] for p in trials[:3]],
    )
    alone = next(s for s in compare(trials[:3]).slopes if s.outcome == "age")
    assert alone.slope == pytest.approx(one.slope)
    assert alone.high - alone.slope == pytest.approx(one.stderr * stats.t.ppf(0.975, 1))


def test_no_slope_without_a_degree_of_freedom_or_where_settings_moved_together():
    assert compare([trial(0.1, loss__weights__age=1), trial(0.2, loss__weights__age=2)]).slopes == ()
    together = [trial(w / 10, loss__weights__age=w, loss__weights__race=2 * w) for w in (1, 2, 3, 4)]
    assert compare(together).slopes == ()
    assert compare([trial(0.1, loss__weights__age=w) for w in (0, 1, 2)]).slopes == ()


def test_marginal_means_are_over_the_other_settings():
    trials = [
        trial(0.2, model__encoder="compact", loss__weights__age=1),
        trial(0.4, model__encoder="compact", loss__weights__age=2),
        trial(0.8, model__encoder="article", loss__weights__age=2),
    ]
    marginals = {(m.setting, m.value): m for m in compare(trials).marginals}
    assert marginals["model.encoder", "compact"].scores["age"] == pytest.approx(0.3)
    assert marginals["loss.weights.age", "2"].metrics["age"] == pytest.approx((6 + 2) / 2)
    assert len(marginals) == 4
    assert not compare([trial(w / 100, train__learning_rate=w) for w in range(1, 10)]).marginals


def test_what_shapes_no_metric_is_not_varied():
    trials = [
        trial(seed=1, parameters=100 + w, loss__name=f"n{w}", loss__weights__age=w, tracking__experiment=str(w))
        for w in (1, 2)
    ]
    assert compare(trials).varied == ("loss.weights.age",)
    assert compare([trial(loss__name="a"), trial(loss__name="b")]).varied == ("loss.name",)
    assert compare([trial(w__10=1, w__9=1), trial(w__10=2, w__9=2)]).varied == ("w.9", "w.10")


def test_names_are_as_short_as_they_can_be():
    (best, _) = compare(
        [
            trial(0.1, loss__weights__age="1.0", loss__functions__age="mae", train__learning_rate="0.001"),
            trial(
                0.9, loss__weights__age="0.30000000000000004", loss__functions__age="mse", train__learning_rate="1e-2"
            ),
        ]
    ).candidates
    assert best.name == "functions.age=mse weights.age=0.3 learning_rate=0.01"


def test_every_trial_is_in_the_table_and_what_failed_has_a_reason():
    trials = [
        *THREE,
        trial(loss__weights__age=8, seed=1, status="FAILED", error="out of memory"),
        Trial("early", "KILLED", {}, {}),
        Trial("old", "FINISHED", {"seed": "1", "loss.weights.age": "1"}, {"best/epoch": 1}),
        trial(float("nan"), loss__weights__age=9),
    ]
    result = compare(trials)
    table = result.table()
    assert sorted(table["name"]) == sorted(p.name for p in trials)
    assert table["loss.weights.age"].tolist()[-4:] == ["8", "", "1", "9"]
    assert table["error"].tolist()[-4:-2] == ["out of memory", "stopped before its end"]
    assert table["error"].str.contains("no finite best/val/score").tolist()[-2:] == [True, True]
    assert result.noise.degrees == 6
    best = table.iloc[0]
    assert best["candidate"] == result.candidates[0].name
    assert (best["difference"], best["within_noise"]) == (0, True)
    assert best["last/val/age/mae"] == best["best/val/age/mae"]


def test_nothing_finished_is_no_error():
    result = compare([trial(status="FAILED", error="no space")])
    assert (result.candidates, result.recommendation) == ((), None)
    assert result.table()["error"].tolist() == ["no space"]
    assert compare([]).table().empty


def test_other_splits_and_other_heads_are_refused_by_name():
    with pytest.raises(DataError, match=r"different splits \(age=1.*: abc; age=2.*: xyz\): compare runs of one split"):
        compare([_named("age=1", "abc"), _named("age=2", "xyz")])
    other = Trial("o", "FINISHED", {}, {"best/val/score": 1.0, "best/val/gender/skill": 1.0}, "abc")
    with pytest.raises(DataError, match=r"different heads.*age, race.*gender"):
        compare([trial(), other])
    assert compare([trial(), trial(status="FAILED", split="xyz")]).candidates


def _named(name, split):
    return Trial(name, "FINISHED", {}, {"best/val/score": 0.5, "best/val/age/skill": 0.5}, split, "0123456789")


@pytest.mark.parametrize(
    ("overrides", "command"),
    [
        (["experiment=hour", "loss.weights.age=0.3", "seed=2"],
         "dvc exp run -S experiment=hour -S loss.weights.age=0.3"),
        (["+sweep=weights", "hydra/launcher=joblib", "hydra.sweep.dir=x", "+search=asha", "train.epochs=3"],
         "dvc exp run -S train.epochs=3"),
        (["+data.heads.age.note=old age", "model.widths=[8,16]", "~split.files"],
         "dvc exp run -S '+data.heads.age.note=old age' -S 'model.widths=[8,16]' -S '~split.files'"),
        ([], "dvc exp apply brave-test"),
    ],
)  # fmt: skip
def test_the_command_promotes_the_best(overrides, command):
    trials = [
        trial(0.6, seed=1, overrides=overrides, experiment="shy-test"),
        trial(0.9, seed=2, overrides=overrides, experiment="brave-test"),
    ]
    assert compare(trials).recommendation.command == command


def test_no_command_where_the_trials_do_not_say_how():
    assert compare([trial()]).recommendation.command == ""


def test_a_head_whose_main_metric_not_all_runs_know_is_compared_by_its_skill_score():
    older = replace(trial(0.4, seed=2), main_metrics={})
    result = compare([trial(0.5, seed=1), older])
    assert result.main_metrics == {}
    assert result.candidates[0].scores["age"] == pytest.approx(0.45)


def test_the_direction_of_every_main_metric_is_that_of_its_skill_score():
    kinds = [
        heads.Regression(name="one", unit="years", minimum=0, maximum=9),
        heads.Categorical(name="one", classes=("a", "b")),
        heads.Binary(name="one", classes=("a", "b")),
        heads.Vector(name="one", unit="m", width=2, minimum=0, maximum=9),
        heads.Box(name="one", of="a"),
    ]
    for kind in kinds:
        assert (kind.skill(0.6, 0.5) > 0) == kind.metric(kind.main_metric).greater_is_better
    assert {type(kind) for kind in kinds} == set(heads.HEADS.values())
