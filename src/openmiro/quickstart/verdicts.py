"""What a quickstart has to show, computed from its measurements and never written down beforehand."""

from __future__ import annotations

from collections.abc import Sequence

from openmiro.evaluate.intervals import Estimate
from openmiro.evaluate.steering import Arm, Strip, overall_difference
from openmiro.lab.scenes import Tag
from openmiro.report.blocks import Verdict

QUALITY_REWARDS = ("aesthetic", "sharpness")
"""Image-quality rewards: those that look at the picture alone and that the comparison is about."""
RANK_CORRELATION_GOAL = 0.9
SINGLE_OBJECT_GOAL = 0.6


def make_verdicts(baseline: Arm, miro: Arm, unguided: Arm, steered: Arm, strips: Sequence[Strip]) -> list[Verdict]:
    """One line per claim.

    Args:
        baseline: at its best text guidance.
        miro: the preset that is to beat it.
        unguided, steered: the MIRO model with everything unknown, and with the alignment reward alone asked for.
        strips: asked against obtained, by reward.
    """
    return [
        *(_reward_above(name, baseline, miro) for name in QUALITY_REWARDS if name in miro.scores),
        _composition_not_below(baseline, miro),
        *(_follows(strip) for strip in strips if strip.reward in QUALITY_REWARDS),
        _alignment_raised(unguided, steered),
        _color_raised(unguided, steered),
        _single_object(miro),
    ]


def _reward_above(name: str, baseline: Arm, miro: Arm) -> Verdict:
    first, second = miro.reward(name), baseline.reward(name)
    return Verdict(
        f"{name} of {miro.name} above {baseline.name}, intervals apart", first.above(second), _against(first, second)
    )


def _composition_not_below(baseline: Arm, miro: Arm) -> Verdict:
    difference = overall_difference(miro, baseline)
    evidence = f"{_against(miro.overall, baseline.overall)}; paired difference {_signed(difference)}"
    # Below by less than chance may do is neither a yes nor a no; nor is it where no model ever draws what is asked.
    nothing_right = not any((*miro.correct, *baseline.correct))
    undecided = nothing_right or difference.value < 0 <= difference.high
    holds = None if undecided else difference.value >= 0
    return Verdict(f"GenEval-lab of {miro.name} not below {baseline.name}", holds, evidence)


def _follows(strip: Strip) -> Verdict:
    found = strip.rank_correlation
    evidence = (
        f"{found:.3f} along a strip, mean over {len(strip.obtained[0])} prompts;"
        f" {strip.pooled_rank_correlation:.3f} over all {strip.num_pictures} pictures at once,"
        f" {strip.mean_rank_correlation:.3f} of the means"
    )
    claim = f"{strip.reward} obtained follows {strip.reward} asked, rank correlation at least {RANK_CORRELATION_GOAL:g}"
    return Verdict(claim, bool(found >= RANK_CORRELATION_GOAL), evidence)


def _alignment_raised(unguided: Arm, steered: Arm) -> Verdict:
    first, second = steered.reward("alignment"), unguided.reward("alignment")
    claim = "alignment steered alone raises the alignment reward above unguided samples, intervals apart"
    return Verdict(claim, first.above(second), _against(first, second))


def _color_raised(unguided: Arm, steered: Arm) -> Verdict:
    first, second = steered.requested_color, unguided.requested_color
    claim = "alignment steered alone raises the share with the requested color above unguided samples, intervals apart"
    return Verdict(claim, first.above(second), _against(first, second))


def _single_object(miro: Arm) -> Verdict:
    found = miro.tag(Tag.SINGLE_OBJECT)
    claim = f"single-object GenEval-lab of {miro.name} at least {SINGLE_OBJECT_GOAL:g} (the goal for 30 minutes)"
    return Verdict(claim, bool(found.value >= SINGLE_OBJECT_GOAL), str(found))


def _against(first: Estimate, second: Estimate) -> str:
    return f"{first} against {second}"


def _signed(estimate: Estimate) -> str:
    return f"{estimate.value:+.3f} [{estimate.low:+.3f}, {estimate.high:+.3f}]"
