import pytest

from release import environment

pytestmark = pytest.mark.unit


@pytest.mark.parametrize(
    ("value", "line"),
    [
        ("", "A=''"),
        ("plain", "A='plain'"),
        ('$HOME #no `id` "x" \\n é', "A='$HOME #no `id` \"x\" \\n é'"),
        ("it's $5", 'A="it\'s \\$5"'),
        ("'\"\\x", 'A="\'\\"\\\\x"'),
        ("a\\", 'A="a\\0134"'),
        ("a\nb", 'A="a\\nb"'),
    ],
)
def test_values_are_quoted_so_that_nothing_in_them_means_anything(value: str, line: str) -> None:
    assert environment.env_file({"A": value}) == f"{line}\n"


def test_a_fingerprint_changes_with_the_value_and_cannot_be_made_without_the_key() -> None:
    first = environment.fingerprints({"B": "x", "A": "y"}, "key")
    assert list(first) == ["A", "B"]
    assert first != environment.fingerprints({"B": "x", "A": "z"}, "key")
    assert first["B"] != environment.fingerprints({"B": "x"}, "other key")["B"]
    # The same value under two names does not show as the same.
    assert len(set(environment.fingerprints({"A": "x", "B": "x"}, "key").values())) == 2
