"""Figures, tables and the HTML page, built only from a study's files; never imports torch."""

from __future__ import annotations

from podium.reporting.build import ReportResult, build_report

__all__ = ["ReportResult", "build_report"]
