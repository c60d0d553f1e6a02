"""The publications behind the statistics: in a sentence, in a list, and as BibTeX.

docs/statistics.md says what each of them is used for. `podium.reporting.words.paper_words` cites
those that a study's verdicts rest on.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Reference:
    """A publication; fields that do not apply are empty."""

    key: str
    authors: tuple[str, ...]
    """Family name first: "McNemar, Q."."""
    year: int
    title: str
    venue: str
    """The journal, the proceedings, or the publisher of a book."""
    volume: str = ""
    number: str = ""
    pages: str = ""
    doi: str = ""
    kind: Literal["article", "book", "inproceedings"] = "article"

    @property
    def cited(self) -> str:
        """Names and year as in a sentence, without parentheses."""
        names = [author.partition(",")[0] for author in self.authors]
        who = f"{names[0]} et al." if len(names) > 2 else " & ".join(names)
        return f"{who}, {self.year}"

    @property
    def listed(self) -> str:
        """The entry of a list of references."""
        *most, last = self.authors
        who = f"{', '.join(most)}, & {last}" if most else last
        number = f"({self.number})" if self.number else ""
        where = ", ".join(filter(None, [self.venue, f"{self.volume}{number}", self.pages]))
        doi = f" https://doi.org/{self.doi}" if self.doi else ""
        return f"{who} ({self.year}). {self.title}. {where}.{doi}"

    @property
    def bibtex(self) -> str:
        """The entry of a .bib file, in UTF-8."""
        venue = {"article": "journal", "book": "publisher", "inproceedings": "booktitle"}
        fields = {
            "author": " and ".join(self.authors),
            "title": f"{{{self.title}}}",  # keeps its capitals
            venue[self.kind]: self.venue,
            "year": str(self.year),
            "volume": self.volume,
            "number": self.number,
            "pages": self.pages,
            "doi": self.doi,
        }
        lines = [
            f"  {name} = {{{value.replace('–', '--')}}}," for name, value in fields.items() if value
        ]
        return "\n".join([f"@{self.kind}{{{self.key},", *lines, "}"])


_JASA = "Journal of the American Statistical Association"

REFERENCES = {
    one.key: one
    for one in (
        Reference(
            "akiba2019",
            ("Akiba, T.", "Sano, S.", "Yanase, T.", "Ohta, T.", "Koyama, M."),
            2019,
            "Optuna: a next-generation hyperparameter optimization framework",
            "Proceedings of the 25th ACM SIGKDD International Conference on Knowledge Discovery "
            "and Data Mining (KDD 2019)",
            "",
            "",
            "2623–2631",
            "10.1145/3292500.3330701",
            "inproceedings",
        ),
        Reference(
            "bergstra2011",
            ("Bergstra, J.", "Bardenet, R.", "Bengio, Y.", "Kégl, B."),
            2011,
            "Algorithms for hyper-parameter optimization",
            "Advances in Neural Information Processing Systems",
            "24",
            "",
            "2546–2554",
            kind="inproceedings",
        ),
        Reference(
            "bergstra2012",
            ("Bergstra, J.", "Bengio, Y."),
            2012,
            "Random search for hyper-parameter optimization",
            "Journal of Machine Learning Research",
            "13",
            "",
            "281–305",
        ),
        Reference(
            "bonett2012",
            ("Bonett, D. G.", "Price, R. M."),
            2012,
            "Adjusted Wald confidence interval for a difference of binomial proportions based on "
            "paired data",
            "Journal of Educational and Behavioral Statistics",
            "37",
            "4",
            "479–488",
            "10.3102/1076998611411915",
        ),
        Reference(
            "bouckaert2004",
            ("Bouckaert, R. R.", "Frank, E."),
            2004,
            "Evaluating the replicability of significance tests for comparing learning algorithms",
            "Advances in Knowledge Discovery and Data Mining (PAKDD 2004)",
            "3056",
            "",
            "3–12",
            "10.1007/978-3-540-24775-3_3",
            "inproceedings",
        ),
        Reference(
            "cochran1964",
            ("Cochran, W. G.",),
            1964,
            "Approximate significance levels of the Behrens–Fisher test",
            "Biometrics",
            "20",
            "",
            "191–195",
        ),
        Reference(
            "delong1988",
            ("DeLong, E. R.", "DeLong, D. M.", "Clarke-Pearson, D. L."),
            1988,
            "Comparing the areas under two or more correlated receiver operating characteristic "
            "curves: a nonparametric approach",
            "Biometrics",
            "44",
            "3",
            "837–845",
            "10.2307/2531595",
        ),
        Reference(
            "fagerland2013",
            ("Fagerland, M. W.", "Lydersen, S.", "Laake, P."),
            2013,
            "The McNemar test for binary matched-pairs data: mid-p and asymptotic are better than "
            "exact conditional",
            "BMC Medical Research Methodology",
            "13",
            "",
            "91",
            "10.1186/1471-2288-13-91",
        ),
        Reference(
            "fisher1935",
            ("Fisher, R. A.",),
            1935,
            "The Design of Experiments",
            "Oliver and Boyd",
            kind="book",
        ),
        Reference(
            "golovin2017",
            (
                "Golovin, D.",
                "Solnik, B.",
                "Moitra, S.",
                "Kochanski, G.",
                "Karro, J.",
                "Sculley, D.",
            ),
            2017,
            "Google Vizier: a service for black-box optimization",
            "Proceedings of the 23rd ACM SIGKDD International Conference on Knowledge Discovery "
            "and Data Mining (KDD 2017)",
            "",
            "",
            "1487–1495",
            "10.1145/3097983.3098043",
            "inproceedings",
        ),
        Reference(
            "hansen2011",
            ("Hansen, P. R.", "Lunde, A.", "Nason, J. M."),
            2011,
            "The model confidence set",
            "Econometrica",
            "79",
            "2",
            "453–497",
            "10.3982/ECTA5771",
        ),
        Reference(
            "hothorn2008",
            ("Hothorn, T.", "Bretz, F.", "Westfall, P."),
            2008,
            "Simultaneous inference in general parametric models",
            "Biometrical Journal",
            "50",
            "3",
            "346–363",
            "10.1002/bimj.200810425",
        ),
        Reference(
            "lan1983",
            ("Lan, K. K. G.", "DeMets, D. L."),
            1983,
            "Discrete sequential boundaries for clinical trials",
            "Biometrika",
            "70",
            "3",
            "659–663",
            "10.1093/biomet/70.3.659",
        ),
        Reference(
            "lancaster1961",
            ("Lancaster, H. O.",),
            1961,
            "Significance tests in discrete distributions",
            _JASA,
            "56",
            "294",
            "223–234",
            "10.1080/01621459.1961.10482105",
        ),
        Reference(
            "mcnemar1947",
            ("McNemar, Q.",),
            1947,
            "Note on the sampling error of the difference between correlated proportions or "
            "percentages",
            "Psychometrika",
            "12",
            "2",
            "153–157",
            "10.1007/BF02295996",
        ),
        Reference(
            "nadeau2003",
            ("Nadeau, C.", "Bengio, Y."),
            2003,
            "Inference for the generalization error",
            "Machine Learning",
            "52",
            "3",
            "239–281",
            "10.1023/A:1024068626366",
        ),
        Reference(
            "satterthwaite1946",
            ("Satterthwaite, F. E.",),
            1946,
            "An approximate distribution of estimates of variance components",
            "Biometrics Bulletin",
            "2",
            "6",
            "110–114",
            "10.2307/3002019",
        ),
        Reference(
            "schuirmann1987",
            ("Schuirmann, D. J.",),
            1987,
            "A comparison of the two one-sided tests procedure and the power approach for "
            "assessing the equivalence of average bioavailability",
            "Journal of Pharmacokinetics and Biopharmaceutics",
            "15",
            "6",
            "657–680",
            "10.1007/BF01068419",
        ),
        Reference(
            "shaffer1986",
            ("Shaffer, J. P.",),
            1986,
            "Modified sequentially rejective multiple test procedures",
            _JASA,
            "81",
            "395",
            "826–831",
            "10.1080/01621459.1986.10478341",
        ),
        Reference(
            "spiegelhalter1986",
            ("Spiegelhalter, D. J.", "Freedman, L. S.", "Blackburn, P. R."),
            1986,
            "Monitoring clinical trials: conditional or predictive power?",
            "Controlled Clinical Trials",
            "7",
            "1",
            "8–17",
            "10.1016/0197-2456(86)90003-6",
        ),
        Reference(
            "tango1998",
            ("Tango, T.",),
            1998,
            "Equivalence test and confidence interval for the difference in proportions for the "
            "paired-sample design",
            "Statistics in Medicine",
            "17",
            "8",
            "891–908",
            "10.1002/(SICI)1097-0258(19980430)17:8<891::AID-SIM780>3.0.CO;2-B",
        ),
        Reference(
            "tukey1958",
            ("Tukey, J. W.",),
            1958,
            "Bias and confidence in not-quite large samples (abstract)",
            "The Annals of Mathematical Statistics",
            "29",
            "2",
            "614",
        ),
        Reference(
            "welch1947",
            ("Welch, B. L.",),
            1947,
            "The generalization of “Student’s” problem when several different population "
            "variances are involved",
            "Biometrika",
            "34",
            "1–2",
            "28–35",
            "10.1093/biomet/34.1-2.28",
        ),
        Reference(
            "westfall1997",
            ("Westfall, P. H.",),
            1997,
            "Multiple testing of general contrasts using logical constraints and correlations",
            _JASA,
            "92",
            "437",
            "299–306",
        ),
    )
}
"""By key, in the order of the authors' names."""


def bibliography(references: Iterable[Reference]) -> str:
    """The text of a .bib file.

    Args:
        references: in the order of the file.
    """
    return "\n\n".join(one.bibtex for one in references) + "\n"
