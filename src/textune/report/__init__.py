"""A run's figures as a page to read and mail (HTML) and as a model card (Markdown). No torch."""

from textune.report.card import CardInput, render_card, render_unmeasured_card
from textune.report.html import ReportInput, render_report, write_report
from textune.report.search import SearchInput, write_search_report

__all__ = [
    "CardInput",
    "ReportInput",
    "SearchInput",
    "render_card",
    "render_report",
    "render_unmeasured_card",
    "write_report",
    "write_search_report",
]
