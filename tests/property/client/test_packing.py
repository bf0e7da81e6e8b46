"""A folder that is sent is the same bytes as one that the registry reads, from every place on."""

import hashlib
import tempfile
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st
from infermesh.client.packing import pack

from services.common.artifacts.tar import canonical_tar

part = st.text("abz.-_é ", min_size=1, max_size=60).filter(lambda one: one.strip("."))
names = st.lists(part, min_size=1, max_size=3)
files = st.dictionaries(names.map("/".join), st.binary(max_size=2000), min_size=1, max_size=6)


@settings(max_examples=80)
@given(files, st.data())
def test_both_pack_alike(contents: dict[str, bytes], data: st.DataObject) -> None:
    with tempfile.TemporaryDirectory() as above:
        folder = Path(above, "model")
        for name, content in contents.items():
            place = folder / name
            if any(one.is_file() for one in place.parents) or place.is_dir():
                return
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(content)
        packed = pack(folder)
        ordered = sorted(contents, key=str.encode)
        expected = b"".join(canonical_tar((name, len(contents[name]), [contents[name]]) for name in ordered))
        assert b"".join(packed.pieces()) == expected
        assert (packed.size_bytes, packed.digest) == (len(expected), hashlib.sha256(expected).hexdigest())
        offset = data.draw(st.integers(0, len(expected)))
        assert b"".join(packed.pieces(offset)) == expected[offset:]
