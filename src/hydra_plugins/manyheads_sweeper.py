"""The Hydra plug-in of the sweeper behind ``python -m manyheads train --multirun``.

Every Hydra application of the environment imports this file, so the implementation is imported lazily.
"""

from typing import Any

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.config_store import ConfigStore


class TrialSweeper(BasicSweeper):
    """A basic sweeper that skips finished trials and compares all trials; see ``manyheads.sweeps.grid``."""

    def setup(self, *, hydra_context: Any, task_function: Any, config: Any) -> None:
        """Keep Hydra's context and configuration for ``sweep``."""
        del task_function
        self.hydra_context, self.config = hydra_context, config

    def sweep(self, arguments: list[str]) -> None:
        """Train all combinations of the command line's lists and of ``hydra.sweeper.params``."""
        from manyheads.sweeps import grid

        parameters = [f"{key}={values}" for key, values in (self.params or {}).items()]
        grid.run(self.hydra_context, self.config, [*parameters, *arguments], arguments)


ConfigStore.instance().store(
    group="hydra/sweeper",
    name="trials",
    node={"_target_": f"{__name__}.{TrialSweeper.__name__}", "max_batch_size": None, "params": None},
    provider="manyheads",
)
