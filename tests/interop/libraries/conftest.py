"""Warnings of the libraries about themselves are no errors here."""


def pytest_configure(config):
    for ignored in ("ignore:.torch.jit:DeprecationWarning", "ignore:__array__ implementation:DeprecationWarning"):
        config.addinivalue_line("filterwarnings", ignored)
