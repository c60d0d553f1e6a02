"""Statistics on predictions: paired tests, intervals, verdicts, power. Never imports torch."""

from podium.comparison.power import Assumptions, Plan, observed, plan
from podium.comparison.questions import Question, questions
from podium.comparison.sheet import Answers, Sheet, read_sheet, sheet_of
from podium.comparison.verdicts import Interval, Pair, Standing, Verdicts, judge

__all__ = [
    "Answers",
    "Assumptions",
    "Interval",
    "Pair",
    "Plan",
    "Question",
    "Sheet",
    "Standing",
    "Verdicts",
    "judge",
    "observed",
    "plan",
    "questions",
    "read_sheet",
    "sheet_of",
]
