"""What h2load says, read; and the failures that it does not see."""

from pathlib import Path

import pytest

from benchmarks.load import LoadFailedError, Summary, parse_summary, percentiles_ms, silent_failures

OUTPUT = """\
finished in 3.00s, 16742.00 req/s, 2.30MB/s
requests: 33485 total, 33485 started, 33484 done, 33480 succeeded, 4 failed, 1 errored, 0 timeout
status codes: 33480 2xx, 0 3xx, 1 4xx, 3 5xx
traffic: 4.61MB (4833086) total, 152.10KB (155754) headers (space savings 96.28%), 3.51MB (3683240) data
                     min         max         mean         sd        +/- sd
time for request:     9.27ms     25.87ms     15.28ms      2.10ms    77.25%
"""


def test_the_summary_is_read() -> None:
    assert parse_summary(OUTPUT) == Summary(done=33484, failed=5, data_bytes=3683240)


@pytest.mark.parametrize("output", ["", "no such host\n", OUTPUT.replace("33484 done", "0 done")])
def test_a_run_that_measured_nothing_is_an_error_with_its_last_words(output: str) -> None:
    with pytest.raises(LoadFailedError, match="measured nothing; its last words"):
        parse_summary(output)


def test_grpc_errors_show_as_answers_without_a_message() -> None:
    assert silent_failures(Summary(done=100, failed=0, data_bytes=11_000), 110) == 0
    assert silent_failures(Summary(done=100, failed=0, data_bytes=9_900), 110) == 10
    # Answers that were under way at the end have sent data and are not done.
    assert silent_failures(Summary(done=100, failed=0, data_bytes=11_500), 110) == 0


def test_percentiles_are_those_of_the_third_column(tmp_path: Path) -> None:
    log = tmp_path / "log.tsv"
    log.write_text("".join(f"1795635624265505\t200\t{number * 1000}\n" for number in range(101)))
    assert percentiles_ms(log) == (50.0, 95.0, 99.0)
    log.write_text("1795635624265505\t200\t2500\n")
    assert percentiles_ms(log) == (2.5, 2.5, 2.5)
