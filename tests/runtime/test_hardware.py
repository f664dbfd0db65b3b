import pytest

from manyheads.runtime import hardware


@pytest.fixture
def processor(tmp_path, monkeypatch):
    def with_flags(text):
        info = tmp_path / "cpuinfo"
        info.write_text(text)
        monkeypatch.setattr(hardware, "CPU_INFO", info)
        hardware.fastest_precision.cache_clear()

    yield with_flags
    hardware.fastest_precision.cache_clear()


@pytest.mark.parametrize(
    ("flags", "precision"),
    [
        ("fpu avx2 avx512f", "float32"),
        ("fpu avx512f avx512_bf16", "mixed_bfloat16"),
        ("fpu amx_tile amx_bf16", "mixed_bfloat16"),
    ],
)
def test_bfloat16_is_taken_where_the_processor_computes_in_it(flags, precision, processor):
    processor(f"processor : 0\nmodel name : one\nflags\t\t: {flags}\n\nprocessor : 1\nflags : fpu\n")
    assert hardware.fastest_precision() == precision


def test_a_system_that_does_not_say_computes_in_float32(tmp_path, monkeypatch):
    monkeypatch.setattr(hardware, "CPU_INFO", tmp_path / "none")
    hardware.fastest_precision.cache_clear()
    assert hardware.fastest_precision() == "float32"
    hardware.fastest_precision.cache_clear()


@pytest.mark.parametrize(("capability", "precision"), [((7, 5), "float32"), ((8, 0), "mixed_bfloat16")])
def test_a_gpu_counts_by_its_capability(capability, precision, monkeypatch):
    import tensorflow as tf

    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind: [kind])
    monkeypatch.setattr(tf.config.experimental, "get_device_details", lambda gpu: {"compute_capability": capability})
    hardware.fastest_precision.cache_clear()
    assert hardware.fastest_precision() == precision
    hardware.fastest_precision.cache_clear()


def test_cores_are_those_that_the_process_may_use():
    assert hardware.available_cores() >= 1
