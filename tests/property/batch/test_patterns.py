"""Patterns match in buckets what they match on a disk."""

import glob
import tempfile
from pathlib import Path

from hypothesis import example, given
from hypothesis import strategies as st

from services.batch.domain.patterns import has_wildcard, literal_base, matches

part_of_names = st.text(st.sampled_from("ab.=-]!"), min_size=1, max_size=4).filter(lambda name: name not in (".", ".."))
pieces = st.sampled_from(["*", "?", "[ab]", "[!a]", "[a-c]", "[]]", "a", "b", ".", "=", "-", "["])
part_of_patterns = st.lists(pieces, min_size=1, max_size=4).map("".join).filter(lambda part: part not in (".", ".."))
patterns = st.lists(st.one_of(part_of_patterns, st.just("**")), min_size=1, max_size=3).map("/".join)


@given(
    files=st.lists(st.lists(part_of_names, min_size=1, max_size=3).map("/".join), min_size=1, max_size=6, unique=True),
    # Of a file "a", "a/**" finds "a/" there, which is nothing that anyone asks for.
    pattern=patterns.filter(lambda pattern: has_wildcard(pattern) and not pattern.endswith("**")),
)
@example(files=["a", "b/a"], pattern="**")
@example(files=["a/b", "a/a/b"], pattern="a/**/b")
def test_a_pattern_matches_what_a_shell_would_match(files: list[str], pattern: str) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for file in files:
            path = folder / file
            if any(above.is_file() for above in path.parents) or path.exists():
                continue
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
        there = [path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()]
        found = {one.rstrip("/") for one in glob.glob(pattern, root_dir=folder, recursive=True)} - {""}  # noqa: PTH207 - as the service does
        # A folder that is found stands for all that is in it.
        expected = {path for path in there if any(path == one or path.startswith(f"{one}/") for one in found)}
        got = {path for path in there if matches(path, pattern)}
        assert got == expected
        assert all(path.startswith(literal_base(pattern)) for path in got)
