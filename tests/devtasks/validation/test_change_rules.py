import asyncio

import pytest

from devtasks.validation.change_rules import NoSecrets, Size

KEYS = {
    "OpenRouter": "sk-or-" + "v1-" + "0a" * 20,
    "GitHub": "ghp_" + "aB3" * 12,
    "AWS": "AKIA" + "Z7" * 8,
    "private": "-----BEGIN RSA " + "PRIVATE KEY-----",
}


@pytest.mark.parametrize("key", KEYS.values(), ids=KEYS)
def test_a_key_in_a_new_line_is_refused_with_its_place_and_not_repeated(change, key):
    outcome = asyncio.run(NoSecrets().check(change({"tests/test_more.py": f"A = 1\nKEY = {key!r}\n"})))
    (finding,) = outcome.findings
    assert (outcome.value, finding.place) == (0, "tests/test_more.py:2")
    assert key not in finding.message


def test_a_key_that_was_there_before_is_not_blamed_on_the_change(change, shop):
    before = f"KEY = {KEYS['AWS']!r}\n"
    (shop / "tests/test_more.py").write_text(before)
    assert asyncio.run(NoSecrets().check(change({"tests/test_more.py": f"{before}B = 2\n"}))).value == 1


@pytest.mark.parametrize("text", ["sk-test", "https://user:pass@example.org", "Bearer " + "a" * 20, "AKIA"])
def test_what_tests_make_up_is_no_key(change, text):
    assert asyncio.run(NoSecrets().check(change({"tests/test_more.py": f"A = {text!r}\n"}))).findings == ()


def test_a_change_that_nobody_can_read_is_refused(change):
    large = asyncio.run(Size().check(change({"tests/test_more.py": "#" * (256 * 1024 + 1)})))
    many = asyncio.run(Size().check(change({f"tests/test_{n}.py": "" for n in range(51)})))
    assert (large.value, large.stop, many.value, many.stop) == (0, True, 0, True)
    assert "tests/test_more.py has 256 KiB" in large.findings[0].message
    assert "51 files were changed" in many.findings[0].message
