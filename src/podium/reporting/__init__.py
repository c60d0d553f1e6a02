"""Figures, tables and the page, made from a study's files alone; never imports torch."""

from __future__ import annotations

from podium.reporting.build import ReportResult, build_report

__all__ = ["ReportResult", "build_report"]
