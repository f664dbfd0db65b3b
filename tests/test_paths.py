from pathlib import Path

from manyheads.paths import brought_here


def test_in_a_temporary_copy_an_output_has_the_command_that_brings_it(tmp_path, monkeypatch):
    page = tmp_path / "reports/report.html"
    assert brought_here(page, tmp_path) == str(page)
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    monkeypatch.setenv("DVC_EXP_NAME", "brave-test")
    assert brought_here(page, tmp_path) == str(page)
    monkeypatch.setenv("DVC_ROOT", str(Path("/elsewhere")))
    assert brought_here(page, tmp_path) == "reports/report.html (`dvc exp apply brave-test` brings it here)"
