"""Tests. Each names the promise it holds."""
