"""Statistics on predictions: paired tests, intervals, verdicts, power. Never imports torch."""

from podium.statistics.power import Assumptions, Plan, observed, plan
from podium.statistics.questions import Question, questions
from podium.statistics.sheet import Answers, Sheet, read_sheet, sheet_of
from podium.statistics.verdicts import Interval, Pair, Standing, Verdicts, judge

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
