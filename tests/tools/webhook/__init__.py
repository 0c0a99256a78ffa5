"""Tests: see the package's name."""
