"""Where compiled code is kept."""


def test_a_home_and_a_package_that_cannot_be_written_still_leave_a_place_for_compiled_code(tmp_path, monkeypatch):
    from recoflow import compiled

    def refuse(*_args, **_settings):
        raise RuntimeError("cannot cache function: no locator available")

    monkeypatch.setattr(compiled.numba, "njit", refuse)
    monkeypatch.setattr(compiled.numba.config, "CACHE_DIR", "")
    monkeypatch.setattr(compiled.tempfile, "gettempdir", lambda: str(tmp_path))
    assert compiled.ensure_cache_folder()
    (folder,) = tmp_path.iterdir()
    assert folder.stat().st_mode & 0o777 == 0o700
    assert str(folder) == compiled.numba.config.CACHE_DIR
    folder.chmod(0o777)
    assert not compiled.ensure_cache_folder()
