"""The list of allowed skips is read as it says."""

from tests.support import skips


def test_a_skip_must_be_on_the_list(tmp_path, monkeypatch):
    """A skipped test that no pattern of the list names is refused."""
    listed = tmp_path / "allowed.txt"
    listed.write_text("# a comment\ntests/a/*.py::*  # needs a second machine\n\n", "utf-8")
    monkeypatch.setattr(skips, "LIST", listed)
    assert skips.refuse({"tests/a/test_b.py::test_c": "why", "tests/b/test_b.py::test_c": "why"}) == {
        "tests/b/test_b.py::test_c": "why"
    }
