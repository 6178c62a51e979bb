"""Originals and reconstructions to tables and reports."""
