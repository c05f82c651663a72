"""What a page is made of: sections of blocks. Texts are plain; the template escapes every one of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar


@dataclass(frozen=True)
class Text:
    """A paragraph; `muted` for remarks."""

    kind: ClassVar[str] = "text"
    text: str
    muted: bool = False


@dataclass(frozen=True)
class Verdict:
    """One claim with its answer.

    Attributes:
        claim: what was to be shown.
        holds: the computed answer; None where it could not be decided.
        evidence: the numbers behind it.
    """

    claim: str
    holds: bool | None
    evidence: str

    @property
    def answer(self) -> str:
        """ "yes", "no" or "undecided"."""
        return {True: "yes", False: "no", None: "undecided"}[self.holds]


@dataclass(frozen=True)
class Verdicts:
    """Claims and answers, one line each."""

    kind: ClassVar[str] = "verdicts"
    verdicts: Sequence[Verdict]


@dataclass(frozen=True)
class Table:
    """A table; the first column names the row.

    Attributes:
        headers: one per column.
        rows: texts.
        caption: above the table.
        strong: indices of rows to set in bold.
    """

    kind: ClassVar[str] = "table"
    headers: Sequence[str]
    rows: Sequence[Sequence[str]]
    caption: str = ""
    strong: frozenset[int] = frozenset()


@dataclass(frozen=True)
class Chart:
    """One drawing.

    Attributes:
        svg: markup made by `report.style.to_svg`; the only text of a page that is not escaped.
        alt: says in words what is to be seen.
        caption: below it.
        wide: takes the whole width instead of a cell of the grid.
    """

    svg: str
    alt: str
    caption: str = ""
    wide: bool = False


@dataclass(frozen=True)
class Charts:
    """Drawings side by side where the page is wide enough."""

    kind: ClassVar[str] = "charts"
    charts: Sequence[Chart]


@dataclass(frozen=True)
class Tile:
    """One picture.

    Attributes:
        uri: ``data:image/png;base64,...``.
        alt: what it is.
        caption: below it.
        details: small lines below the caption.
    """

    uri: str
    alt: str
    caption: str = ""
    details: Sequence[str] = ()


@dataclass(frozen=True)
class Gallery:
    """Pictures in a wrapping grid."""

    kind: ClassVar[str] = "gallery"
    tiles: Sequence[Tile]
    caption: str = ""
    large: bool = False


@dataclass(frozen=True)
class Matrix:
    """Pictures in rows and columns with a header each, such as prompts against models.

    Attributes:
        columns: header of each column.
        rows: header and tiles of each row.
        caption: above it.
        chart: a drawing beside it.
    """

    kind: ClassVar[str] = "matrix"
    columns: Sequence[str]
    rows: Sequence[tuple[str, Sequence[Tile]]]
    caption: str = ""
    chart: Chart | None = None


@dataclass(frozen=True)
class Code:
    """Commands or settings as they are typed."""

    kind: ClassVar[str] = "code"
    text: str
    caption: str = ""


Block = Text | Verdicts | Table | Charts | Gallery | Matrix | Code


@dataclass(frozen=True)
class Section:
    """A headed part of the page.

    Attributes:
        anchor: its identifier in the page's address; lower-case letters, digits and dashes.
        title: its heading.
        blocks: in order.
        lead: one or two sentences below the heading.
    """

    anchor: str
    title: str
    blocks: Sequence[Block]
    lead: str = ""


@dataclass(frozen=True)
class Page:
    """A whole report.

    Attributes:
        title: of the page.
        subtitle: one line below it.
        facts: label and value pairs in the header, such as the machine and the time.
        blocks: in the header, before the first section.
        sections: in order.
    """

    title: str
    subtitle: str
    sections: Sequence[Section]
    facts: Sequence[tuple[str, str]] = ()
    blocks: Sequence[Block] = field(default_factory=tuple)
