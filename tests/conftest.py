"""All tests work on drawn digits, in a cache of their own, without network, and without the results
that come with the repository."""

import pytest


@pytest.fixture(scope="session", autouse=True)
def sealed_off(tmp_path_factory: pytest.TempPathFactory):
    with pytest.MonkeyPatch.context() as patch:
        for name in ("DATA", "SCALE", "SEALED"):
            patch.delenv(f"LAZY_ARTIST_{name}", raising=False)
        patch.setenv("LAZY_ARTIST_STANDIN_SIZE", "6000")
        patch.setenv("LAZY_ARTIST_CACHE", str(tmp_path_factory.mktemp("cache")))
        patch.setenv("LAZY_ARTIST_RESULTS", str(tmp_path_factory.mktemp("results")))
        patch.setenv("LAZY_ARTIST_OFFLINE", "1")
        patch.setenv("LAZY_ARTIST_SOURCE", "procedural")
        yield
