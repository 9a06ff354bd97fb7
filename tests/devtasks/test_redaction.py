"""Secrets of every kind are made from a seed, so that this file holds none, and put where they must not stay."""

import random
import string
from collections.abc import Callable

import pytest

from devtasks.redaction import SHAPES, Redactor

FRAGMENT, SHORTEST = 12, 8  # as docs/evidence.md says
LETTERS = string.ascii_letters + string.digits


def characters(chance: random.Random, count: int, of: str = LETTERS) -> str:
    return "".join(chance.choices(of, k=count))


MAKERS: dict[str, Callable[[random.Random], str]] = {
    "OpenRouter key": lambda chance: "sk-or-v1-" + characters(chance, 64, string.hexdigits.lower()),
    "API key": lambda chance: chance.choice(("sk-", "sk-proj-", "sk-ant-")) + characters(chance, 40),
    "run token": lambda chance: "devtasks-run-" + characters(chance, 43),
    "GitHub token": lambda chance: chance.choice(("ghp_", "gho_", "ghs_", "github_pat_")) + characters(chance, 36),
    "GitLab token": lambda chance: "glpat-" + characters(chance, 20),
    "AWS key": lambda chance: "AKIA" + characters(chance, 16, string.ascii_uppercase + string.digits),
    "Google key": lambda chance: "AIza" + characters(chance, 35),
    "Slack token": lambda chance: "xoxb-" + characters(chance, 24, string.digits),
    "PyPI token": lambda chance: "pypi-" + characters(chance, 100),
    "JSON web token": lambda chance: ".".join(("eyJ" + characters(chance, 20), *(characters(chance, 30),) * 2)),
    "bearer token": lambda chance: characters(chance, 32),
    "private key": lambda chance: "\n".join(characters(chance, 64) for _ in range(12)),
    "password": lambda chance: characters(chance, 16),
}
AROUND: dict[str, tuple[str, str]] = {
    "bearer token": ("authorization: Bearer ", ""),
    "private key": ("-----BEGIN RSA PRIVATE KEY-----\n", "\n-----END RSA PRIVATE KEY-----"),
    "password": ("git clone https://someone:", "@example.org/x.git"),
}
CUTS = {"ours": "… [812 characters cut]", "one-line": "…", "sdk": "<response clipped><NOTE>", "none": ""}


def texts(kind: str, seed: int) -> tuple[str, str, str]:
    """A secret of the kind, what may stand in front of it, and what behind it belongs to it."""
    chance = random.Random(f"{kind}{seed}")
    return MAKERS[kind](chance), *AROUND.get(kind, ("", ""))


def pieces_of(secret: str, text: str, size: int) -> list[str]:
    return [piece for at in range(len(secret) - size + 1) if (piece := secret[at : at + size]) in text]


def test_every_shape_is_tried_below() -> None:
    assert {shape.kind for shape in SHAPES} == set(MAKERS) - {"private key", "password"}


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("kind", MAKERS)
def test_a_key_is_known_by_its_shape_wherever_it_stands(kind: str, seed: int) -> None:
    secret, before, after = texts(kind, seed)
    for left, right in (("", ""), ("KEY=", "\n"), ('{"key": "', '"}'), ("see ", ", please"), ("(", ")")):
        text = f"{left}{before}{secret}{after}{right}"
        redacted = Redactor().text(text)
        assert secret not in redacted
        assert not pieces_of(secret, redacted, FRAGMENT + 3)
        assert f"[redacted: {kind}]" in redacted
        assert redacted.startswith(left)
        assert redacted.endswith(right)
        assert Redactor().text(redacted) == redacted


@pytest.mark.parametrize("cut", CUTS)
@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("kind", MAKERS)
def test_a_key_that_is_cut_leaves_at_most_a_few_characters(kind: str, seed: int, cut: str) -> None:
    secret, before, _ = texts(kind, seed)
    for length in range(1, len(secret)):
        redacted = Redactor().text(f"{before}{secret[:length]}{CUTS[cut]}")
        # The beginning that all keys of a kind share tells nothing.
        assert not pieces_of(secret, redacted, len("devtasks-run-") + SHORTEST)


@pytest.mark.parametrize("seed", range(50))
def test_no_piece_of_a_value_that_is_known_stays(seed: int) -> None:
    chance = random.Random(seed)
    secret = characters(chance, chance.randint(SHORTEST, 80), LETTERS + "+/=-_ ")
    filler = characters(chance, 200, string.ascii_lowercase + " \n")
    start = chance.randint(0, len(secret) - 1)
    stop = chance.randint(start + 1, len(secret))
    for piece in (secret, secret[start:stop]):
        text = f"{filler}{piece}{filler}{piece}"
        redacted = Redactor({"THE_KEY": secret}).text(text)
        assert not pieces_of(secret, redacted, min(FRAGMENT, len(secret)))
        assert redacted.count("[redacted: THE_KEY]") == (2 if len(piece) >= min(FRAGMENT, len(secret)) else 0)


def test_a_value_learned_late_counts_as_well_and_a_short_one_never() -> None:
    redactor = Redactor({"FLAG": "true", "EMPTY": ""})
    assert redactor.text("it is true that") == "it is true that"
    redactor.learn("run token", "correct horse")
    assert redactor.text("a correct horse is") == "a [redacted: run token] is"


def test_every_text_of_a_value_is_read_and_the_rest_stays() -> None:
    redactor = Redactor({"K": "correct horse"})
    event = {"a": ["the correct horse", 1, None, {"correct horse": True}], "b": 2.5}
    mark = "[redacted: K]"
    assert redactor.value(event) == {"a": [f"the {mark}", 1, None, {mark: True}], "b": 2.5}


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("pip install scikit-learn==1.5 # task-force, disk-or-memory", id="names"),
        pytest.param("http://localhost:8080/path?mail=someone@example.org", id="port-and-mail"),
        pytest.param("served at http://127.0.0.1:4200", id="port-at-the-end"),
        pytest.param("commit 3a535bb0d6c1a1c0f9a7cf6f2f2b4e5d6a7b8c9d", id="commit"),
        pytest.param("the bearer of this letter", id="bearer"),
        pytest.param("devtasks-run-engine and devtasks-runs", id="what-a-token-begins-with"),
        pytest.param("-----BEGIN CERTIFICATE-----\nabc\n-----END CERTIFICATE-----", id="certificate"),
        pytest.param("", id="empty"),
    ],
)
def test_what_is_no_secret_stays(text: str) -> None:
    token = texts("run token", 1)[0]
    assert Redactor({"run token": token}).text(f"{text} and more") == f"{text} and more"
