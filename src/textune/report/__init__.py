"""A run's results as an HTML report and as a Markdown model card. No torch."""

from textune.report.card import CardInput, render_card, render_unmeasured_card
from textune.report.html import ReportInput, render_report, write_report
from textune.report.report_markdown import render_report_markdown
from textune.report.search import SearchInput, write_search_report
from textune.report.verdict import judge

__all__ = [
    "CardInput",
    "ReportInput",
    "SearchInput",
    "judge",
    "render_card",
    "render_report",
    "render_report_markdown",
    "render_unmeasured_card",
    "write_report",
    "write_search_report",
]
