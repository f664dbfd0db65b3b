import hydra
import pytest
from hydra.core.global_hydra import GlobalHydra

from conftest import ROOT, compose
from manyheads.config.differences import differences


@pytest.mark.parametrize(
    "overrides",
    [
        (), ("loss=age_heavy",), ("loss=age_heavy", "seed=2", "train.epochs=3"), ("data=utkface",),
        ("experiment=minutes",), ("experiment=posts", "seed=5"), ("model=deep",),
    ],
)  # fmt: skip
def test_the_differences_compose_the_configuration_again(overrides):
    config = compose(*overrides)
    found = differences(config, ROOT)
    assert compose(*found) == config
    assert len(found) <= max(len(overrides), 1) or overrides == ("model=deep",)


def test_a_configuration_is_compared_while_hydra_runs_an_application():
    with hydra.initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        outer = GlobalHydra.instance().hydra
        assert differences(compose("seed=3"), ROOT) == ("seed=3",)
        assert GlobalHydra.instance().hydra is not None
        assert outer is not None
        hydra.compose("config")
