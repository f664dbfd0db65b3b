import pytest

from faults.storm import Storm

pytestmark = pytest.mark.slow

SEED = 11
KILLS = 5


@pytest.mark.timeout(1200)
def test_killed_commands_end_with_the_undisturbed_result(tmp_path, warm_python):
    outcome = Storm(tmp_path, warm_python, SEED).run(KILLS)
    assert outcome.differences == []
    assert outcome.kills.total() == KILLS
