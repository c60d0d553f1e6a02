"""The verdict in sentences for a paper: in either language, as text, for LaTeX, with BibTeX."""

from __future__ import annotations

from typing import Any, get_args

from podium.reporting.references import bibliography
from podium.reporting.words.labels import Labels, Lang, labels
from podium.reporting.words.paper_words import paper_text
from podium.results.study import StudyResults

LANGUAGES = {"en": "English", "pt": "Português"}


def paper_section(results: StudyResults, say: Labels) -> dict[str, Any] | None:
    """The template values of the sentences; None where there are no pairs.

    Args:
        results: the study.
        say: the language of the page, which is shown first.
    """
    blocks = []
    for lang in sorted(get_args(Lang), key=lambda one: one != say.lang):
        own = labels(lang)
        text = paper_text(results.verdicts, own, results.tuning, results.looks)
        if text is None:
            return None
        entries = [one.listed for one in text.references]
        plain = "\n".join([text.plain, "", own("paper_references"), *entries])
        blocks += [(own, "text", plain), (own, "latex", text.latex)]
        blocks.append((own, "bibtex", bibliography(text.references)))
    return {
        "languages": [(lang, LANGUAGES[lang]) for lang in dict.fromkeys(b[0].lang for b in blocks)],
        "blocks": [(own.lang, own.html_lang, form, text) for own, form, text in blocks],
    }
