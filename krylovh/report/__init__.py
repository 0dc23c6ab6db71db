"""A page with interactive plots and all numbers of a file of results, in one file that opens offline."""

from krylovh.report.page import write_report

__all__ = ["write_report"]
