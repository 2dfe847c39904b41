"""refnet: a small, complete Calico-style network, the judge's default system under test."""

__version__ = "0.1.0"
